// Builds the CUDA backend to build/cuda. Needs CMake 3.24, ninja or make, and nvcc 13; no GPU.
import { spawnSync } from 'node:child_process';
import { availableParallelism } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const source = path.join(root, 'native/cuda');
const out = path.join(root, 'build/cuda');
const jobs = process.env.JOBS || availableParallelism();

cmake('-S', source, '-B', out);
cmake('--build', out, '--parallel', `${jobs}`);

function cmake(...args) {
  const { error, status } = spawnSync('cmake', args, { stdio: 'inherit', cwd: root });
  if (error)
    console.error(`CUDA backend: cmake did not start (${error.message}), expected CMake 3.24 or newer`);
  if (status !== 0) process.exit(1);
}
