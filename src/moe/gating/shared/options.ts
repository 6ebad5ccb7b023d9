import { checkOptions, SwitchyardError } from '../../../core/errors.js';

/** The options of a policy over its defaults; names that it does not know are refused. */
export function withDefaults<T extends object>(
  policy: string,
  given: Partial<T> | undefined,
  defaults: T,
): T {
  checkOptions(policy, given, Object.keys(defaults));
  for (const [name, value] of Object.entries(given ?? {})) {
    const kind = typeof defaults[name as keyof T];
    // An option whose default is an object or null has rules of its own.
    if (value !== undefined && kind !== 'object' && typeof value !== kind)
      throw new SwitchyardError('ERR_OPTION', `[${policy}] got ${name} ${String(value)}, expected a ${kind}`);
  }
  return { ...defaults, ...given };
}

/** Refuses options that are no number from `least` to `most`. */
export function checkRange(
  policy: string,
  options: Readonly<Record<string, number>>,
  least: number,
  most = Number.MAX_VALUE,
): void {
  for (const [name, value] of Object.entries(options))
    if (!(typeof value === 'number' && value >= least && value <= most))
      throw new SwitchyardError(
        'ERR_OPTION',
        `[${policy}] got ${name} ${value}, expected a number ${most === Number.MAX_VALUE ? `≥ ${least}` : `from ${least} to ${most}`}`,
      );
}
