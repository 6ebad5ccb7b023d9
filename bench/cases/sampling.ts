import type { NativeBuffer } from '../../src/core/addon.js';
import { CHAIN_ROW_WORDS, sample } from '../../src/core/ops/sampling.js';
import { Executable } from '../../src/core/program/compile.js';
import { Tensor } from '../../src/core/tensor.js';
import { ChainBatch, chainCapacity } from '../../src/generate/samplers/chain-batch.js';
import { type Sampler, samplers } from '../../src/generate/samplers/index.js';
import { Sampling } from '../../src/generate/steps/sampling.js';
import { type Bench, defineCase } from '../harness/case.js';
import { ClockedDevice } from '../harness/kernel-clock.js';
import { measure } from '../harness/measure.js';
import { randomValues } from '../harness/random-weights.js';
import { plural } from '../harness/report.js';

const VOCABULARY = 150_000;
const HISTORY = 400;
/** Microseconds of one row that a chain may take at most. */
const GOAL = 150;

const CHAINS: Readonly<Record<string, Sampler>> = {
  greedy: samplers.greedy(),
  temperature: samplers.temperature(0.8),
  'penalties, temperature, top-k 40, top-p, min-p': samplers.chain([
    samplers.repetitionPenalty(1.1),
    samplers.frequencyPenalty(0.1),
    samplers.presencePenalty(0.1),
    samplers.temperature(0.8),
    samplers.topK(40),
    samplers.topP(0.9),
    samplers.minP(0.05),
  ]),
  'temperature, top-p': samplers.chain([samplers.temperature(0.8), samplers.topP(0.9)]),
  'temperature, top-p, min-p': samplers.chain([
    samplers.temperature(0.8),
    samplers.topP(0.9),
    samplers.minP(0.02),
  ]),
  'temperature, min-p': samplers.chain([samplers.temperature(0.8), samplers.minP(0.05)]),
  'repetition penalty, temperature, top-p': samplers.chain([
    samplers.repetitionPenalty(1.1),
    samplers.temperature(0.8),
    samplers.topP(0.9),
  ]),
  'temperature, top-k 20,000': samplers.chain([samplers.temperature(0.8), samplers.topK(20_000)]),
  'temperature, typical': samplers.chain([samplers.temperature(0.8), samplers.typical(0.9)]),
  'temperature, eta': samplers.chain([samplers.temperature(0.8), samplers.eta(3e-4)]),
  'temperature, mirostat': samplers.chain([samplers.temperature(0.8), samplers.mirostat({ tau: 5 })]),
  'temperature, xtc': samplers.chain([
    samplers.temperature(0.8),
    samplers.xtc({ threshold: 0.05, probability: 1 }),
  ]),
  'temperature, tail-free': samplers.chain([samplers.temperature(0.8), samplers.tailFree(0.95)]),
};

/** Chains that are also run for 16 rows at once. */
const IN_BATCHES = ['penalties, temperature, top-k 40, top-p, min-p', 'temperature, top-p'];

/** Logits of a model that is sure (a few tokens hold the mass), and of one that is not (thousands do). */
const SPREADS = { sure: 3, unsure: 0.5 } as const;

export default defineCase({
  about:
    'a token from a vocabulary of 150,000 through sampler chains: the native op alone, and with its call',
  words: ['samplers', 'generate', 'ops'],
  async run(bench) {
    const clocked = new ClockedDevice({ threads: bench.options.threads });
    for (const [name, sampler] of Object.entries(CHAINS))
      for (const [kind, spread] of Object.entries(SPREADS))
        for (const rows of IN_BATCHES.includes(name) ? [1, 16] : [1])
          await choose(bench, clocked, { name, sampler, kind, spread, rows });
  },
});

interface Setting {
  readonly name: string;
  readonly sampler: Sampler;
  readonly kind: string;
  readonly spread: number;
  readonly rows: number;
}

async function choose(
  { device, options, emit }: Bench,
  clocked: ClockedDevice,
  { name, sampler, kind, spread, rows }: Setting,
): Promise<void> {
  const { addon } = device;
  const v = options.smoke ? 5003 : VOCABULARY;
  const history = Array.from({ length: HISTORY }, (_, i) => (i * 7919) % v);
  const sampling = new Sampling(sampler, history, { seed: 1 });
  const batch = new ChainBatch();
  const write = (): void => {
    batch.clear();
    for (let r = 0; r < rows; r++) sampling.write(batch);
  };
  write();
  const inputs = [
    Tensor.placeholder('f32', [rows, v]),
    Tensor.placeholder('i32', [rows, CHAIN_ROW_WORDS]),
    Tensor.placeholder('i32', [chainCapacity(batch.data.length)]),
  ] as const;
  const outputs = Object.values(sample({ logits: inputs[0], rows: inputs[1], data: inputs[2] }));
  const plain = Executable.build(device, inputs, outputs);
  const traced = Executable.build(clocked, inputs, outputs);
  const buffers = inputs.map((t) => addon.createBuffer(t.bytes));
  addon.writeBuffer(buffers[0] as NativeBuffer, normals(rows * v, spread));
  const run = async (program: Executable): Promise<void> => {
    write();
    addon.writeBuffer(buffers[1] as NativeBuffer, batch.rows);
    addon.writeBuffer(buffers[2] as NativeBuffer, batch.data);
    for (const buffer of await program.run(buffers)) addon.disposeBuffer(buffer);
  };
  const whole = await measure(options, async () => {
    const start = performance.now();
    await run(plain);
    return performance.now() - start;
  });
  const kernel: number[] = [];
  for (let i = 0; i < options.runs; i++) {
    clocked.clear();
    await run(traced);
    kernel.push((1000 * clocked.total) / rows);
  }
  const shape = `${name}, a model that is ${kind}, ${plural(rows, 'row')}`;
  emit({ metric: 'kernel of a row', shape, unit: 'µs', values: kernel, limit: GOAL, goal: true });
  emit({ metric: 'with its call', shape, unit: 'µs', values: whole.map((ms) => (1000 * ms) / rows) });
  for (const program of [plain, traced]) program.dispose();
  for (const b of buffers) addon.disposeBuffer(b);
}

/** Box and Muller on even numbers in [-1, 1). */
function normals(count: number, spread: number): Float32Array {
  const even = randomValues(2 * count);
  const unit = (i: number): number => ((even[i] as number) + 1) / 2;
  return Float32Array.from(
    { length: count },
    (_, i) =>
      spread * Math.sqrt(-2 * Math.log(1 - unit(2 * i) * 0.999999)) * Math.cos(2 * Math.PI * unit(2 * i + 1)),
  );
}
