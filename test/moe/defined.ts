/** Holds random layers against their definition, many in one program. */
import * as fc from 'fast-check';
import { expect } from 'vitest';
import { defaultDevice } from '../../src/core/device.js';
import { evaluate } from '../../src/core/program/compile.js';
import { Tensor, tensor } from '../../src/core/tensor.js';
import type { MoEOutput } from '../../src/moe/layer.js';
import {
  type Matrix,
  type ReferenceRouted,
  type ReferenceSparse,
  referenceLayer,
  referenceRoute,
  type Vector,
} from '../../src/moe/reference.js';
import * as losses from '../../src/moe/reference-losses.js';
import { generator } from '../helpers/random.js';
import { expectClose } from '../parity/compare.js';
import { type LayerCase, limitOf, type RandomLayer, randomLayer } from './random-layer.js';

/** Of the largest value: float32 against float64. */
export const TOLERANCE = 1e-4;
/** Choices that turn when logits move so far are too close to call. */
const CLOSE_CALL = 2e-4;
/** Cases that one program computes together. */
const BATCH = 50;

export const on = defaultDevice();
export const values = (t: Tensor): number[] => Array.from(on.read(t), Number);
export const rowsOf = (t: Tensor): number[][] => {
  const width = t.shape[t.rank - 1] as number;
  const all = values(t);
  return Array.from({ length: all.length / width }, (_, i) => all.slice(i * width, (i + 1) * width));
};
export const floats = (rows: Matrix, shape: readonly number[]): Tensor =>
  tensor(Float32Array.from(rows.flat()), shape);
const sum = (v: Vector): number => v.reduce((a, b) => a + b, 0);

/** Cases that were not compared, because float32 may choose otherwise. */
export const tally = { closeCalls: 0 };

/** What to compute for a case, and what must then hold. */
export interface Trial {
  tensors: Tensor[];
  check(): void;
}
export type Compute = (tensors: readonly Tensor[]) => Promise<unknown>;
const computed: Compute = (tensors) => evaluate(tensors, on);

/** Tries `count` drawn cases, BATCH in one program; a failure names its case. */
export async function forCases(
  count: number,
  cases: fc.Arbitrary<LayerCase>,
  build: (c: LayerCase) => Promise<Trial>,
  compute = computed,
): Promise<void> {
  const drawn = fc.sample(cases, { seed: 1, numRuns: count });
  for (let i = 0; i < count; i += BATCH) await tryAll(drawn.slice(i, i + BATCH), build, compute);
}

export async function tryAll(
  cases: readonly LayerCase[],
  build: (c: LayerCase) => Promise<Trial>,
  compute = computed,
): Promise<void> {
  const naming = async <T>(c: LayerCase, step: () => T | Promise<T>): Promise<T> => {
    try {
      return await step();
    } catch (error) {
      throw new Error(`${JSON.stringify(c)}: ${(error as Error).message}`, { cause: error });
    }
  };
  const trials: { c: LayerCase; trial: Trial }[] = [];
  for (const c of cases) trials.push({ c, trial: await naming(c, () => build(c)) });
  try {
    await compute(trials.flatMap(({ trial }) => trial.tensors));
  } catch (error) {
    for (const { c, trial } of trials) await naming(c, () => compute(trial.tensors)); // whose fault was it?
    throw error;
  }
  for (const { c, trial } of trials) await naming(c, trial.check);
}

const tensorsOf = (record: object): Tensor[] => Object.values(record).filter((t) => t instanceof Tensor);

const choices = ({ wished, routing }: ReferenceRouted): string =>
  JSON.stringify([wished, routing].map((r) => (r.kind === 'sparse' ? r.ids : null)));

/** Whether a small move of the logits changes the choice. */
export function closeCall({ c, tokens, definition }: RandomLayer): boolean {
  const before = choices(referenceRoute(tokens, definition));
  const next = generator(c.seed + 1);
  const moved = (logits: Matrix): Matrix =>
    logits.map((row) => row.map((z) => z + CLOSE_CALL * (2 * next() - 1)));
  const route = (logits: Matrix) => definition.route(moved(logits));
  for (let i = 0; i < 4; i++)
    if (choices(referenceRoute(tokens, { ...definition, route })) !== before) return true;
  return false;
}

/** What holds for every sparse plan, whatever it chose. */
function expectWellFormed({ c, layer, recipe }: RandomLayer, { plan }: MoEOutput): void {
  if (plan.kind !== 'sparse') return;
  const n = c.sequences * c.time;
  const k = layer.topK;
  const ids = rowsOf(plan.expertIds);
  const wished = rowsOf(plan.wishedIds);
  const weights = rowsOf(plan.combineWeights);
  const [offsets, rowToken] = [values(plan.expertOffsets), values(plan.rowToken)];
  const slotRow = rowsOf(plan.slotRow);
  // kept + dropped = tokens × k
  const kept = ids.flat().filter((e) => e !== -1).length;
  expect(offsets[0]).toBe(0);
  expect(offsets[c.nExperts], 'kept choices').toBe(kept);
  expect(ids.flat()).toHaveLength(n * k);
  // rows lie by expert, within an expert by token, and every kept choice has its own
  expect(rowToken.slice(kept).every((t) => t === -1)).toBe(true);
  const seen = new Set<number>();
  for (const [t, row] of ids.entries())
    for (const [place, e] of row.entries()) {
      const at = slotRow[t]?.[place] as number;
      if (e === -1) {
        expect(at).toBe(-1);
        continue;
      }
      expect(rowToken[at]).toBe(t);
      expect(at >= (offsets[e] as number) && at < (offsets[e + 1] as number)).toBe(true);
      seen.add(at);
    }
  expect(seen.size).toBe(kept);
  for (let e = 0; e < c.nExperts; e++) {
    const mine = rowToken.slice(offsets[e], offsets[e + 1]);
    expect(mine, 'tokens of an expert').toEqual([...new Set(mine)].sort((a, b) => a - b));
  }
  // no expert takes more than its places, and none with room sends a token away
  const limit = limitOf(c, k);
  if (limit)
    for (let start = 0; start < n; start += limit.group) {
      const group = ids.slice(start, start + limit.group);
      const counts = losses.choiceCounts(group, c.nExperts);
      expect(Math.max(...counts)).toBeLessThanOrEqual(limit.slots);
      if (limit.overflow !== 'next-best')
        for (const [t, row] of group.entries())
          for (const [place, e] of row.entries()) {
            const wish = wished[start + t]?.[place] as number;
            expect(e === wish || (e === -1 && counts[wish] === limit.slots), 'kept unless full').toBe(true);
          }
    }
  else expect(ids).toEqual(wished);
  // weights sum as the policy says
  const nextBest = limit?.overflow === 'next-best';
  for (const [t, row] of weights.entries()) {
    expect(row.every(Number.isFinite), `weights ${row}`).toBe(true);
    const holds = ids[t]?.some((e) => e !== -1);
    if (recipe.sum !== null && (holds || !nextBest)) expect(sum(row)).toBeCloseTo(recipe.sum, 5);
    if (c.policy === 'switch-top-1' && holds)
      expect(row[0]).toBeCloseTo(rowsOf(plan.probabilities)[t]?.[ids[t]?.[0] as number] as number, 6);
  }
}

/** Plan, output and losses are those of the definition. */
function expectDefined(random: RandomLayer, { output, plan, losses: given }: MoEOutput): void {
  const { c, tokens, definition } = random;
  const want = referenceLayer(tokens, definition);
  const close = (what: string, got: Tensor, wanted: readonly unknown[]): void =>
    expectClose(what, values(got), wanted.flat(2) as number[], { tolerance: TOLERANCE });
  if (plan.routerLogits) close('logits', plan.routerLogits, want.logits);
  const { routing } = want;
  if (plan.kind === 'sparse' && routing.kind === 'sparse') {
    const wished = want.wished as ReferenceSparse;
    expect(rowsOf(plan.wishedIds)).toEqual(wished.ids);
    expect(rowsOf(plan.expertIds)).toEqual(routing.ids);
    const kept = (m: Matrix): number[] =>
      m.flatMap((row, t) => row.filter((_, i) => routing.ids[t]?.[i] !== -1));
    expectClose('weights', kept(rowsOf(plan.combineWeights)), kept(routing.weights), {
      tolerance: TOLERANCE,
    });
    close('probabilities', plan.probabilities, routing.probabilities);
    const { probabilities, ids } = wished;
    const gates = losses.gateMatrix(ids, wished.weights, c.nExperts);
    close('balance', given.loadBalancing, [losses.switchLoss(probabilities, ids)]);
    close('expert balance', given.expertBalance, [losses.expertBalance(probabilities, ids)]);
    close('sequence balance', given.sequenceBalance, [
      losses.sequenceBalance(probabilities, ids, c.sequences),
    ]);
    const uneven = losses.cvSquared(losses.importance(gates));
    // nearly even: all rounding; NaN: nobody was chosen
    if (uneven > 1e-6) close('importance', given.importance, [uneven]);
  } else if (plan.kind === 'soft' && routing.kind === 'soft') {
    close('dispatch', plan.dispatch, routing.dispatch);
    close('combine', plan.combine, routing.combine);
  } else if (plan.kind === 'merged' && routing.kind === 'merged') {
    close('shares', plan.shares, routing.shares);
  } else expect(plan.kind).toBe(routing.kind);
  close('output', output, want.output);
}

interface Ran {
  random: RandomLayer;
  out: MoEOutput;
}

/** The layer at work, with its plan and losses. */
export async function worked(
  c: LayerCase,
  routerBias?: (outputs: number) => Vector,
): Promise<Ran & { tensors: Tensor[] }> {
  const random = await randomLayer(c, on, routerBias);
  const made = random.layer.forward(random.x, random.options);
  const tensors = [made.output, ...tensorsOf(made.plan)];
  if (made.plan.kind !== 'sparse') return { random, out: made, tensors };
  // each reading of a loss builds it anew
  const { loadBalancing, expertBalance, sequenceBalance, importance } = made.losses;
  const losses = { loadBalancing, expertBalance, sequenceBalance, importance };
  return {
    random,
    out: { ...made, losses: losses as MoEOutput['losses'] },
    tensors: [...tensors, ...Object.values(losses)],
  };
}

export const asDefined = async (c: LayerCase, routerBias?: (outputs: number) => Vector): Promise<Trial> => {
  const { tensors, ...ran } = await worked(c, routerBias);
  return { tensors, check: () => expectAsDefined(ran) };
};

export function expectAsDefined({ random, out }: Ran): void {
  const { c } = random;
  expect(out.output.shape).toEqual([c.sequences, c.time, c.dModel]);
  expectWellFormed(random, out);
  if (c.sequences * c.time === 0) return;
  if (closeCall(random)) tally.closeCalls++;
  else expectDefined(random, out);
}
