// Decode of a whole model on a GPU: milliseconds a token, and the bytes a second that its weights are read at. Lines of JSON.
// Usage: node bench/gpu/decode.mjs FOLDER [--sequences 1,16] [--dtype bf16]      (after `npm run build:ts`)
// The machine's copy bandwidth stands beside it in the figures of native/cuda/bench.
import { parseArgs } from 'node:util';
import { device, loadModel } from '../../dist/index.js';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { sequences: { type: 'string', default: '1,16' }, dtype: { type: 'string', default: 'bf16' } },
});
const NEW_TOKENS = 65;
const RUNS = 5;

const start = performance.now();
const on = device('cuda');
const model = await loadModel(positionals[0], {
  device: on,
  dtype: values.dtype,
  contextLength: 2048,
  cacheTokens: 32768,
});
console.log(JSON.stringify({ device: `${on}`, loadMs: Math.round(performance.now() - start) }));

/** Bytes of weights that a step of `sequences` tokens reads where routing is even. */
function bytesOf(sequences) {
  const { nExperts, topK } = model.config.moe;
  const met = 1 - (1 - topK / nExperts) ** sequences;
  let bytes = 0;
  for (const [name, weight] of model.decoder.parameters) {
    if (!weight.native || name.startsWith('embed')) continue;
    bytes += weight.bytes * (name.includes('.experts.') ? met : 1);
  }
  return bytes;
}

for (const sequences of values.sequences.split(',').map(Number)) {
  for (const depth of [16, 512]) {
    const prompts = Array.from({ length: sequences }, (_, s) =>
      Array.from({ length: depth }, (_, i) => 3 + ((s * 7919 + i * 104729) % 300)),
    );
    const timed = async (maxTokens) => {
      const begin = performance.now();
      await model.generateAll(prompts, { maxTokens, ignoreEos: true });
      return performance.now() - begin;
    };
    const times = [];
    for (let run = 0; run <= RUNS; run++) {
      const ms = ((await timed(NEW_TOKENS)) - (await timed(1))) / (NEW_TOKENS - 1); // without the prompts
      if (run > 0) times.push(ms);
    }
    times.sort((a, b) => a - b);
    const ms = times[RUNS >> 1];
    const rounded = (x) => Math.round(1000 * x) / 1000;
    console.log(
      JSON.stringify({
        case: 'decode',
        sequences,
        depth,
        msPerStep: rounded(ms),
        low: rounded(times[0]),
        high: rounded(times[RUNS - 1]),
        tokensPerSecond: Math.round((1000 * sequences) / ms),
        gbPerSecond: Math.round(bytesOf(sequences) / ms / 1e6),
      }),
    );
  }
}
await model.dispose();
