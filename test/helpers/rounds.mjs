// usage: node --expose-gc rounds.mjs MODEL ROUNDS. Loads, generates and disposes again and again; prints the resident
// memory in bytes after half of the rounds (the JavaScript heap has its size by then) and at the end.
import { loadModel } from 'switchyard';

const [path, rounds] = [process.argv[2], Number(process.argv[3])];
const resident = [];
for (let round = 1; round <= rounds; round++) {
  const model = await loadModel(path, { contextLength: 64, threads: 2 });
  await model.generate([1, 2, 3], { maxTokens: 4, ignoreEos: true }).result();
  await model.dispose();
  if (round === rounds / 2 || round === rounds) {
    globalThis.gc();
    await new Promise((resolve) => setTimeout(resolve, 50));
    globalThis.gc();
    resident.push(process.memoryUsage.rss());
  }
}
console.log(JSON.stringify(resident));
