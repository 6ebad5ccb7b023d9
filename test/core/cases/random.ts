// Random numbers.
import type { OpCase } from '../../helpers/op-case.js';
import { into } from './table.js';

export const cases: OpCase[] = [];
const one = into(cases);

for (const op of ['random_uniform', 'random_normal']) {
  const tolerance = { relative: 2e-6, ofLargest: op === 'random_normal' ? 1e-6 : 0 };
  one(op, 'odd', [], { shape: [3, 7], seed: 1, offset: 0 }, { tolerance });
  one(op, 'far', [], { shape: [9], seed: 2 ** 40 + 5, offset: 2 ** 33 }, { tolerance });
  one(op, 'many', [], { shape: [5003], seed: 7, offset: 3 }, { tolerance });
  one(op, 'none', [], { shape: [0], seed: 7, offset: 0 }, { tolerance });
}
