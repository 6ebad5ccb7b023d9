import { checkWhole, SwitchyardError } from '../../core/errors.js';
import { and, div, mod, mul, ones, xor } from '../../core/ops/elementwise.js';
import { oneHot, takeRows } from '../../core/ops/indexing.js';
import { reshape } from '../../core/ops/shape.js';
import { type Tensor, tensor } from '../../core/tensor.js';
import type { Gating } from './gating.js';
import { withDefaults } from './shared/options.js';

export interface HashOptions {
  /** The expert of each token id; null: a hash of the id. */
  table: readonly number[] | Int32Array | null;
  /** Of the hash. Default 0. */
  seed: number;
}

/** Hash routing (Roller et al. 2021): the expert of a token is fixed by its id, with weight 1. Needs `tokenIds`, no router. */
export function hash(options?: Partial<HashOptions>): Gating {
  const { table, seed } = withDefaults<HashOptions>('hash', options, { table: null, seed: 0 });
  checkWhole('hash', 'seed', seed, 0);
  return {
    name: 'hash',
    options: { table: table && Array.from(table), seed },
    outputsPerExpert: 0,
    topK: () => 1,
    route(logits, { tokenIds, nExperts }) {
      const n = logits.shape[0] as number;
      if (!tokenIds) {
        throw new SwitchyardError('ERR_OPTION', '[hash] got no token ids, expected one for each token', {
          hint: 'layer.forward(x, { tokenIds })',
        });
      }
      const chosen = table ? takeRows(lookup(table, nExperts), tokenIds) : hashed(tokenIds, seed, nExperts);
      return {
        kind: 'sparse',
        expertIds: reshape(chosen, [n, 1]),
        combineWeights: ones([n, 1]),
        probabilities: oneHot(chosen, nExperts),
      };
    },
  };
}

function lookup(table: readonly number[] | Int32Array, nExperts: number): Tensor {
  const wrong = Array.from(table).find((e) => !(Number.isInteger(e) && e >= 0 && e < nExperts));
  if (wrong !== undefined)
    throw new SwitchyardError(
      'ERR_OPTION',
      `[hash] got expert ${wrong} in the table, expected 0 to ${nExperts - 1}`,
    );
  return tensor(Int32Array.from(table));
}

/** Multiplicative hashing (Knuth, vol. 3, section 6.4): the upper bits of a product with an odd number. */
const MULTIPLIER = -1640531527; // 2³² / golden ratio, as i32

function hashed(tokenIds: Tensor, seed: number, nExperts: number): Tensor {
  const mixed = mul(xor(mul(tokenIds, MULTIPLIER), seed | 0), MULTIPLIER);
  return mod(div(and(mixed, 0x7fffffff), 1 << 12), nExperts);
}
