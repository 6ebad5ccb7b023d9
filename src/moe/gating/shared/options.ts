import { checkOptions } from '../../../core/errors.js';

/** The options of a policy over its defaults; names that it does not know are refused. */
export function withDefaults<T extends object>(
  policy: string,
  given: Partial<T> | undefined,
  defaults: T,
): T {
  checkOptions(policy, given, Object.keys(defaults));
  return { ...defaults, ...given };
}
