import type { NativeBuffer } from '../../src/core/addon.js';
import { gradients } from '../../src/core/autograd.js';
import { type ComputeMode, isQuantized, type WeightFormat } from '../../src/core/format.js';
import { mul } from '../../src/core/ops/elementwise.js';
import { randomNormal } from '../../src/core/ops/random.js';
import { Executable } from '../../src/core/program/compile.js';
import type { Shape } from '../../src/core/shape.js';
import { Tensor } from '../../src/core/tensor.js';
import { MoELayer } from '../../src/moe/layer.js';
import { Linear } from '../../src/nn/linear.js';
import { type Bench, defineCase } from '../harness/case.js';
import { ClockedDevice } from '../harness/kernel-clock.js';
import { interleave } from '../harness/measure.js';
import { PARTS, type PartTimes, partTimes, splitAt } from '../harness/moe-parts.js';
import { checkFormats, randomValues, randomWeight } from '../harness/random-weights.js';
import { TorchPeer } from '../harness/torch-peer.js';

interface Layer {
  readonly name: string;
  readonly dModel: number;
  readonly dFf: number;
  readonly nExperts: number;
  readonly topK: number;
}

/** Layers of published models; Mixtral's is cut to half the width and half the inner width. */
const LAYERS: readonly Layer[] = [
  { name: 'OLMoE', dModel: 2048, dFf: 1024, nExperts: 64, topK: 8 },
  { name: 'Mixtral/4', dModel: 2048, dFf: 7168, nExperts: 8, topK: 2 },
];
const SMOKE: Layer = { name: 'smoke', dModel: 256, dFf: 256, nExperts: 4, topK: 2 };
const TOKENS = [1, 8, 64, 512, 2048];
/** Rows of input that the runs of a figure go through, so that a cache does not keep the experts of one token. */
const INPUT_ROWS = 64;
/** From so many tokens on, all that is not the experts' own products is to take this share of the layer at most. */
const MANY_TOKENS = 512;
const MOST_PERCENT = 5;
/** Seconds of a figure at most, and runs of those that take a second each: there are many, paired with their peer's. */
const SECONDS = 1;
const LONG_RUNS = 3;
const TRAINING_RUNS = 3;

/** Float formats compute as PyTorch does in them. */
const modeOf = (format: WeightFormat): ComputeMode =>
  isQuantized(format) ? 'int8' : format === 'bf16' ? 'bf16' : 'f32';

export default defineCase({
  about:
    'a sparse layer: router, plan, experts and combine apart, forward and backward, against the floor of the machine',
  words: ['moe', 'experts', 'ops', 'torch'],
  async run(bench) {
    const torch = await TorchPeer.start(bench.options, bench.note);
    const clocked = new ClockedDevice({ threads: bench.options.threads });
    const formats = checkFormats(bench.options.formats, ['f32', 'bf16']);
    try {
      for (const layer of bench.options.smoke ? [SMOKE] : LAYERS) {
        for (const format of formats) {
          const peer = await peerOf(torch, layer, format);
          await forward(bench, clocked, layer, format, peer);
          if (format === 'f32') await training(bench, clocked, layer, peer);
        }
      }
    } finally {
      torch?.stop();
    }
    if (formats.some((f) => f !== 'f32')) bench.note('gradients are computed in f32 alone');
  },
});

/** The peer with a block of this form, or null where it has none. */
async function peerOf(
  torch: TorchPeer | null,
  { name: _, ...sizes }: Layer,
  format: WeightFormat,
): Promise<TorchPeer | null> {
  const dtype = format === 'f32' ? 'float32' : format === 'bf16' ? 'bfloat16' : null;
  if (torch === null || dtype === null) return null;
  await torch.build({ ...sizes, dtype });
  return torch;
}

async function forward(
  bench: Bench,
  clocked: ClockedDevice,
  { name, ...sizes }: Layer,
  format: WeightFormat,
  torch: TorchPeer | null,
): Promise<void> {
  const { options, device, limits, emit } = bench;
  const { dModel, dFf, nExperts, topK } = sizes;
  const experts = {
    gate: await randomWeight(device, format, dFf, dModel, nExperts),
    up: await randomWeight(device, format, dFf, dModel, nExperts),
    down: await randomWeight(device, format, dModel, dFf, nExperts),
  };
  const router = new Linear(await randomWeight(device, 'f32', nExperts, dModel));
  const layer = new MoELayer(sizes, { router, experts });
  const compute = modeOf(format);
  for (const tokens of tokensOf(bench)) {
    const x = Tensor.placeholder('f32', [tokens, dModel]);
    const outputs = [layer.forward(x, { compute }).output];
    const plain = Executable.build(device, [x], outputs);
    const traced = Executable.build(clocked, [x], outputs);
    const inputs = randomInputs(bench, tokens, dModel);
    const figure = { shape: `${name}, ${tokens} tokens`, format };
    const runs = tokens >= MANY_TOKENS ? Math.min(options.runs, LONG_RUNS) : options.runs;
    const { ours, theirs } = await inTurns(
      bench,
      runs,
      (turn) => timed(plain, [inputs[turn % inputs.length] as NativeBuffer]),
      torch && (() => torch.forward(tokens)),
    );
    // Even routing meets this many experts.
    const met = nExperts * (1 - (1 - topK / nExperts) ** tokens);
    const bytes = ((experts.gate.bytes + experts.up.bytes + experts.down.bytes) * met) / nExperts;
    const flops = 6 * tokens * topK * dModel * dFf;
    const rate = await limits.operations(compute);
    const limit = Math.max(bytes / (await limits.bandwidth()), rate ? flops / rate : 0) * 1000;
    emit({ ...figure, metric: 'forward', unit: 'ms', values: ours, limit, peer: peerValues(torch, theirs) });
    const parts: PartTimes[] = [];
    for (let turn = 0; turn < runs; turn++) {
      clocked.clear();
      await timed(traced, [inputs[turn % inputs.length] as NativeBuffer]);
      parts.push(partTimes(clocked.instructions, tokens * topK));
    }
    emitParts(bench, figure, tokens, 'forward', parts);
    for (const program of [plain, traced]) program.dispose();
    for (const b of inputs) device.addon.disposeBuffer(b);
  }
  for (const w of [experts.gate, experts.up, experts.down]) device.addon.disposeWeight(w.native);
}

/** Forward and the gradients of the input, the router and every expert, in one program. */
async function training(
  bench: Bench,
  clocked: ClockedDevice,
  { name, ...sizes }: Layer,
  torch: TorchPeer | null,
): Promise<void> {
  const { options, device, limits, emit } = bench;
  const { dModel, dFf, nExperts, topK } = sizes;
  const shapes: Shape[] = [
    [nExperts, dModel],
    [nExperts, dFf, dModel],
    [nExperts, dFf, dModel],
    [nExperts, dModel, dFf],
  ];
  const weights = shapes.map((shape) => Tensor.placeholder('f32', shape));
  const [router, gate, up, down] = weights as [Tensor, Tensor, Tensor, Tensor];
  const layer = new MoELayer(sizes, { router: new Linear(router), experts: { gate, up, down } });
  const values: NativeBuffer[] = [];
  for (const [seed, shape] of shapes.entries()) values.push(await drawn(bench, shape, seed));
  const runs = Math.min(options.runs, TRAINING_RUNS);
  for (const tokens of tokensOf(bench)) {
    const x = Tensor.placeholder('f32', [tokens, dModel]);
    const dy = Tensor.placeholder('f32', [tokens, dModel]);
    const { output } = layer.forward(x);
    const outputs = [output, ...gradients(output, [x, ...weights], dy)];
    // The clock reads between kernels, which is nothing beside runs of this length.
    const program = Executable.build(clocked, [x, dy, ...weights], outputs);
    const inputs = randomInputs(bench, tokens, dModel);
    const directions: Record<'forward' | 'backward', PartTimes[]> = { forward: [], backward: [] };
    const { ours, theirs } = await inTurns(
      bench,
      runs,
      async (turn) => {
        clocked.clear();
        const [from, upstream] = [turn, turn + 1].map((i) => inputs[i % inputs.length] as NativeBuffer);
        const time = await timed(program, [from as NativeBuffer, upstream as NativeBuffer, ...values]);
        const { forward, backward } = splitAt(program.lowering.outputs[0] as Tensor, clocked.instructions);
        directions.forward.push(partTimes(forward, tokens * topK));
        directions.backward.push(partTimes(backward, tokens * topK));
        return time;
      },
      torch && (() => torch.train(tokens)),
    );
    // Weights are read twice and their gradients written once.
    const bytes = 3 * 4 * 3 * nExperts * dFf * dModel;
    const rate = await limits.operations('f32');
    const flops = 18 * tokens * topK * dModel * dFf;
    const limit = Math.max(bytes / (await limits.bandwidth()), rate ? flops / rate : 0) * 1000;
    const peer = peerValues(torch, theirs);
    const figure = { shape: `${name}, ${tokens} tokens`, format: 'f32' };
    emit({ ...figure, metric: 'forward + backward', unit: 'ms', values: ours, limit, peer });
    const measured = directions.backward.slice(-ours.length); // without the run for warmth
    emit({
      ...figure,
      metric: 'forward, kept for backward',
      unit: 'ms',
      values: directions.forward
        .slice(-ours.length)
        .map((times) => PARTS.reduce((all, p) => all + times[p], 0)),
    });
    emitParts(bench, figure, tokens, 'backward', measured);
    program.dispose();
    for (const b of inputs) device.addon.disposeBuffer(b);
  }
  for (const b of values) device.addon.disposeBuffer(b);
}

const tokensOf = ({ options }: Bench): readonly number[] => (options.smoke ? [1, 8] : TOKENS);

const randomInputs = ({ options, device }: Bench, tokens: number, width: number): NativeBuffer[] =>
  Array.from({ length: options.smoke ? 1 : Math.max(2, Math.ceil(INPUT_ROWS / tokens)) }, (_, i) =>
    device.addon.bufferFrom(randomValues(tokens * width, 101 + 2 * i)),
  );

/** Initial weights, made where they are used: no copy passes through JavaScript. */
async function drawn({ device }: Bench, shape: Shape, seed: number): Promise<NativeBuffer> {
  const program = Executable.build(device, [], [mul(randomNormal(shape, { seed }), 0.02)]);
  const [buffer] = await program.run([]);
  program.dispose();
  return buffer as NativeBuffer;
}

/** Milliseconds of one run. */
async function timed(program: Executable, inputs: readonly NativeBuffer[]): Promise<number> {
  const start = performance.now();
  const outputs = await program.run(inputs);
  const time = performance.now() - start;
  for (const y of outputs) program.device.addon.disposeBuffer(y);
  return time;
}

/** Both sides in turns, each told which turn it is, so that no input comes twice in a row. */
async function inTurns(
  { options }: Bench,
  runs: number,
  ours: (turn: number) => Promise<number>,
  theirs: (() => Promise<number>) | null,
): Promise<{ ours: number[]; theirs: number[] | null }> {
  let turn = 0;
  const us = (): Promise<number> => ours(turn++);
  const limits = { ...options, runs, seconds: Math.min(options.seconds, SECONDS) };
  const [a, b] = await interleave(limits, theirs ? [us, theirs] : [us]);
  return { ours: a as number[], theirs: b ?? null };
}

const peerValues = (torch: TorchPeer | null, values: number[] | null) =>
  torch && values ? { name: torch.name, values } : null;

/** Each part of some runs, and the share of what is not the experts' own products. */
function emitParts(
  { emit }: Bench,
  figure: { shape: string; format: string },
  tokens: number,
  direction: string,
  runs: readonly PartTimes[],
): void {
  for (const part of PARTS)
    emit({ ...figure, metric: `${direction} ${part}`, unit: 'ms', values: runs.map((times) => times[part]) });
  const shares = runs.map((times) => {
    const total = PARTS.reduce((sum, part) => sum + times[part], 0);
    return (100 * (total - times.experts)) / total;
  });
  const limit = tokens >= MANY_TOKENS ? MOST_PERCENT : null;
  emit({ ...figure, metric: `${direction} beside experts`, unit: '%', values: shares, limit });
}
