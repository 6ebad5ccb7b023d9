import { defaultDevice } from './device.js';
import { RuntimeInt } from './op.js';
import { type Compiled, type CompileOptions, compileOn } from './program/compile.js';

/**
 * Compiles a function of tensors (or trees of tensors) into native programs: one for each combination of argument shapes
 * and dtypes, kept and replayed. The function itself runs once per combination, on placeholders, and must be pure.
 * Run-time integers it uses (see `runtimeInt`) get their values through `withInts`.
 */
export function compile<A extends readonly unknown[], R>(
  fn: (...args: A) => R,
  options: CompileOptions = {},
): Compiled<A, R> {
  return compileOn(defaultDevice, fn, options);
}

/** A whole number that differs from run to run of one program: a seed, an offset. */
export const runtimeInt = (name: string): RuntimeInt => new RuntimeInt(name);
