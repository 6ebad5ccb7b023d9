export interface Selectable {
  readonly name: string;
  readonly words: readonly string[];
}

/**
 * The cases that any of the selectors names: by its name, else by a part of its name or one of its words. No selector: all.
 * @throws Error naming a selector that selects nothing
 */
export function selectCases<T extends Selectable>(cases: readonly T[], selectors: readonly string[]): T[] {
  if (selectors.length === 0) return [...cases];
  const matches = (c: T, selector: string): boolean => {
    const wanted = selector.toLowerCase();
    if (cases.some((other) => other.name.toLowerCase() === wanted)) return c.name.toLowerCase() === wanted;
    return c.name.toLowerCase().includes(wanted) || c.words.some((word) => word.toLowerCase() === wanted);
  };
  for (const selector of selectors) {
    if (!cases.some((c) => matches(c, selector))) {
      throw new Error(
        `[bench] got '${selector}', expected one of ${cases.map((c) => c.name).join(', ')}, a part of one, or a word of one (--list)`,
      );
    }
  }
  return cases.filter((c) => selectors.some((selector) => matches(c, selector)));
}
