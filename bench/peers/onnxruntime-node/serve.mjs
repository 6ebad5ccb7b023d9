// Answers lines of JSON: {"build": …} makes a layer (null: drops it), {"forward": tokens} runs it once and gives {"ms"}.
// usage: node serve.mjs THREADS
import { createInterface } from 'node:readline';
import { layerModel, randomFloats } from './model.mjs';

const BITS = { f32: 32, int8: 8, q8_0: 8, int4_g128: 4, q4_0: 4 };
/** Rows of input, as many as on the other side: different tokens meet different experts. */
const INPUT_ROWS = 64;

const reply = (value) => console.log(JSON.stringify(value));

let ort;
try {
  ort = await import('onnxruntime-node');
} catch (error) {
  reply({ missing: error.message.split('\n')[0] });
  process.exit(0);
}
reply({ ready: true, formats: Object.keys(BITS), train: false });

const threads = Number(process.argv[2]);
let layer = null;

async function build(block) {
  await layer?.session.release();
  layer = null; // two at once may not fit
  if (block === null) return;
  const { format, ...sizes } = block;
  const { bytes, inputs } = layerModel(sizes, BITS[format]);
  const session = await ort.InferenceSession.create(bytes, {
    executionProviders: ['cpu'],
    intraOpNumThreads: threads,
    interOpNumThreads: 1,
    logSeverityLevel: 3,
  });
  const weights = Object.fromEntries(
    Object.entries(inputs).map(([name, { data, dims }]) => [name, new ort.Tensor('float32', data, dims)]),
  );
  layer = { session, weights, width: sizes.dModel, tokens: 0, turn: 0, xs: [] };
}

async function forward(tokens) {
  const { session, weights, width } = layer;
  if (layer.tokens !== tokens) {
    const count = Math.max(2, Math.floor(INPUT_ROWS / tokens));
    const all = randomFloats(count * tokens * width, 1);
    layer.tokens = tokens;
    layer.xs = Array.from({ length: count }, (_, i) => {
      const data = all.slice(i * tokens * width, (i + 1) * tokens * width);
      return new ort.Tensor('float32', data, [tokens, width]);
    });
  }
  const x = layer.xs[layer.turn++ % layer.xs.length];
  const start = performance.now();
  await session.run({ x, ...weights });
  return performance.now() - start;
}

for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line);
  if (request.build !== undefined) {
    try {
      await build(request.build);
      reply({ ready: true });
    } catch (error) {
      reply({ refused: error.message.split('\n')[0] });
    }
  } else reply({ ms: await forward(request.forward) });
}
