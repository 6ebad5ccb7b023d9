// Builds the CUDA backend to build/cuda, or with --emulated the one that needs no GPU to build/cuda-emulated.
// Usage: node scripts/build-cuda.mjs [--emulated]      (CMake 3.24, ninja or make; nvcc 13 unless emulated)
import { spawnSync } from 'node:child_process';
import { availableParallelism } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const emulated = process.argv.includes('--emulated');
const source = path.join(root, 'native/cuda');
const out = path.join(root, emulated ? 'build/cuda-emulated' : 'build/cuda');
const jobs = process.env.JOBS || availableParallelism();

cmake('-S', source, '-B', out, `-DSWITCHYARD_EMULATED=${emulated ? 'ON' : 'OFF'}`);
cmake('--build', out, '--parallel', `${jobs}`);

function cmake(...args) {
  const { error, status } = spawnSync('cmake', args, { stdio: 'inherit', cwd: root });
  if (error)
    console.error(`CUDA backend: cmake did not start (${error.message}), expected CMake 3.24 or newer`);
  if (status !== 0) process.exit(1);
}
