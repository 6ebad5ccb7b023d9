/** The bias of each row's expert, as a product that the grouped ones know already. */
import type { Tensor } from '../tensor.js';
import { ones } from './elementwise.js';
import { reshape } from './shape.js';

/** A bias [E, N] for `rows` rows as x [R, 1] of ones and w [E, N, 1]: exact, and zero past the last row. */
export const biasProduct = (bias: Tensor, rows: number): { x: Tensor; w: Tensor } => ({
  x: ones([rows, 1]),
  w: reshape(bias, [...bias.shape, 1]),
});
