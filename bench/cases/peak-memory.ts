import { loadLanguageModel } from '../../src/generate/handles/load-model.js';
import { weightsOf } from '../../src/models/parts.js';
import { defineCase } from '../harness/case.js';
import { peakMemory, resetPeakMemory } from '../harness/memory.js';
import { startModelPeers } from '../harness/model-peers.js';
import { nameOf, promptOf, tinyModel } from '../harness/models.js';

/** Of loading and running, against the packed weights. */
const GOAL_SHARE = 1.15;
const PROMPT = 512;
const NEW_TOKENS = 16;
const MIB = 2 ** 20;

export default defineCase({
  about: 'most memory that a model file takes while it is loaded, reads 512 tokens and writes 16',
  words: ['model', 'memory', 'rss', 'peers'],
  // Once a process: memory that an earlier run gave back would be counted as there before.
  async run({ options, device, emit, note }) {
    const path = options.smoke ? null : options.model;
    resetPeakMemory();
    const before = process.memoryUsage.rss();
    const model =
      path === null
        ? await tinyModel(device)
        : await loadLanguageModel(path, { device, contextLength: 2048 });
    const prompt = promptOf(model, options.smoke ? 8 : PROMPT);
    await model.generate(prompt, { maxTokens: NEW_TOKENS, ignoreEos: true }).result();
    const peak = peakMemory() - before;
    const packed = weightsOf(model.decoder).reduce((sum, w) => sum + w.bytes, 0);
    await model.dispose();
    const peers: { name: string; values: number[] }[] = [];
    for (const peer of await startModelPeers(options, path, note)) {
      if (peer.peakMemory) await peer.decode(prompt, NEW_TOKENS);
      const theirs = peer.peakMemory?.();
      if (typeof theirs === 'number') peers.push({ name: peer.name, values: [theirs / MIB] });
      peer.stop();
    }
    const shape = path === null ? 'tiny' : nameOf(path);
    emit({ metric: 'packed weights', shape, unit: 'MiB', values: [packed / MIB] });
    emit({
      metric: 'peak memory',
      shape,
      unit: 'MiB',
      values: [peak / MIB],
      limit: (GOAL_SHARE * packed) / MIB,
      goal: true,
      peers,
    });
  },
});
