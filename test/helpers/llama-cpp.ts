// llama.cpp as the peer package node-llama-cpp brings it: libraries, and the source they were built from.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../..', import.meta.url));
const packages = process.env.SWITCHYARD_LLAMA_CPP ?? join(root, 'bench/peers/node-llama-cpp/node_modules');
const bundle = join(packages, 'node-llama-cpp/llama/gitRelease.bundle');
const platform = join(packages, `@node-llama-cpp/${process.platform}-${process.arch}/bins`);

/** Says on stderr what is skipped where the peer is not installed; fails where SWITCHYARD_LLAMA_CPP names another place. */
export function hasLlamaCpp(what: string): boolean {
  if (existsSync(bundle) && existsSync(platform)) return true;
  const message = `${packages} has no node-llama-cpp`;
  if (process.env.SWITCHYARD_LLAMA_CPP !== undefined) throw new Error(message);
  console.warn(`${what}: skipped, ${message}; bench/peers/node-llama-cpp/README.md says how to install it`);
  return false;
}

export interface LlamaCpp {
  /** A checkout of what the converter and programs need. */
  readonly source: string;
  /** Values that llama.cpp computes for token ids (scripts/reference/llama_cpp.cc). */
  compute(
    gguf: string,
    command: 'logits' | 'states' | 'scores',
    ids: readonly number[],
    decoderIds?: readonly number[],
  ): Float32Array;
  /** Token ids of the texts in these files. */
  tokens(gguf: string, files: readonly string[]): number[][];
}

/** Checks out the source and builds the program into a folder of its own. */
export function openLlamaCpp(folder: string): LlamaCpp {
  mkdirSync(folder);
  const source = join(folder, 'llama.cpp');
  const program = join(folder, 'llama_cpp');
  const libraries = join(platform, readdirSync(platform)[0] as string);
  const library = (name: RegExp): string => {
    const file = readdirSync(libraries).find((each) => name.test(each));
    if (file === undefined) throw new Error(`${libraries} has no ${name}`);
    return join(libraries, file);
  };
  run('git', ['clone', '--quiet', '--no-checkout', bundle, source]);
  const wanted = ['include', 'ggml/include', 'conversion', 'gguf-py', 'convert_hf_to_gguf.py'];
  run('git', ['-C', source, 'checkout', '--quiet', 'HEAD', '--', ...wanted]);
  run(process.env.LLAMA_CXX ?? 'g++', [
    '-std=c++17',
    `-I${source}/include`,
    `-I${source}/ggml/include`,
    join(root, 'scripts/reference/llama_cpp.cc'),
    '-o',
    program,
    library(/^libllama\.(v.*\.)?so$/),
    library(/^libggml\.(v.*\.)?so$/),
    library(/^libggml-base\.so$/),
    `-Wl,-rpath,${libraries}`,
    '-Wl,--allow-shlib-undefined',
  ]);
  const out = join(folder, 'out.bin');
  return {
    source,
    compute(gguf, command, ids, decoderIds = []) {
      const behind = decoderIds.length > 0 ? ['/', ...decoderIds.map(String)] : [];
      run(program, [libraries, gguf, command, out, ...ids.map(String), ...behind]);
      return new Float32Array(new Uint8Array(readFileSync(out)).buffer);
    },
    tokens(gguf, files) {
      run(program, [libraries, gguf, 'tokens', out, ...files]);
      const lines = readFileSync(out, 'utf8').split('\n').slice(0, files.length);
      return lines.map((line) => line.split(' ').filter(Boolean).map(Number));
    },
  };
}

function run(command: string, args: readonly string[]): void {
  const { status, stderr, error } = spawnSync(command, args, { encoding: 'utf8', maxBuffer: 1 << 28 });
  if (error !== undefined) throw error;
  if (status !== 0) throw new Error(`${command} ended with ${status}:\n${stderr.slice(-2000)}`);
}
