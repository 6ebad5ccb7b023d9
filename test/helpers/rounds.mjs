// usage: node --expose-gc rounds.mjs MODEL ROUNDS. Loads, generates and disposes again and again; prints the least resident
// memory in bytes of the third and fourth fifth of the rounds, and of the last: single readings sway by some MB.
import { loadModel } from 'switchyard';

const [path, rounds] = [process.argv[2], Number(process.argv[3])];
const resident = [];
for (let round = 1; round <= rounds; round++) {
  const model = await loadModel(path, { contextLength: 64, threads: 2 });
  await model.generate([1, 2, 3], { maxTokens: 4, ignoreEos: true }).result();
  await model.dispose();
  if (round > (2 * rounds) / 5 && round % (rounds / 20) === 0) {
    globalThis.gc();
    await new Promise((resolve) => setTimeout(resolve, 50));
    globalThis.gc();
    resident.push(process.memoryUsage.rss());
  }
}
const late = resident.splice(-4);
console.log(JSON.stringify([Math.min(...resident), Math.min(...late)]));
