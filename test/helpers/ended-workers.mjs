// usage: node ended-workers.mjs MODEL WORKERS. Ends each worker while it generates, after a random part of a token; then
// generates in the main thread, to see that all is well. Prints how many were ended.
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { loadModel } from 'switchyard';

async function generate(path, onToken, maxTokens) {
  const model = await loadModel(path, { contextLength: 1024, threads: 2 });
  const generation = model.generate([1, 2, 3], { ignoreEos: true, ...(maxTokens ? { maxTokens } : {}) });
  for await (const part of generation) onToken(part);
  await model.dispose();
}

async function endMidToken(path, delay) {
  const worker = new Worker(new URL(import.meta.url), { workerData: path });
  await new Promise((resolve, reject) => {
    worker.once('message', resolve);
    worker.once('error', reject);
    worker.once('exit', (code) => reject(new Error(`the worker ended by itself with ${code}`)));
  });
  const until = performance.now() + delay;
  while (performance.now() < until); // finer than a timer
  await worker.terminate();
}

if (isMainThread) {
  const [path, count] = [process.argv[2], Number(process.argv[3])];
  for (let i = 0; i < count; i += 2)
    await Promise.all([endMidToken(path, (i % 10) / 10), endMidToken(path, (i % 7) / 5)]);
  let tokens = 0;
  await generate(path, () => tokens++, 8);
  if (tokens !== 8) throw new Error(`${tokens} tokens after the workers`);
  console.log(count);
} else {
  await generate(workerData, () => parentPort.postMessage('token'));
}
