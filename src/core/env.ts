/** Every environment variable of the project, in one typed table; `docs/env.md` is written from it. */
import { availableParallelism } from 'node:os';
import { SwitchyardError } from './errors.js';
import { COMPUTE_MODES, KV_TYPES } from './format.js';

interface Variable<T> {
  readonly name: string;
  readonly about: string;
  readonly parse: (text: string | undefined) => T;
  /** Reports do not show its value. */
  readonly secret?: boolean;
}

function integer(name: string, fallback: number, min: number, max: number) {
  return (text: string | undefined): number => {
    if (text === undefined || text === '') return fallback;
    const n = Number(text);
    if (!Number.isInteger(n) || n < min || n > max) {
      throw new SwitchyardError(
        'ERR_OPTION',
        `[env] got ${name}=${text}, expected a whole number from ${min} to ${max}`,
      );
    }
    return n;
  };
}
function flag(name: string) {
  return (text: string | undefined): boolean => {
    if (text === undefined || text === '' || text === '0') return false;
    if (text === '1') return true;
    throw new SwitchyardError('ERR_OPTION', `[env] got ${name}=${text}, expected 0 or 1`);
  };
}
function deviceName(name: string) {
  return (text: string | undefined): DeviceName | undefined => {
    if (text === undefined || text === '') return undefined;
    if (!parseDeviceName(text)) {
      throw new SwitchyardError('ERR_OPTION', `[env] got ${name}=${text}, expected ${DEVICE_NAMES}`);
    }
    return text as DeviceName;
  };
}
function choice<T extends string>(name: string, allowed: readonly T[]) {
  return (text: string | undefined): T | undefined => {
    if (text === undefined || text === '') return undefined;
    if (!(allowed as readonly string[]).includes(text)) {
      throw new SwitchyardError('ERR_OPTION', `[env] got ${name}=${text}, expected ${allowed.join(', ')}`);
    }
    return text as T;
  };
}
const text = (value: string | undefined): string | undefined => (value === '' ? undefined : value);
function variable<T>(name: string, about: string, parse: (text: string | undefined) => T): Variable<T> {
  return { name, about, parse };
}

/** Names of devices: 'auto' is the first CUDA device where one works, else the CPU. */
export type DeviceName = 'auto' | 'cpu' | 'cuda' | `cuda:${number}`;
export const DEVICE_NAMES = 'auto, cpu, cuda or cuda:N';

/** Parses a name; undefined where it is none. */
export function parseDeviceName(
  name: string,
): { kind: 'auto' | 'cpu' } | { kind: 'cuda'; ordinal: number } | undefined {
  if (name === 'auto' || name === 'cpu') return { kind: name };
  const match = /^cuda(?::(\d{1,4}))?$/.exec(name);
  return match ? { kind: 'cuda', ordinal: Number(match[1] ?? 0) } : undefined;
}

/** Instruction-set tiers in ascending order on x64; neon stands alone on arm64. */
export const TIERS = ['scalar', 'avx2', 'avx512', 'avx512_vnni', 'avx512_bf16', 'amx', 'neon'] as const;
export type Tier = (typeof TIERS)[number];

export const VARIABLES = {
  isa: variable(
    'SWITCHYARD_ISA',
    `force an instruction-set tier: ${TIERS.join(', ')}; default: the best present`,
    choice('SWITCHYARD_ISA', TIERS),
  ),
  threads: variable(
    'SWITCHYARD_THREADS',
    'threads that kernels use; default: the cores this process may use',
    integer('SWITCHYARD_THREADS', availableParallelism(), 1, 1024),
  ),
  device: variable(
    'SWITCHYARD_DEVICE',
    `device of models and tensors: ${DEVICE_NAMES}; default 'cpu' for tensors and 'auto' for models`,
    deviceName('SWITCHYARD_DEVICE'),
  ),
  cudaLibrary: variable(
    'SWITCHYARD_CUDA_LIBRARY',
    'file of the CUDA backend; default: the one that `npm run build:cuda` makes',
    text,
  ),
  model: variable(
    'SWITCHYARD_MODEL',
    'the model of commands that got no --model: a GGUF file, a folder or a packed file',
    text,
  ),
  dtype: variable(
    'SWITCHYARD_DTYPE',
    `how linear layers compute in commands: auto, ${COMPUTE_MODES.join(', ')}; default auto`,
    choice('SWITCHYARD_DTYPE', ['auto', ...COMPUTE_MODES]),
  ),
  kvCache: variable(
    'SWITCHYARD_KV_CACHE',
    `how the cache stores keys and values in commands: auto, ${KV_TYPES.join(', ')}; default auto`,
    choice('SWITCHYARD_KV_CACHE', ['auto', ...KV_TYPES]),
  ),
  context: variable(
    'SWITCHYARD_CONTEXT',
    'longest sequence in tokens in commands; default: what the model was made for, at most 4096',
    integer('SWITCHYARD_CONTEXT', 0, 1, 2 ** 31 - 1),
  ),
  packedCache: variable(
    'SWITCHYARD_PACKED_CACHE',
    'folder for packed files: the first load of a model writes one, later loads map it; default: none',
    text,
  ),
  hubEndpoint: variable('HF_ENDPOINT', 'address of the hub of `pull`; default https://huggingface.co', text),
  hubToken: {
    ...variable('HF_TOKEN', 'token of the account that `pull` downloads as; default: none', text),
    secret: true,
  },
  hubHome: variable(
    'HF_HOME',
    'folder of what the Hugging Face libraries keep; default ~/.cache/huggingface',
    text,
  ),
  hubCache: variable(
    'HF_HUB_CACHE',
    'folder of downloaded models, the same as that of transformers; default: hub in HF_HOME',
    text,
  ),
  cacheHome: variable('XDG_CACHE_HOME', 'folder of caches, where HF_HOME is not set; default ~/.cache', text),
  debug: variable(
    'SWITCHYARD_DEBUG',
    '1: device, tier, threads, model summary; 2: also one line per kernel; 3: also routing per layer; 4: also each graph before and after fusion',
    integer('SWITCHYARD_DEBUG', 0, 0, 4),
  ),
  trace: variable('SWITCHYARD_TRACE', 'file that gets a trace of every kernel (opens in Perfetto)', text),
  noFuse: variable(
    'SWITCHYARD_NO_FUSE',
    '1: run every fused op as its twin of small ops',
    flag('SWITCHYARD_NO_FUSE'),
  ),
  validate: variable(
    'SWITCHYARD_VALIDATE',
    '1: run every program a second time unfused on the scalar tier and compare',
    flag('SWITCHYARD_VALIDATE'),
  ),
} as const;

export type Env = { readonly [K in keyof typeof VARIABLES]: ReturnType<(typeof VARIABLES)[K]['parse']> };

/** Reads the variables now; a bad value is an error that names it. */
export function readEnv(source: NodeJS.ProcessEnv = process.env): Env {
  return Object.fromEntries(
    Object.entries(VARIABLES).map(([key, v]) => [key, v.parse(source[v.name])]),
  ) as Env;
}
