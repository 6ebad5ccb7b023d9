/** Every reference layer and loss: results and gradients, with ordinary tensors and with packed experts. */
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { gradients } from '../../src/core/autograd.js';
import { defaultDevice } from '../../src/core/device.js';
import { evaluate } from '../../src/core/program/compile.js';
import { type Tensor, tensor } from '../../src/core/tensor.js';
import type { Weight } from '../../src/core/weight.js';
import { packValues } from '../../src/models/read/weights.js';
import { expertCapacity } from '../../src/moe/capacity.js';
import { expectClose } from './compare.js';
import { ofKind, readJson, StoredTensors } from './folders.js';
import { BUILT, type Build, type Inputs, type LayerCase } from './layer-cases.js';

interface CapacityRow {
  tokens: number;
  experts: number;
  factor: number;
  k: number;
  rounding: 'ceil' | 'floor';
  capacity: number;
}

const TOLERANCE = { results: 1e-5, gradients: 1e-4 };

describe.each(ofKind('layers'))('reference layers of $name', ({ path }) => {
  const { cases, capacity } = readJson(join(path, 'cases.json')) as {
    cases: LayerCase[];
    capacity?: { rows: CapacityRow[] };
  };
  const open = (c: LayerCase): StoredTensors => new StoredTensors(join(path, `${c.name}.safetensors`));

  it.each(cases.map((c) => [c.name, c] as const))('%s', async (name, c) => {
    const build = BUILT[name];
    if (!build) throw new Error(`no layer of ours is built for ${name}`);
    await check(c, open(c), build);
  });

  const packable = cases.filter((c) => 'in.w1' in c.tensors && c.tensors['in.w1']?.length === 3);
  it.each(packable.map((c) => [c.name, c] as const))('%s with packed experts', async (name, c) => {
    const stored = open(c);
    const experts = new Map<string, Weight>();
    for (const w of ['w1', 'w2', 'w3'].filter((w) => stored.has(`in.${w}`))) {
      const { data, shape } = stored.floats(`in.${w}`);
      const [e, rows, columns] = shape as [number, number, number];
      experts.set(w, await packValues(defaultDevice(), data, rows, columns, e));
    }
    const build = BUILT[name] as Build;
    const packed = (w: string): Weight => experts.get(w) as Weight;
    if (name === 'soft_merging') {
      expect(() => build(c, inputsOf(stored, packed))).toThrow(/got packed experts to merge/);
      return;
    }
    await checkPacked(c, stored, build, packed);
  });

  it('the table of capacities', () => {
    expect(capacity?.rows.length ?? 1).toBeGreaterThan(0);
    for (const { tokens, experts, factor, k, rounding, capacity: want } of capacity?.rows ?? []) {
      const got = expertCapacity({ tokens, nExperts: experts, factor, topK: k, rounding });
      expect({ tokens, experts, factor, k, rounding, got }).toMatchObject({ got: want });
    }
  });
});

function inputsOf(stored: StoredTensors, expert?: (name: string) => Weight): Inputs {
  const known = new Map<string, Tensor>();
  const input = (name: string): Tensor => {
    const found = known.get(name) ?? read(stored, `in.${name}`);
    known.set(name, found);
    return found;
  };
  return { tensor: input, expert: expert ?? input };
}

function read(stored: StoredTensors, name: string): Tensor {
  const { shape, data } = stored.get(name);
  return tensor(data, shape);
}

async function check(c: LayerCase, stored: StoredTensors, build: Build): Promise<void> {
  const inputs = inputsOf(stored);
  const { outputs, sortedByExpert } = build(c, inputs);
  expect(Object.keys(outputs).sort()).toEqual(
    Object.keys(c.tensors)
      .filter((t) => t.startsWith('out.'))
      .map((t) => t.slice(4))
      .sort(),
  );
  const names = Object.keys(c.tensors)
    .filter((t) => t.startsWith('grad.'))
    .map((t) => t.slice(5));
  const target = (outputs.y ?? outputs.loss) as Tensor;
  const seed = outputs.y ? read(stored, 'dy') : undefined;
  const grads = gradients(
    target,
    names.map((name) => inputs.tensor(name)),
    seed,
  );
  await evaluate([...Object.values(outputs), ...grads], defaultDevice());
  const values: Record<string, ArrayLike<number>> = {};
  for (const [name, t] of Object.entries(outputs)) values[name] = await t.data();
  if (sortedByExpert) sortByExpert(values, (outputs.experts as Tensor).shape.at(-1) as number);
  for (const [name, got] of Object.entries(values)) {
    const want = stored.get(`out.${name}`).data;
    if (want instanceof Float32Array)
      expectClose(`${c.name} ${name} layer-results`, got, want, { tolerance: TOLERANCE.results });
    else expect([...Array.from(got)], name).toEqual([...want]);
  }
  for (const [i, name] of names.entries()) {
    const got = await (grads[i] as Tensor).data();
    expectClose(`${c.name} ${name} layer-gradients`, got, stored.floats(`grad.${name}`).data, {
      tolerance: TOLERANCE.gradients,
    });
  }
}

/** The same with packed experts: the output, and the gradients that reach ordinary tensors. */
async function checkPacked(
  c: LayerCase,
  stored: StoredTensors,
  build: Build,
  packed: (name: string) => Weight,
): Promise<void> {
  const inputs = inputsOf(stored, packed);
  const y = build(c, inputs).outputs.y as Tensor;
  const names = Object.keys(c.tensors)
    .filter((t) => t.startsWith('grad.') && !/\.w[123]$/.test(t))
    .map((t) => t.slice(5));
  const wrt = names.map((name) => inputs.tensor(name));
  const grads = gradients(y, wrt, read(stored, 'dy'));
  await evaluate([y, ...grads], defaultDevice());
  const compare = async (what: string, t: Tensor, name: string, tolerance: number): Promise<void> =>
    expectClose(`${c.name} packed ${what}`, await t.data(), stored.floats(name).data, { tolerance });
  await compare('layer-results', y, 'out.y', TOLERANCE.results);
  for (const [i, name] of names.entries())
    await compare(`${name} layer-gradients`, grads[i] as Tensor, `grad.${name}`, TOLERANCE.gradients);
}

/** Sorts the experts of each token (and their weights, where there are as many) by number. */
function sortByExpert(values: Record<string, ArrayLike<number>>, k: number): void {
  const ids = Array.from(values.experts as ArrayLike<number>);
  const weights = values.weights ? Array.from(values.weights) : null;
  for (let t = 0; t < ids.length; t += k) {
    const order = Array.from({ length: k }, (_, i) => t + i).sort(
      (a, b) => (ids[a] as number) - (ids[b] as number),
    );
    const pick = (list: number[]): number[] => order.map((i) => list[i] as number);
    if (weights && t < weights.length) weights.splice(t, k, ...pick(weights));
    ids.splice(t, k, ...pick(ids));
  }
  values.experts = ids;
  if (weights) values.weights = weights;
}
