// usage: node --import tsx peak-memory.ts MODEL. Prints {packed, peak}: bytes of packed weights, and how far the peak of
// resident memory rose above what the process had before loading.
import { readFileSync } from 'node:fs';
import { defaultDevice } from '../../src/core/device.js';
import { ones } from '../../src/core/ops/elementwise.js';
import { Executable } from '../../src/core/program/compile.js';
import { loadLanguageModel } from '../../src/generate/handles/load-model.js';

function status(field: 'VmHWM' | 'VmRSS'): number {
  const match = new RegExp(`${field}:\\s+(\\d+) kB`).exec(readFileSync('/proc/self/status', 'utf8'));
  return 1024 * Number(match?.[1]);
}

const device = defaultDevice();
await Executable.build(device, [], [ones([1])]).run([]); // threads and arena are there
const before = status('VmRSS');
const model = await loadLanguageModel(process.argv[2] as string, { contextLength: 32 });
const packed = device.addon.memoryUsage().weights;
console.log(JSON.stringify({ packed, peak: status('VmHWM') - before }));
await model.dispose();
