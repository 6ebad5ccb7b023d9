// usage: node ended-process.mjs MODEL. Ends the process in the middle of a run, with code 0.
import { loadModel } from 'switchyard';

const model = await loadModel(process.argv[2], { contextLength: 1024, threads: 2 });
let tokens = 0;
for await (const _ of model.generate([1, 2, 3], { ignoreEos: true })) if (++tokens === 3) process.exit(0);
