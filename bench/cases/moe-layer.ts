import type { NativeBuffer } from '../../src/core/addon.js';
import type { WeightFormat } from '../../src/core/format.js';
import { Executable } from '../../src/core/program/compile.js';
import { Tensor } from '../../src/core/tensor.js';
import { MoELayer } from '../../src/moe/layer.js';
import { Linear } from '../../src/nn/linear.js';
import { type Bench, defineCase } from '../harness/case.js';
import { contest } from '../harness/contest.js';
import { expertsMet, leastTime } from '../harness/cost.js';
import { ClockedDevice } from '../harness/kernel-clock.js';
import { type LayerPeer, startLayerPeers } from '../harness/layer-peers.js';
import {
  emitParts,
  type Layer,
  layersOf,
  modeOf,
  randomInputs,
  timed,
  tokenCounts,
  withRuns,
} from '../harness/layers.js';
import { type PartTimes, partTimes } from '../harness/moe-parts.js';
import { checkFormats, randomWeight } from '../harness/random-weights.js';
import { plural } from '../harness/report.js';

const FORMATS: readonly WeightFormat[] = ['f32', 'bf16', 'int8', 'q8_0', 'int4_g128', 'q4_0'];
const RUNS = 5;

export default defineCase({
  about: 'a sparse layer: router, plan, experts and combine, against the floor of the machine',
  words: ['moe', 'experts', 'ops', 'peers'],
  async run(bench) {
    const { options, note } = bench;
    const layers = layersOf(options);
    const formats = checkFormats(options.formats, FORMATS);
    const peers = await startLayerPeers(options, note);
    const clocked = new ClockedDevice({ threads: options.threads });
    try {
      for (const layer of layers) {
        const { name: _, ...sizes } = layer;
        for (const format of formats) {
          const able: LayerPeer[] = [];
          for (const peer of peers) if (await peer.build({ ...sizes, format })) able.push(peer);
          await forward(bench, clocked, layer, format, able);
        }
      }
    } finally {
      for (const peer of peers) peer.stop();
    }
  },
});

async function forward(
  bench: Bench,
  clocked: ClockedDevice,
  { name, ...sizes }: Layer,
  format: WeightFormat,
  peers: readonly LayerPeer[],
): Promise<void> {
  const { device, limits, emit } = bench;
  const { dModel, dFf, nExperts, topK } = sizes;
  const experts = {
    gate: await randomWeight(device, format, dFf, dModel, nExperts),
    up: await randomWeight(device, format, dFf, dModel, nExperts),
    down: await randomWeight(device, format, dModel, dFf, nExperts),
  };
  const router = new Linear(await randomWeight(device, 'f32', nExperts, dModel));
  const layer = new MoELayer(sizes, { router, experts });
  const compute = modeOf(format);
  const options = withRuns(bench.options, RUNS);
  for (const tokens of tokenCounts(options)) {
    const x = Tensor.placeholder('f32', [tokens, dModel]);
    const outputs = [layer.forward(x, { compute }).output];
    const plain = Executable.build(device, [x], outputs);
    const traced = Executable.build(clocked, [x], outputs);
    const inputs = randomInputs(bench, tokens, dModel);
    const at = (turn: number): NativeBuffer[] => [inputs[turn % inputs.length] as NativeBuffer];
    const figure = { shape: `${name}, ${plural(tokens, 'token')}`, format };
    const { ours, peers: theirs } = await contest(
      { ...bench, options },
      (turn) => timed(plain, at(turn)),
      peers.map((peer) => ({ name: peer.name, run: () => peer.forward(tokens) })),
      ['read', compute],
    );
    const all = experts.gate.bytes + experts.up.bytes + experts.down.bytes;
    const work = {
      bytes: (all * expertsMet(nExperts, topK, tokens)) / nExperts,
      operations: 6 * tokens * topK * dModel * dFf,
    };
    const limit = await leastTime(limits, work, compute);
    emit({ ...figure, metric: 'forward', unit: 'ms', values: ours, limit, peers: theirs });
    const parts: PartTimes[] = [];
    for (let turn = 0; turn < options.runs; turn++) {
      clocked.clear();
      await timed(traced, at(turn));
      parts.push(partTimes(clocked.instructions, tokens * topK));
    }
    emitParts(bench, figure, tokens, 'forward', parts);
    for (const program of [plain, traced]) program.dispose();
    for (const b of inputs) device.addon.disposeBuffer(b);
  }
  for (const w of [experts.gate, experts.up, experts.down]) device.addon.disposeWeight(w.native);
}
