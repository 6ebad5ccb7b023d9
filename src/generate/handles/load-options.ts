/** What all kinds of models are loaded with. */
import type { Checkpoint } from '../../checkpoint/folder.js';
import { type Device, device as makeDevice } from '../../core/device.js';
import { DEVICE_NAMES, type DeviceName, parseDeviceName, readEnv } from '../../core/env.js';
import { checkOptions, checkWhole, mismatch, SwitchyardError } from '../../core/errors.js';
import { COMPUTE_MODES, type ComputeMode, KV_TYPES, type KvType } from '../../core/format.js';
import type { LoadProgress } from '../../models/read/tensor-source.js';
import { loadTokenizer } from '../../models/read/tokenizer.js';
import type { Tokenizer } from '../../text/tokenizer.js';

export interface LoadModelOptions {
  /**
   * 'cuda' (or 'cuda:1', …) is a GPU; 'auto' (default) is the first GPU where one works, else the CPU; or a device made with
   * `device(…)`.
   */
  device?: DeviceName | Device;
  /**
   * How linear layers compute: 'f32' is exact (float32 activations), 'bf16' and 'int8' round the activations.
   * 'auto' (default): int8 for quantised weights, else f32; on a GPU bf16 where weights are narrower floats.
   */
  dtype?: 'auto' | ComputeMode;
  /** Threads that kernels use. Default: SWITCHYARD_THREADS, else the cores this process may use. */
  threads?: number;
  /** Longest sequence in tokens. Default: what the model was made for, at most 4096. */
  contextLength?: number;
  /** Tokens that all running sequences together may hold. Default: contextLength. */
  cacheTokens?: number;
  /**
   * How the cache stores keys and values. 'f16' and 'bf16' take half the memory of 'f32' and 'int8' about a quarter, and
   * a token after a long text is faster by as much. 'auto' (default): f32 where linear layers compute in f32, so that
   * nothing is rounded; else f16.
   */
  kvCache?: 'auto' | KvType;
  /**
   * Folder for packed files: the first load of a model writes one, later loads map it and take milliseconds. A model whose
   * files changed is written anew. Decoders only. Default: SWITCHYARD_PACKED_CACHE, else none.
   */
  packedCache?: string;
  /**
   * Experts split between the memory of a GPU and that of the host, for decoders larger than the GPU: see ExpertsOption.
   * Default: all experts lie on the GPU. ERR_OPTION where there is no GPU, for other kinds of models and for those without
   * sparse layers.
   */
  experts?: ExpertsOption;
  signal?: AbortSignal;
  onProgress?: (progress: LoadProgress) => void;
}

export const LOAD_OPTIONS = [
  'device',
  'dtype',
  'threads',
  'contextLength',
  'cacheTokens',
  'kvCache',
  'packedCache',
  'experts',
  'signal',
  'onProgress',
];

/**
 * All experts are loaded to the host, and some of each layer to the GPU as well: tokens that choose those are computed there, all
 * others on the CPU. Which experts these are changes results by rounding only (docs/moe.md).
 */
export interface ExpertsOption {
  /**
   * Experts of each layer on the GPU: the first ones, in the first 256 steps (a step is a token of each running text, or a chunk
   * of a prompt) those that are chosen most; then they stay. 'auto' (default): as many as the GPU's free memory takes after all
   * other weights and the cache, with a sixteenth of its memory to spare.
   */
  gpu?: number | 'auto';
  /**
   * MiB of all layers together for experts that come and go with use. Beside a number for `gpu` they come on top (default: none);
   * with 'auto' they are a part of it (default: all).
   */
  cacheMiB?: number;
}

/** The wishes where they can be met, else an error. */
export function checkExperts(
  { experts }: LoadModelOptions,
  device: Device,
  moe: object | null | undefined,
): { gpu: number | 'auto'; cacheBytes: number | null } | null {
  if (experts === undefined) return null;
  if (typeof experts !== 'object' || experts === null)
    throw mismatch('ERR_OPTION', 'loadModel', `experts ${experts}`, '{ gpu, cacheMiB }');
  checkOptions('loadModel experts', experts, ['gpu', 'cacheMiB']);
  const { gpu = 'auto', cacheMiB = null } = experts;
  if (gpu !== 'auto') checkWhole('loadModel experts', 'gpu', gpu, 0);
  if (cacheMiB !== null && !(Number.isFinite(cacheMiB) && cacheMiB >= 0))
    throw mismatch('ERR_OPTION', 'loadModel experts', `cacheMiB ${cacheMiB}`, 'a number of at least 0');
  if (device.kind !== 'cuda')
    throw mismatch('ERR_OPTION', 'loadModel', `experts split with ${device}`, 'a GPU', {
      hint: 'without the option all experts lie in the memory of the CPU',
    });
  if (!moe)
    throw mismatch(
      'ERR_OPTION',
      'loadModel',
      'experts for a model without sparse layers',
      'a sparse decoder',
    );
  return { gpu, cacheBytes: cacheMiB === null ? null : cacheMiB * 2 ** 20 };
}

const DEFAULT_CONTEXT = 4096;

/**
 * A tokenizer, or how to make one: a packed file names the end tokens, and large vocabularies take longer to build than its
 * weights take to map.
 */
export type TokenizerSource = Tokenizer | { readonly endIds: readonly number[]; make(): Tokenizer };

export function tokenizerOf(checkpoint: Checkpoint): TokenizerSource {
  if (checkpoint.kind !== 'switchyard') return loadTokenizer(checkpoint);
  return { endIds: checkpoint.endIds, make: () => loadTokenizer(checkpoint) };
}

function checkChoice(name: string, value: string, allowed: readonly string[]): void {
  if (value === 'auto' || allowed.includes(value)) return;
  throw new SwitchyardError(
    'ERR_OPTION',
    `[loadModel] got ${name} '${value}', expected auto, ${allowed.join(', ')}`,
  );
}

export function pickDevice({
  device = readEnv().device ?? 'auto',
  threads,
  dtype = 'auto',
  kvCache = 'auto',
}: LoadModelOptions): Device {
  checkChoice('dtype', dtype, COMPUTE_MODES);
  checkChoice('kvCache', kvCache, KV_TYPES);
  if (typeof device !== 'string') return device;
  if (!parseDeviceName(device)) {
    throw new SwitchyardError('ERR_DEVICE', `[loadModel] got device '${device}', expected ${DEVICE_NAMES}`);
  }
  return makeDevice({ name: device, ...(threads === undefined ? {} : { threads }) });
}

export function checkLengths(
  { maxSeqLen, learnedPositions }: { readonly maxSeqLen: number; readonly learnedPositions: unknown },
  options: LoadModelOptions,
): { contextLength: number; cacheTokens: number } {
  const { contextLength = Math.min(maxSeqLen, DEFAULT_CONTEXT), cacheTokens = contextLength } = options;
  for (const [name, value] of Object.entries({ contextLength, cacheTokens })) {
    if (!Number.isInteger(value) || value < 1 || value > 2 ** 31 - 1)
      throw new SwitchyardError(
        'ERR_OPTION',
        `[loadModel] got ${name} ${value}, expected a whole number ≥ 1`,
      );
  }
  if (learnedPositions && contextLength > maxSeqLen)
    throw new SwitchyardError(
      'ERR_OPTION',
      `[loadModel] got contextLength ${contextLength}, expected at most the ${maxSeqLen} positions that the model has learned`,
    );
  return { contextLength, cacheTokens };
}
