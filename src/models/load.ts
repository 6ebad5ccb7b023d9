/** From model files to a decoder on a device. */
import { openCheckpoint } from '../checkpoint/folder.js';
import type { Device } from '../core/device.js';
import { SwitchyardError } from '../core/errors.js';
import type { ComputeMode } from '../core/format.js';
import { isQuantized } from '../core/format.js';
import type { Tensor } from '../core/tensor.js';
import type { Weight } from '../core/weight.js';
import { locateModel } from '../hub/cache.js';
import type { DecoderConfig } from './config.js';
import { Decoder } from './decoder.js';
import type { ModelFiles } from './family.js';
import { ROPE_FACTORS } from './gguf.js';
import { MappedParameters } from './mapped.js';
import type { StoredNames } from './names.js';
import { naming } from './naming.js';
import { weightsOf } from './parts.js';
import { describeModel } from './registry.js';
import type { LoadProgress, TensorSource } from './tensor-source.js';
import { WeightLoader } from './weights.js';

export interface LoadDecoderOptions {
  device: Device;
  /** Longest sequence that will run; decides scalings that depend on it. */
  contextLength: number;
  onProgress?: ((progress: LoadProgress) => void) | undefined;
  signal?: AbortSignal | undefined;
}

/** Reads headers only: config, names, tensors. A name such as org/name means what was downloaded under it. */
export function openModel(path: string): ModelFiles {
  return describeModel(openCheckpoint(locateModel(path)));
}

export async function loadDecoder(files: ModelFiles, options: LoadDecoderOptions): Promise<Decoder> {
  const { device, contextLength, onProgress, signal } = options;
  const { tensors } = files.checkpoint;
  let loader: TensorSource | null = null;
  try {
    loader = await sourceOf(files, device, onProgress, signal);
    const decoder = await assemble(files, loader, contextLength);
    loader.finish();
    return decoder;
  } catch (error) {
    loader?.release();
    if (!signal?.aborted) throw naming(tensors.source, error);
    throw new SwitchyardError('ERR_ABORTED', `[${tensors.source}] got an abort, expected to load`, {
      cause: signal.reason,
    });
  }
}

async function sourceOf(
  { checkpoint, names }: ModelFiles,
  device: Device,
  onProgress: LoadDecoderOptions['onProgress'],
  signal: AbortSignal | undefined,
): Promise<TensorSource> {
  if (checkpoint.kind === 'switchyard') return MappedParameters.open(checkpoint, device, onProgress, signal);
  let total = 0;
  for (const entry of checkpoint.tensors) total += entry.bytes;
  return new WeightLoader(device, checkpoint.tensors, names as StoredNames, total, onProgress, signal);
}

async function assemble(files: ModelFiles, loader: TensorSource, contextLength: number): Promise<Decoder> {
  const config = await withRopeFactors(files, loader);
  const parameters = new Map<string, Weight | Tensor>();
  for (const part of files.parts)
    parameters.set(part.name, await (part.kind === 'matrix' ? loader.matrix(part) : loader.vector(part)));
  refuseUnused(files, loader);
  return new Decoder(config, parameters, contextLength);
}

/** GGUF files keep the divisors of rotary frequencies as a tensor. */
async function withRopeFactors({ config }: ModelFiles, loader: TensorSource): Promise<DecoderConfig> {
  const { rope } = config;
  if (!(loader instanceof WeightLoader) || rope?.scaling.type !== 'factors') return config;
  const factors = Array.from(await loader.values(ROPE_FACTORS, rope.dim / 2));
  return { ...config, rope: { ...rope, scaling: { type: 'factors', factors } } };
}

/** Tensors that may stand in a file without taking part: buffers that are computed, and a tied head written twice. */
const COMPUTED = /(^|\.)(rotary_emb\.inv_freq|masked_bias|h\.\d+\.attn\.bias|rope_freqs\.weight)$/;

function refuseUnused({ names, config }: ModelFiles, loader: TensorSource): void {
  const head = config.tiedEmbeddings
    ? names?.table.filter(({ parts }) => parts.includes('head.weight')).map(({ tensor }) => tensor)
    : [];
  const unused = loader.unused().filter((name) => !COMPUTED.test(name) && !head?.includes(name));
  if (unused.length === 0) return;
  throw new SwitchyardError(
    'ERR_UNSUPPORTED',
    `[${loader.source}] got tensors that no part of the model uses: ${unused.slice(0, 5).join(', ')}${unused.length > 5 ? ` and ${unused.length - 5} more` : ''}, expected none`,
    {
      hint: 'the file may be of another family or variant than its config says',
    },
  );
}

/** The way linear layers compute when the user leaves it open: int8 activations for quantised weights, else exact. */
export function automaticCompute(decoder: Decoder): ComputeMode {
  return weightsOf(decoder).some((w) => isQuantized(w.format)) ? 'int8' : 'f32';
}
