import type { TensorTree } from './autograd.js';
import { defaultDevice } from './device.js';
import type { RuntimeInt } from './op.js';
import { type Compiled, type CompileOptions, compileOn } from './program/compile.js';

/**
 * Compiles a function of tensors (or trees of tensors) into native programs: one for each combination of argument shapes
 * and dtypes, kept and replayed. The function itself runs once per combination, on placeholders, and must be pure.
 * With `ints`, it gets an extra last argument of run-time integers by name, whose values `withInts` takes.
 */
export function compile<A extends TensorTree[], R extends TensorTree>(
  fn: (...args: [...A, Readonly<Record<string, RuntimeInt>>]) => R,
  options: CompileOptions = {},
): Compiled<A, R> {
  return compileOn(defaultDevice, fn, options);
}
