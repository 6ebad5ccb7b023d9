// Prints the C++ sources of the addon, sorted, one a line; binding.gyp reads them.
import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../native', import.meta.url));
// Built apart: cuda and comm are libraries loaded at run time, test holds programs of their own.
const apart = new Set(['cuda', 'comm', 'test']);

export function nativeSources() {
  return readdirSync(root, { recursive: true })
    .map((path) => path.replaceAll('\\', '/'))
    .filter((path) => path.endsWith('.cc') && !apart.has(path.split('/')[0]))
    .sort()
    .map((path) => `native/${path}`);
}

/**
 * Sources of the CUDA backend: kernels (.cu), and what stands in for the runtime and the device where it is emulated (.cc). Benches
 * are programs of their own.
 */
export function cudaSources({ emulated }) {
  return readdirSync(`${root}/cuda`, { recursive: true })
    .map((path) => path.replaceAll('\\', '/'))
    .filter(
      (path) => path.endsWith('.cu') || (emulated && path.startsWith('emulation/') && path.endsWith('.cc')),
    )
    .filter((path) => !path.startsWith('bench/'))
    .sort()
    .map((path) => `native/cuda/${path}`);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) console.log(nativeSources().join('\n'));
