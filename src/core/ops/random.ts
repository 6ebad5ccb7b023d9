/** Counter-based random numbers: Philox 4x32-10 (Salmon et al. 2011); the same (seed, offset) gives the same bits anywhere. */

import { SwitchyardError } from '../errors.js';
import { type Attr, apply1, defineOp, RuntimeInt } from '../op.js';
import { checkShape, type Shape } from '../shape.js';
import type { Tensor } from '../tensor.js';

export interface RandomOptions {
  /** A whole number, or a `RuntimeInt` given when the program runs. */
  seed: number | RuntimeInt;
  /** First element of the stream. Default 0. */
  offset?: number | RuntimeInt;
}

function random(name: string): (shape: Shape, options: RandomOptions) => Tensor {
  const op = defineOp({
    name,
    attrs: { shape: 'ints', seed: 'int', offset: 'int' },
    infer: (_inputs, attrs) => [{ dtype: 'f32', shape: attrs.shape as Shape }],
    gradient: () => [],
    lower: (node) => ({
      kernel: name,
      attrs: [
        { type: 'int', value: node.attrs.seed as Attr },
        { type: 'int', value: node.attrs.offset as Attr },
      ],
    }),
  });
  return (shape, { seed, offset = 0 }) => {
    checkShape(name, shape);
    for (const [what, value] of Object.entries({ seed, offset })) {
      if (!(value instanceof RuntimeInt) && !(Number.isSafeInteger(value) && value >= 0)) {
        throw new SwitchyardError(
          'ERR_OPTION',
          `[${name}] got ${what} ${value}, expected a whole number ≥ 0`,
        );
      }
    }
    return apply1(op, [], { shape: [...shape], seed, offset });
  };
}

/** Uniform in [0, 1). */
export const randomUniform = random('random_uniform');
/** Standard normal (Box–Muller). */
export const randomNormal = random('random_normal');
