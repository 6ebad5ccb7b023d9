import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { gradients } from '../../src/core/autograd.js';
import { defaultDevice } from '../../src/core/device.js';
import type { Activation } from '../../src/core/ops/elementwise.js';
import { mul } from '../../src/core/ops/elementwise.js';
import { topK } from '../../src/core/ops/indexing.js';
import { evaluate } from '../../src/core/program/compile.js';
import { type Tensor, tensor } from '../../src/core/tensor.js';
import { packValues } from '../../src/models/weights.js';
import type { GatingName } from '../../src/moe/gating/index.js';
import * as moe from '../../src/moe/index.js';
import { MoELayer } from '../../src/moe/layer.js';
import { loadBalancingLoss } from '../../src/moe/losses.js';
import { FeedForward } from '../../src/nn/feed-forward.js';
import { Linear } from '../../src/nn/linear.js';
import { expectClose } from './compare.js';
import { ofKind, readJson, StoredTensors } from './folders.js';
import { NOT_YET, reasonFor } from './not-yet.js';

interface LayerCase {
  name: string;
  parameters: { experts: number; width: number; inner: number; ffn: string; k?: number; alpha?: number };
  tensors: Record<string, number[]>;
}

/** Named results, and the tensors whose gradients are stored, by the name in the file. */
interface Built {
  outputs: Record<string, Tensor>;
  leaves: Record<string, Tensor>;
}
type Build = (c: LayerCase, input: (name: string) => Tensor) => Built;

const TOLERANCE = { results: 1e-5, gradients: 1e-4 };

/** The activation, and whether it gates. */
const FFN: Record<string, [Activation, boolean]> = {
  relu: ['relu', false],
  gelu: ['gelu', false],
  gelu_tanh: ['gelu_tanh', false],
  silu: ['silu', false],
  reglu: ['relu', true],
  geglu: ['gelu', true],
  geglu_tanh: ['gelu_tanh', true],
  swiglu: ['silu', true],
};

function feedForward(c: LayerCase, input: (name: string) => Tensor): Built {
  const [activation, gated] = FFN[c.parameters.ffn] as [Activation, boolean];
  const [x, w1, w2] = [input('x'), input('w1'), input('w2')];
  const w3 = gated ? input('w3') : null;
  const layer = new FeedForward(w3 ? new Linear(w1) : null, new Linear(w3 ?? w1), new Linear(w2), activation);
  return { outputs: { y: layer.forward(x) }, leaves: { x, w1, w2, ...(w3 ? { w3 } : {}) } };
}

const sparse =
  (gating: GatingName): Build =>
  (c, input) => {
    const [activation, gated] = FFN[c.parameters.ffn] as [Activation, boolean];
    const [x, wg, w1, w2] = [input('x'), input('wg'), input('w1'), input('w2')];
    const w3 = gated ? input('w3') : null;
    const { width: dModel, inner: dFf, experts: nExperts, k = 1 } = c.parameters;
    const experts = { gate: w3 ? w1 : null, up: w3 ?? w1, down: w2 };
    const layer = new MoELayer(
      { dModel, dFf, nExperts, topK: k, gating, activation },
      { router: new Linear(wg), experts },
    );
    const { output, plan } = layer.forward(x);
    return {
      outputs: {
        y: output,
        logits: plan.routerLogits,
        weights: plan.combineWeights,
        experts: plan.expertIds,
      },
      leaves: { x, wg, w1, w2, ...(w3 ? { w3 } : {}) },
    };
  };

const switchLoss: Build = (c, input) => {
  const logits = input('logits');
  const { indices } = topK(logits, c.parameters.k as number);
  const loss = mul(
    loadBalancingLoss([{ routerLogits: logits, expertIds: indices }]),
    c.parameters.alpha as number,
  );
  return { outputs: { loss }, leaves: { logits } };
};

/** What is built, by the case's name in cases.json. */
const BUILT: Record<string, Build> = {
  topk_softmax_then_topk_renorm: sparse('softmax-top-k'),
  topk_then_softmax: sparse('top-k-softmax'),
  loss_switch_top1: switchLoss,
  loss_switch_top2: switchLoss,
  ...Object.fromEntries(Object.keys(FFN).map((ffn) => [`ffn_${ffn}`, feedForward])),
};

it('no layer is both built and on the list of what is not', () => {
  expect(Object.keys(BUILT).filter((name) => reasonFor('layers', name) !== undefined)).toEqual([]);
});

describe.each(ofKind('layers'))('reference layers of $name', ({ path }) => {
  const { cases } = readJson(join(path, 'cases.json')) as { cases: LayerCase[] };

  for (const c of cases) {
    const excuse = reasonFor('layers', c.name);
    const build = BUILT[c.name];
    if (excuse !== undefined) {
      it(`${c.name}: not built yet (${excuse})`, () => expect(build).toBeUndefined());
      continue;
    }
    it(c.name, async () => {
      if (!build) throw new Error(`${c.name} is neither built nor on the list in not-yet.ts`);
      await check(c, new StoredTensors(join(path, `${c.name}.safetensors`)), build);
    });
  }

  it('a table of capacities is not built yet', () => expect(Object.keys(moe)).not.toContain('capacity'));
});

async function check(c: LayerCase, stored: StoredTensors, build: Build): Promise<void> {
  const input = (name: string): Tensor => {
    const { shape, data } = stored.floats(`in.${name}`);
    return tensor(data, shape);
  };
  const { outputs, leaves } = build(c, input);
  const target = outputs.y ?? outputs.loss;
  const names = Object.keys(leaves);
  const seed = outputs.y ? input2(stored, 'dy') : undefined;
  const grads = gradients(target as Tensor, Object.values(leaves), seed);
  await evaluate([...Object.values(outputs), ...grads], defaultDevice());
  const values: Record<string, ArrayLike<number>> = {};
  for (const [name, t] of Object.entries(outputs)) values[name] = await t.data();
  sortByExpert(values, c.parameters.k ?? 1);
  for (const [name, got] of Object.entries(values)) {
    const want = stored.get(`out.${name}`).data;
    if (want instanceof Float32Array)
      expectClose(`${c.name} ${name} layer-results`, got, want, { tolerance: TOLERANCE.results });
    else expect([...Array.from(got)]).toEqual([...want]);
  }
  for (const [i, name] of names.entries()) {
    const want = stored.floats(`grad.${name}`).data;
    const got = await (grads[i] as Tensor).data();
    expectClose(`${c.name} ${name} layer-gradients`, got, want, { tolerance: TOLERANCE.gradients });
  }
  expect(Object.keys(c.tensors).filter((t) => t.startsWith('grad.'))).toEqual(
    names.map((n) => `grad.${n}`).sort(),
  );
  await packedAgrees(c, stored);
}

const input2 = (stored: StoredTensors, name: string): Tensor => {
  const { shape, data } = stored.floats(name);
  return tensor(data, shape);
};

/** The references list the chosen experts by number, ours by falling weight. */
function sortByExpert(values: Record<string, ArrayLike<number>>, k: number): void {
  const { experts, weights } = values;
  if (!experts || !weights) return;
  const [ids, ws] = [Array.from(experts), Array.from(weights)];
  for (let t = 0; t < ids.length; t += k) {
    const order = Array.from({ length: k }, (_, i) => t + i).sort(
      (a, b) => (ids[a] as number) - (ids[b] as number),
    );
    const [row, weightsOfRow] = [
      order.map((i) => experts[i] as number),
      order.map((i) => weights[i] as number),
    ];
    for (let i = 0; i < k; i++) {
      ids[t + i] = row[i] as number;
      ws[t + i] = weightsOfRow[i] as number;
    }
  }
  values.experts = ids;
  values.weights = ws;
}

/** Sparse layers once more with packed experts: the fused kernel. */
async function packedAgrees(c: LayerCase, stored: StoredTensors): Promise<void> {
  const gating = { topk_softmax_then_topk_renorm: 'softmax-top-k', topk_then_softmax: 'top-k-softmax' }[
    c.name
  ];
  if (!gating) return;
  const device = defaultDevice();
  const [activation, gated] = FFN[c.parameters.ffn] as [Activation, boolean];
  const { width: dModel, inner: dFf, experts: nExperts, k = 1 } = c.parameters;
  const pack = (name: string, rows: number, columns: number, experts = nExperts) =>
    packValues(device, stored.floats(`in.${name}`).data, rows, columns, experts);
  const first = await pack('w1', dFf, dModel);
  const layer = new MoELayer(
    { dModel, dFf, nExperts, topK: k, gating: gating as GatingName, activation },
    {
      router: new Linear(await pack('wg', nExperts, dModel, 1)),
      experts: {
        gate: gated ? first : null,
        up: gated ? await pack('w3', dFf, dModel) : first,
        down: await pack('w2', dModel, dFf),
      },
    },
  );
  const x = input2(stored, 'in.x');
  const { output } = layer.forward(x);
  const [dx] = gradients(output, [x], input2(stored, 'dy')) as [Tensor];
  await evaluate([output, dx], device);
  expectClose(`${c.name} packed layer-results`, await output.data(), stored.floats('out.y').data, {
    tolerance: TOLERANCE.results,
  });
  expectClose(`${c.name} packed layer-gradients`, await dx.data(), stored.floats('grad.x').data, {
    tolerance: TOLERANCE.gradients,
  });
}

describe.each(ofKind('samplers'))('reference samplers of $name', ({ path }) => {
  it('not built yet', async () => {
    expect(NOT_YET.kinds.samplers).toBeTruthy();
    const { cases } = readJson(join(path, 'cases.json')) as { cases: { rules: { rule: string }[] }[] };
    expect(cases.length).toBeGreaterThan(0);
    // Each rule will be a function of logits; none is public so far.
    const { samplers } = await import('../../src/generate/sampler.js');
    expect(Object.keys(samplers).sort()).toEqual(['greedy', 'sample']);
  });
});
