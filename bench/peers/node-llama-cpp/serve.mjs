// Answers lines {prompt: ids, newTokens} with {prefillMs, decodeMs}. usage: node serve.mjs MODEL.gguf THREADS
import { createInterface } from 'node:readline';
import { getLlama } from 'node-llama-cpp';

const [modelPath, threads] = process.argv.slice(2);
const llama = await getLlama({ gpu: false, logLevel: 'error', build: 'never', progressLogs: false });
const model = await llama.loadModel({ modelPath });
const context = await model.createContext({ contextSize: 2048, batchSize: 512, threads: Number(threads) });
const sequence = context.getSequence();
console.log(JSON.stringify({ ready: true }));

for await (const line of createInterface({ input: process.stdin })) {
  const { prompt, newTokens } = JSON.parse(line);
  await sequence.clearHistory();
  const start = performance.now();
  // The last id goes in with the first new token, where there is one.
  await sequence.evaluateWithoutGeneratingNewTokens(newTokens > 0 ? prompt.slice(0, -1) : prompt);
  const prefillMs = performance.now() - start;
  let decodeMs = 0;
  if (newTokens > 0) {
    let first;
    let count = 0;
    for await (const _ of sequence.evaluate(prompt.slice(-1), { temperature: 0, yieldEogToken: true })) {
      const now = performance.now();
      first ??= now;
      decodeMs = now - first;
      if (++count >= newTokens) break;
    }
    if (count < newTokens) throw new Error(`got ${count} tokens, expected ${newTokens}`);
  }
  console.log(JSON.stringify({ prefillMs, decodeMs }));
}
process.exit(0);
