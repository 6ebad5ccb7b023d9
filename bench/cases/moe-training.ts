import type { NativeBuffer } from '../../src/core/addon.js';
import { gradients } from '../../src/core/autograd.js';
import { mul } from '../../src/core/ops/elementwise.js';
import { randomNormal } from '../../src/core/ops/random.js';
import { Executable } from '../../src/core/program/compile.js';
import type { Shape } from '../../src/core/shape.js';
import { Tensor } from '../../src/core/tensor.js';
import { MoELayer } from '../../src/moe/layer.js';
import { Linear } from '../../src/nn/linear.js';
import { type Bench, defineCase } from '../harness/case.js';
import { contest } from '../harness/contest.js';
import { leastTime } from '../harness/cost.js';
import { ClockedDevice } from '../harness/kernel-clock.js';
import { type LayerPeer, startLayerPeers } from '../harness/layer-peers.js';
import {
  emitParts,
  type Layer,
  layersOf,
  randomInputs,
  timed,
  tokenCounts,
  withRuns,
} from '../harness/layers.js';
import { PARTS, type PartTimes, partTimes, splitAt } from '../harness/moe-parts.js';
import { plural } from '../harness/report.js';

/** A run of many tokens takes seconds. */
const RUNS = 3;

export default defineCase({
  about: 'a sparse layer with its gradients in f32: of the input, the router and every expert',
  words: ['moe', 'experts', 'training', 'ops', 'peers'],
  async run(bench) {
    const { options, note } = bench;
    const layers = layersOf(options);
    const peers = (await startLayerPeers(options, note)).filter((peer) => {
      if (!peer.trains) peer.stop();
      return peer.trains;
    });
    const clocked = new ClockedDevice({ threads: options.threads });
    try {
      for (const layer of layers) {
        const { name: _, ...sizes } = layer;
        const able: LayerPeer[] = [];
        for (const peer of peers) if (await peer.build({ ...sizes, format: 'f32' })) able.push(peer);
        await training(bench, clocked, layer, able);
      }
    } finally {
      for (const peer of peers) peer.stop();
    }
  },
});

/** Forward and all gradients in one program. */
async function training(
  bench: Bench,
  clocked: ClockedDevice,
  { name, ...sizes }: Layer,
  peers: readonly LayerPeer[],
): Promise<void> {
  const { device, limits, emit } = bench;
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
  const options = withRuns(bench.options, RUNS);
  for (const tokens of tokenCounts(options)) {
    const x = Tensor.placeholder('f32', [tokens, dModel]);
    const dy = Tensor.placeholder('f32', [tokens, dModel]);
    const { output } = layer.forward(x);
    const outputs = [output, ...gradients(output, [x, ...weights], dy)];
    // The clock reads between kernels, which is nothing beside runs of this length.
    const program = Executable.build(clocked, [x, dy, ...weights], outputs);
    const inputs = randomInputs(bench, tokens, dModel);
    const directions: Record<'forward' | 'backward', PartTimes[]> = { forward: [], backward: [] };
    const { ours, peers: theirs } = await contest(
      { ...bench, options },
      async (turn) => {
        clocked.clear();
        const [from, upstream] = [turn, turn + 1].map((i) => inputs[i % inputs.length] as NativeBuffer);
        const time = await timed(program, [from as NativeBuffer, upstream as NativeBuffer, ...values]);
        const { forward, backward } = splitAt(program.lowering.outputs[0] as Tensor, clocked.instructions);
        directions.forward.push(partTimes(forward, tokens * topK));
        directions.backward.push(partTimes(backward, tokens * topK));
        return time;
      },
      peers.map((peer) => ({ name: peer.name, run: () => peer.train(tokens) })),
      ['read', 'f32'],
    );
    // Weights are read twice and their gradients written once.
    const work = {
      bytes: 3 * 4 * 3 * nExperts * dFf * dModel,
      operations: 18 * tokens * topK * dModel * dFf,
    };
    const limit = await leastTime(limits, work, 'f32');
    const figure = { shape: `${name}, ${plural(tokens, 'token')}`, format: 'f32' };
    emit({ ...figure, metric: 'forward + backward', unit: 'ms', values: ours, limit, peers: theirs });
    const counted = -ours.length; // without the run for warmth
    const kept = directions.forward.slice(counted).map((t) => PARTS.reduce((all, p) => all + t[p], 0));
    emit({ ...figure, metric: 'forward, kept for backward', unit: 'ms', values: kept });
    emitParts(bench, figure, tokens, 'backward', directions.backward.slice(counted));
    program.dispose();
    for (const b of inputs) device.addon.disposeBuffer(b);
  }
  for (const b of values) device.addon.disposeBuffer(b);
}

/** Initial weights, made where they are used: no copy passes through JavaScript. */
async function drawn({ device }: Bench, shape: Shape, seed: number): Promise<NativeBuffer> {
  const program = Executable.build(device, [], [mul(randomNormal(shape, { seed }), 0.02)]);
  const [buffer] = await program.run([]);
  program.dispose();
  return buffer as NativeBuffer;
}
