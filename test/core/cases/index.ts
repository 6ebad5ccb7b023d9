/**
 * The case table of ops. Every op has cases here, in the file of its family; they drive the forward tests on every tier, the
 * gradient checks, and the comparison of the op table with the native kernels. table.test.ts fails for an op without one.
 */
import type { OpCase } from '../../helpers/op-case.js';
import { cases as assignment } from './assignment.js';
import { cases as attention } from './attention.js';
import { cases as elementwise } from './elementwise.js';
import { cases as experts } from './experts.js';
import { cases as indexing } from './indexing.js';
import { cases as matrices } from './matrices.js';
import { cases as norm } from './norm.js';
import { cases as random } from './random.js';
import { cases as reduce } from './reduce.js';
import { cases as routing } from './routing.js';
import { cases as sampling } from './sampling.js';
import { cases as shape } from './shape.js';

export const CASES: readonly OpCase[] = [
  ...elementwise,
  ...shape,
  ...reduce,
  ...indexing,
  ...matrices,
  ...norm,
  ...attention,
  ...random,
  ...sampling,
  ...routing,
  ...assignment,
  ...experts,
];

export const casesOf = (op: string): OpCase[] => CASES.filter((c) => c.op === op);
