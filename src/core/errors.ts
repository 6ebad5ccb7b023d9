/** Every stable error code; a program may switch on them. */
export type ErrorCode =
  | 'ERR_SHAPE'
  | 'ERR_DTYPE'
  | 'ERR_OPTION'
  | 'ERR_FORMAT'
  | 'ERR_UNSUPPORTED_ARCH'
  | 'ERR_UNSUPPORTED'
  | 'ERR_OUT_OF_MEMORY'
  | 'ERR_CONTEXT_LENGTH'
  | 'ERR_DISPOSED'
  | 'ERR_ABORTED'
  | 'ERR_NATIVE'
  | 'ERR_IO'
  | 'ERR_PROGRAM'
  | 'ERR_TEMPLATE'
  | 'ERR_DEVICE';

export interface ErrorDetails {
  /** One sentence that says what to do. */
  hint?: string;
  /** The error underneath; a native backtrace is only ever here. */
  cause?: unknown;
}

/** The one error class: a stable `code`, a message `[where] got …, expected …`, and often a `hint`. */
export class SwitchyardError extends Error {
  readonly code: ErrorCode;
  declare readonly hint?: string;

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.code = code;
    if (details.hint !== undefined) this.hint = details.hint;
  }

  override get name(): string {
    return this.constructor.name;
  }
}

/** Something was used after `dispose()`. */
export class DisposedError extends SwitchyardError {
  constructor(what: string) {
    super('ERR_DISPOSED', `[${what}] got a use after dispose(), expected a live ${what}`);
  }
}

/** Builds (does not throw) the error `[where] got …, expected …`. */
export function mismatch(
  code: ErrorCode,
  where: string,
  got: string,
  expected: string,
  details?: ErrorDetails,
): SwitchyardError {
  return new SwitchyardError(code, `[${where}] got ${got}, expected ${expected}`, details);
}

/** The error for a name outside `allowed`; its hint holds the nearest valid spelling, where one is near. */
export function unknownOption(where: string, got: string, allowed: readonly string[]): SwitchyardError {
  const near = nearest(got, allowed);
  const hint = near === undefined ? undefined : `did you mean '${near}'?`;
  const expected = allowed.length === 0 ? 'no options' : `one of ${allowed.join(', ')}`;
  return mismatch('ERR_OPTION', where, `'${got}'`, expected, { hint });
}

/** Throws ERR_OPTION for the first key of `options` that is not in `allowed`. `undefined` counts as no options. */
export function checkOptions(where: string, options: unknown, allowed: readonly string[]): void {
  if (options === undefined) return;
  if (typeof options !== 'object' || options === null || Array.isArray(options)) {
    const got = options === null ? 'null' : Array.isArray(options) ? 'an array' : `a ${typeof options}`;
    throw mismatch('ERR_OPTION', where, got, 'an object of options');
  }
  for (const key of Object.keys(options)) {
    if (!allowed.includes(key)) throw unknownOption(where, key, allowed);
  }
}

/** The value, or ERR_OPTION where it is no whole number of at least `least`. */
export function checkWhole(where: string, what: string, value: unknown, least: number): number {
  if (Number.isInteger(value) && (value as number) >= least) return value as number;
  throw mismatch('ERR_OPTION', where, `${what} ${String(value)}`, `a whole number ≥ ${least}`);
}

/** The valid name nearest to `got`, if at most a third of its letters (and never fewer than one) are wrong. */
function nearest(got: string, allowed: readonly string[]): string | undefined {
  // Case and separators do not count: top_k, top-k and TopK all mean topK.
  const plain = (name: string) => name.toLowerCase().replace(/[_\-\s]/g, '');
  const wanted = plain(got);
  let best: string | undefined;
  let bestDistance = Math.max(1, Math.floor(wanted.length / 3)) + 1;
  for (const name of allowed) {
    const distance = editDistance(wanted, plain(name));
    if (distance < bestDistance) [best, bestDistance] = [name, distance];
  }
  return best;
}

/** Levenshtein distance where a swap of two neighbouring letters counts as one edit. */
function editDistance(a: string, b: string): number {
  let older: number[] = [];
  let old = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1];
      row[j] = Math.min(old[j] + 1, row[j - 1] + 1, old[j - 1] + (same ? 0 : 1));
      const swapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      if (swapped) row[j] = Math.min(row[j], older[j - 2] + 1);
    }
    [older, old] = [old, row];
  }
  return old[b.length];
}
