import type { Activation } from '../../../core/ops/elementwise.js';
import { ACTIVATION_KEYS, type ConfigReader } from '../../read/config-reader.js';

/** The activation of a name that stands within the value of `key`. */
export function activationOf(c: ConfigReader, key: string, name: string): Activation {
  const found = Object.hasOwn(ACTIVATION_KEYS, name) ? ACTIVATION_KEYS[name] : undefined;
  if (found === undefined) throw c.fail(key, `one of ${Object.keys(ACTIVATION_KEYS).join(', ')}`);
  return found;
}
