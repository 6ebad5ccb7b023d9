import type { WeightFormat } from '../../src/core/format.js';
import { Executable } from '../../src/core/program/compile.js';
import { Tensor } from '../../src/core/tensor.js';
import { MoELayer } from '../../src/moe/layer.js';
import { Linear } from '../../src/nn/linear.js';
import { type Bench, defineCase } from '../harness/case.js';
import { measure } from '../harness/measure.js';
import { checkFormats, computeOf, randomValues, randomWeight } from '../harness/random-weights.js';

interface Shape {
  readonly name: string;
  readonly dModel: number;
  readonly dFf: number;
  readonly nExperts: number;
  readonly topK: number;
}

/** Layers of published models; Mixtral's is cut to half the width and half the inner width. */
const SHAPES: readonly Shape[] = [
  { name: 'OLMoE', dModel: 2048, dFf: 1024, nExperts: 64, topK: 8 },
  { name: 'Mixtral/4', dModel: 2048, dFf: 7168, nExperts: 8, topK: 2 },
];
const SMOKE: Shape = { name: 'smoke', dModel: 256, dFf: 256, nExperts: 4, topK: 2 };
const TOKENS = [1, 8, 64, 512];
/** Different inputs, so that different experts are met: a cache must not keep those of one token. */
const INPUTS = 32;

export default defineCase({
  about:
    'a sparse layer (router, plan, experts, combine): time against the floor of bandwidth and arithmetic',
  words: ['moe', 'experts', 'ops'],
  async run(bench) {
    for (const shape of bench.options.smoke ? [SMOKE] : SHAPES)
      for (const format of checkFormats(bench.options.formats, ['q8_0', 'q4_0', 'bf16']))
        await runShape(bench, shape, format);
  },
});

async function runShape(bench: Bench, shape: Shape, format: WeightFormat): Promise<void> {
  const { device, options } = bench;
  const { dModel, dFf, nExperts, topK } = shape;
  const experts = {
    gate: await randomWeight(device, format, dFf, dModel, nExperts),
    up: await randomWeight(device, format, dFf, dModel, nExperts),
    down: await randomWeight(device, format, dModel, dFf, nExperts),
  };
  const router = new Linear(await randomWeight(device, 'f32', nExperts, dModel));
  const layer = new MoELayer({ dModel, dFf, nExperts, topK }, { router, experts });
  for (const tokens of options.smoke ? [1, 8] : TOKENS) await runTokens(bench, layer, shape, format, tokens);
  for (const w of [experts.gate, experts.up, experts.down]) device.addon.disposeWeight(w.native);
}

async function runTokens(
  { options, device, limits, emit }: Bench,
  layer: MoELayer,
  { name, dModel, dFf, nExperts, topK }: Shape,
  format: WeightFormat,
  tokens: number,
): Promise<void> {
  const compute = computeOf(format);
  const x = Tensor.placeholder('f32', [tokens, dModel]);
  const program = Executable.build(device, [x], [layer.forward(x, { compute }).output]);
  const inputs = Array.from({ length: options.smoke ? 1 : INPUTS }, (_, i) =>
    device.addon.bufferFrom(randomValues(tokens * dModel, 101 + 2 * i)),
  );
  let turn = 0;
  const times = await measure(options, async () => {
    const input = inputs[turn++ % inputs.length];
    const start = performance.now();
    const outputs = await program.run(input ? [input] : []);
    const time = performance.now() - start;
    for (const y of outputs) device.addon.disposeBuffer(y);
    return time;
  });
  const { gate, up, down } = layer.parameters.experts as Record<'gate' | 'up' | 'down', { bytes: number }>;
  // Even routing meets this many experts.
  const met = nExperts * (1 - (1 - topK / nExperts) ** tokens);
  const bytes = ((gate.bytes + up.bytes + down.bytes) * met) / nExperts;
  const flops = 6 * tokens * topK * dModel * dFf;
  const rate = await limits.operations(compute);
  const floor = Math.max(bytes / (await limits.bandwidth()), rate ? flops / rate : 0) * 1000;
  const shape = `${name}, ${tokens} tokens`;
  emit({ metric: 'layer', shape, format, unit: 'ms', values: times, limit: floor });
  if (tokens >= 64) {
    const values = times.map((ms) => flops / ms / 1e6);
    emit({ metric: 'rate', shape, format, unit: compute === 'int8' ? 'GOP/s' : 'GFLOP/s', values });
  }
  program.dispose();
  for (const b of inputs) device.addon.disposeBuffer(b);
}
