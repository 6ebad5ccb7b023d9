import type { NativeBuffer } from '../../src/core/addon.js';
import { moeCombine } from '../../src/core/ops/combine.js';
import { moePlan, routeTopK } from '../../src/core/ops/routing.js';
import { Executable } from '../../src/core/program/compile.js';
import { Tensor } from '../../src/core/tensor.js';
import { type Bench, defineCase } from '../harness/case.js';
import { ClockedDevice } from '../harness/kernel-clock.js';
import { type Layer, layersOf, timed, tokenCounts, withRuns } from '../harness/layers.js';
import { rotationBytes } from '../harness/machine.js';
import { measure } from '../harness/measure.js';
import { type Part, type PartTimes, partTimes } from '../harness/moe-parts.js';
import { randomValues } from '../harness/random-weights.js';
import { plural } from '../harness/report.js';

const TOKENS = [1, 64, 512, 2048];
/** Tokens behind one call from JavaScript at least, so that its cost does not count. */
const TOKENS_PER_CALL = 256;
const SHOWN: readonly Part[] = ['route', 'plan', 'combine'];

export default defineCase({
  about: 'a sparse layer without its experts: choice, sort and combine, against the bandwidth',
  words: ['moe', 'routing', 'plan', 'combine', 'ops'],
  async run(bench) {
    const clocked = new ClockedDevice({ threads: bench.options.threads });
    for (const layer of layersOf(bench.options))
      for (const tokens of tokenCounts(bench.options, TOKENS)) await dispatch(bench, clocked, layer, tokens);
  },
});

async function dispatch(
  bench: Bench,
  clocked: ClockedDevice,
  { name, dModel, nExperts, topK }: Layer,
  tokens: number,
): Promise<void> {
  const { device, limits, emit } = bench;
  const { addon } = device;
  const options = withRuns(bench.options, bench.options.runs);
  const rows = tokens * topK;
  const perCall = options.smoke ? 2 : Math.max(1, Math.ceil(TOKENS_PER_CALL / tokens));
  const parts = Array.from({ length: perCall }, () => {
    const logits = Tensor.placeholder('f32', [tokens, nExperts]);
    const outputs = Tensor.placeholder('f32', [rows, dModel]); // what the experts would give
    const { expertIds, combineWeights } = routeTopK(logits, { k: topK, renormalize: true });
    const { slotRow } = moePlan(expertIds, nExperts);
    return { inputs: [logits, outputs], y: moeCombine(outputs, slotRow, combineWeights) };
  });
  const graph = [parts.flatMap(({ inputs }) => inputs), parts.map(({ y }) => y)] as const;
  const plain = Executable.build(device, ...graph);
  const traced = Executable.build(clocked, ...graph);
  const bytes = 4 * (tokens * nExperts + rows * dModel + tokens * dModel);
  // Rows rotate over more than the caches hold: they come from memory.
  const count = options.smoke ? 1 : Math.max(2, Math.ceil(rotationBytes() / (bytes * perCall)));
  const values = randomValues(rows * dModel);
  const sets: NativeBuffer[][] = Array.from({ length: count }, (_, set) =>
    parts.flatMap((_, i) => [
      addon.bufferFrom(randomValues(tokens * nExperts, 1 + set * perCall + i)),
      addon.bufferFrom(values),
    ]),
  );
  let turn = 0;
  const next = (): NativeBuffer[] => sets[turn++ % sets.length] as NativeBuffer[];
  const times = await measure(options, async () => (await timed(plain, next())) / perCall);
  const seen: PartTimes[] = [];
  for (let run = 0; run < options.runs; run++) {
    clocked.clear();
    await timed(traced, next());
    seen.push(partTimes(clocked.instructions, rows));
  }
  const shape = `${name}, ${plural(tokens, 'token')}`;
  const limit = (bytes / (await limits.bandwidth())) * 1e6;
  emit({ metric: 'dispatch', shape, unit: 'µs', values: times.map((ms) => 1000 * ms), limit });
  for (const part of SHOWN) {
    const each = seen.map((of) => (1000 * of[part]) / perCall);
    emit({ metric: `dispatch ${part}`, shape, unit: 'µs', values: each });
  }
  for (const program of [plain, traced]) program.dispose();
  for (const b of sets.flat()) addon.disposeBuffer(b);
}
