/** An AbortSignal as native code can look at it, for as long as a call runs. */
import type { Addon, NativeAbort } from './addon.js';

export async function withNativeAbort<T>(
  addon: Addon,
  signal: AbortSignal | undefined,
  run: (abort: NativeAbort) => Promise<T>,
): Promise<T> {
  signal?.throwIfAborted();
  const abort = addon.createAbort();
  const onAbort = (): void => addon.abort(abort);
  signal?.addEventListener('abort', onAbort, { once: true });
  try {
    return await run(abort);
  } finally {
    signal?.removeEventListener('abort', onAbort);
  }
}
