/** From model files to a model on a device. */
import { openCheckpoint, openDescription } from '../../checkpoint/folder.js';
import { fileBytes } from '../../checkpoint/tensor-file.js';
import type { Device } from '../../core/device.js';
import { mismatch, SwitchyardError } from '../../core/errors.js';
import type { ComputeMode } from '../../core/format.js';
import { isQuantized } from '../../core/format.js';
import type { Tensor } from '../../core/tensor.js';
import type { Weight } from '../../core/weight.js';
import { locateModel } from '../../hub/cache.js';
import type { DecoderConfig } from '../decoder/config.js';
import { Decoder } from '../decoder/decoder.js';
import type { ParameterMap } from '../decoder/parameters.js';
import type { AnyFiles, EncoderDecoderFiles, EncoderFiles, ModelFiles } from '../family.js';
import { withDivisors } from '../gguf/rope.js';
import { MappedParameters } from '../packed/mapped.js';
import { weightsOf } from '../parts.js';
import { describeModel } from '../registry.js';
import { Encoder } from '../stacks/encoder.js';
import { EncoderDecoder } from '../stacks/encoder-decoder.js';
import type { StoredNames } from './names.js';
import { naming } from './naming.js';
import type { LoadProgress, TensorSource } from './tensor-source.js';
import { WeightLoader } from './weights.js';

export interface LoadOptions {
  device: Device;
  onProgress?: ((progress: LoadProgress) => void) | undefined;
  signal?: AbortSignal | undefined;
  /** Matrices of experts stay with the host beside a GPU. Default false. */
  expertsOnHost?: boolean | undefined;
}

export interface LoadDecoderOptions extends LoadOptions {
  contextLength: number;
}

/** Reads headers only: config, names, tensors. A name such as org/name means what was downloaded under it. */
export function openFiles(path: string): AnyFiles {
  return describeModel(openCheckpoint(locateModel(path)));
}

/** `openFiles`, where a folder with nothing but config.json will do. */
export function openDescribed(path: string): AnyFiles {
  return describeModel(openDescription(locateModel(path)));
}

/** The files of a decoder. @throws SwitchyardError ERR_UNSUPPORTED_ARCH for another kind of model */
export function openModel(path: string): ModelFiles {
  return decoderFiles(openFiles(path));
}

export function decoderFiles(files: AnyFiles): ModelFiles {
  if (files.kind === 'decoder') return files;
  throw mismatch('ERR_UNSUPPORTED_ARCH', files.checkpoint.tensors.source, `an ${files.kind}`, 'a decoder');
}

/** @param contextLength longest sequence that will run; decides scalings that depend on it */
export const loadDecoder = (
  files: ModelFiles,
  { contextLength, ...options }: LoadDecoderOptions,
): Promise<Decoder> =>
  loading(files, options, async (loader) => {
    const config = await withRopeFactors(files, loader);
    return new Decoder(config, await parametersOf(files, loader), contextLength);
  });

export const loadEncoder = (files: EncoderFiles, options: LoadOptions): Promise<Encoder> =>
  loading(files, options, async (loader) => new Encoder(files.config, await parametersOf(files, loader)));

export const loadEncoderDecoder = (
  files: EncoderDecoderFiles,
  options: LoadOptions,
): Promise<EncoderDecoder> =>
  loading(
    files,
    options,
    async (loader) => new EncoderDecoder(files.config, await parametersOf(files, loader)),
  );

/** Opens where the parameters come from; after a failure all that was loaded is freed. */
async function loading<M>(
  files: AnyFiles,
  options: LoadOptions,
  assemble: (loader: TensorSource) => Promise<M>,
): Promise<M> {
  const { tensors } = files.checkpoint;
  let loader: TensorSource | null = null;
  try {
    loader = await sourceOf(files, options);
    const model = await assemble(loader);
    loader.finish();
    return model;
  } catch (error) {
    loader?.release();
    const { signal } = options;
    if (!signal?.aborted) throw naming(tensors.source, error);
    throw new SwitchyardError('ERR_ABORTED', `[${tensors.source}] got an abort, expected to load`, {
      cause: signal.reason,
    });
  }
}

async function sourceOf(
  { checkpoint, names, parts }: AnyFiles,
  { device, onProgress, signal, expertsOnHost = false }: LoadOptions,
): Promise<TensorSource> {
  const onHost = new Set(
    parts
      .filter(({ role, kind }) => expertsOnHost && role === 'experts' && kind === 'matrix')
      .map(({ name }) => name),
  );
  if (checkpoint.kind === 'switchyard')
    return MappedParameters.open(checkpoint, device, onProgress, signal, onHost);
  let total = 0;
  for (const entry of checkpoint.tensors) total += fileBytes(entry);
  return new WeightLoader(
    device,
    checkpoint.tensors,
    names as StoredNames,
    total,
    onProgress,
    signal,
    onHost,
  );
}

async function parametersOf(files: AnyFiles, loader: TensorSource): Promise<ParameterMap> {
  const parameters = new Map<string, Weight | Tensor>();
  for (const part of files.parts)
    parameters.set(part.name, await (part.kind === 'matrix' ? loader.matrix(part) : loader.vector(part)));
  refuseUnused(files, loader);
  return parameters;
}

/** GGUF files keep the divisors of rotary frequencies as tensors. */
async function withRopeFactors(
  { config, checkpoint }: ModelFiles,
  loader: TensorSource,
): Promise<DecoderConfig> {
  if (!(loader instanceof WeightLoader) || checkpoint.kind !== 'gguf' || config.rope === null) return config;
  const scaling = await withDivisors(config.rope, (tensor, size) => loader.values(tensor, size));
  return { ...config, rope: { ...config.rope, scaling } };
}

/** Tensors that may stand in a file without taking part: buffers that are computed, and a tied head written twice. */
const COMPUTED = /(^|\.)(rotary_emb\.inv_freq|masked_bias|h\.\d+\.attn\.bias|rope_freqs\.weight)$/;

/** The model's embedding and head once more, in layers that predict further ahead. */
const COPIED = /(^|\.)\d+\.((nextn\.)?embed_tokens|shared_head\.head|nextn\.shared_head_head)\.weight$/;

function refuseUnused({ names, config, spare }: AnyFiles, loader: TensorSource): void {
  const head = config.tiedEmbeddings
    ? names?.table.filter(({ parts }) => parts.includes('head.weight')).map(({ tensor }) => tensor)
    : [];
  const unused = loader
    .unused()
    .filter((name) => ![COMPUTED, COPIED, spare].some((known) => known?.test(name)) && !head?.includes(name));
  if (unused.length === 0) return;
  throw new SwitchyardError(
    'ERR_UNSUPPORTED',
    `[${loader.source}] got tensors that no part of the model uses: ${unused.slice(0, 5).join(', ')}${unused.length > 5 ? ` and ${unused.length - 5} more` : ''}, expected none`,
    {
      hint: 'the file may be of another family or variant than its config says',
    },
  );
}

/**
 * The way linear layers compute when the user leaves it open: int8 activations for quantised weights, else exact; on a GPU bf16
 * for narrower floats, whose products are what it is made for.
 */
export function automaticCompute(
  model: { readonly parameters: ParameterMap },
  { kind }: Pick<Device, 'kind'>,
): ComputeMode {
  const weights = weightsOf(model);
  if (weights.some((w) => isQuantized(w.format))) return 'int8';
  return kind === 'cuda' && weights.some((w) => w.format !== 'f32') ? 'bf16' : 'f32';
}
