// Answers lines {prompts: [ids, …], newTokens} with {prefillMs, decodeMs}; several prompts are continued at a time.
// usage: node serve.mjs MODEL.gguf THREADS
import { createInterface } from 'node:readline';
import { getLlama } from 'node-llama-cpp';

const [modelPath, threads] = process.argv.slice(2);
const GREEDY = { temperature: 0, yieldEogToken: true };

const llama = await getLlama({ gpu: false, logLevel: 'error', build: 'never', progressLogs: false });
const bytesBefore = process.memoryUsage.rss();
const model = await llama.loadModel({ modelPath });
let sequences = [];
let context = null;
await useSequences(1);
console.log(JSON.stringify({ ready: true, bytesBefore }));

/** A context of `count` sequences; the last one is kept where it fits. */
async function useSequences(count) {
  if (sequences.length === count) return;
  await context?.dispose();
  const contextSize = count === 1 ? 2048 : 256;
  context = await model.createContext({
    contextSize,
    sequences: count,
    batchSize: 512,
    threads: Number(threads),
  });
  sequences = Array.from({ length: count }, () => context.getSequence());
}

/** Milliseconds in which all sequences write their new tokens, from the last one's first token on. */
async function decode(prompts, newTokens) {
  const writers = prompts.map((prompt, i) => sequences[i].evaluate(prompt.slice(-1), GREEDY));
  await Promise.all(writers.map((writer) => writer.next()));
  const start = performance.now();
  await Promise.all(
    writers.map(async (writer) => {
      for (let i = 1; i < newTokens; i++) {
        const { done } = await writer.next();
        if (done) throw new Error(`got ${i} tokens, expected ${newTokens}`);
      }
    }),
  );
  const ms = performance.now() - start;
  await Promise.all(writers.map((writer) => writer.return()));
  return ms;
}

for await (const line of createInterface({ input: process.stdin })) {
  const { prompts, newTokens } = JSON.parse(line);
  await useSequences(prompts.length);
  await Promise.all(sequences.map((sequence) => sequence.clearHistory()));
  const start = performance.now();
  // The last id goes in with the first new token, where there is one.
  const read = prompts.map((prompt) => (newTokens > 0 ? prompt.slice(0, -1) : prompt));
  await Promise.all(read.map((ids, i) => sequences[i].evaluateWithoutGeneratingNewTokens(ids)));
  const prefillMs = performance.now() - start;
  const decodeMs = newTokens > 0 ? await decode(prompts, newTokens) : 0;
  console.log(JSON.stringify({ prefillMs, decodeMs }));
}
process.exit(0);
