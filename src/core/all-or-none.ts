/** Notes what was made, and how it is freed should something later fail; returns it. */
export type Keep = <T>(made: T, free: (made: T) => void) => T;

/**
 * What `make` resolves to. Where it fails, what it kept is freed, the last thing first: native memory would otherwise wait for the
 * garbage collector.
 */
export async function allOrNone<T>(make: (keep: Keep) => Promise<T>): Promise<T> {
  const undo: (() => void)[] = [];
  try {
    return await make((made, free) => {
      undo.push(() => free(made));
      return made;
    });
  } catch (error) {
    for (const free of undo.reverse()) free();
    throw error;
  }
}
