// How long generation keeps the event loop from other work. usage: node scripts/measure-stall.mjs MODEL [THREADS]
// Prints the longest stall after warm-up while a text is generated, by a timer of our own and by perf_hooks.
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { loadModel } from 'switchyard';

const [path, threads] = [process.argv[2], process.argv[3]];
if (!path) throw new Error('usage: node scripts/measure-stall.mjs MODEL [THREADS]');
const model = await loadModel(path, {
  contextLength: 1024,
  ...(threads ? { threads: Number(threads) } : {}),
});
const prompt = 'Once upon a time, in a village by the sea,';
const generate = (maxTokens) => model.generate(prompt, { maxTokens, ignoreEos: true }).result();

/** Longest time in milliseconds between two turns of the event loop while `run` runs. */
async function longestTurn(run) {
  let longest = 0;
  let last = performance.now();
  let going = true;
  const turn = () => {
    const now = performance.now();
    longest = Math.max(longest, now - last);
    last = now;
    if (going) setImmediate(turn);
  };
  setImmediate(turn);
  const result = await run();
  going = false;
  return { longest, result };
}

await generate(16);
const delay = monitorEventLoopDelay({ resolution: 1 });
delay.enable();
const { timings } = await generate(128);
delay.disable();
const { longest } = await longestTurn(() => generate(128));
const ms = (x) => `${x.toFixed(2)} ms`;
console.log(`decode ${timings.decodeTokensPerSecond.toFixed(1)} tokens/s on ${model.device}`);
console.log(`longest turn of the event loop: ${ms(longest)}`);
console.log(`event loop delay: 99 % ${ms(delay.percentile(99) / 1e6)}, most ${ms(delay.max / 1e6)}`);
await model.dispose();
