/** From model files to a decoder on a device. */
import { type Checkpoint, openCheckpoint } from '../checkpoint/folder.js';
import type { Device } from '../core/device.js';
import { SwitchyardError } from '../core/errors.js';
import type { ComputeMode } from '../core/format.js';
import { isQuantized } from '../core/format.js';
import type { Weight } from '../core/weight.js';
import { MoELayer } from '../moe/layer.js';
import { Attention } from '../nn/attention.js';
import { FeedForward } from '../nn/feed-forward.js';
import { Embedding, Linear } from '../nn/linear.js';
import { RmsNorm } from '../nn/norm.js';
import { RotaryEmbedding } from '../nn/rope.js';
import type { DecoderConfig } from './config.js';
import { Decoder, type DecoderLayer, type DecoderParts } from './decoder.js';
import { type LayerNames, type ModelFiles, whole } from './family.js';
import { MappedParameters } from './mapped.js';
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

/** Reads headers only: config, names, tensors. */
export function openModel(path: string): ModelFiles {
  return describeModel(openCheckpoint(path));
}

export async function loadDecoder(files: ModelFiles, options: LoadDecoderOptions): Promise<Decoder> {
  const { device, contextLength, onProgress, signal } = options;
  const { tensors } = files.checkpoint;
  let loader: TensorSource | null = null;
  try {
    loader = await sourceOf(files.checkpoint, device, onProgress, signal);
    const decoder = await assemble(files, loader, contextLength);
    loader.finish();
    return decoder;
  } catch (error) {
    loader?.release();
    if (!signal?.aborted) throw named(error, tensors.source);
    throw new SwitchyardError('ERR_ABORTED', `[${tensors.source}] got an abort, expected to load`, {
      cause: signal.reason,
    });
  }
}

async function sourceOf(
  checkpoint: Checkpoint,
  device: Device,
  onProgress: LoadDecoderOptions['onProgress'],
  signal: AbortSignal | undefined,
): Promise<TensorSource> {
  if (checkpoint.kind === 'switchyard') return MappedParameters.open(checkpoint, device, onProgress, signal);
  let total = 0;
  for (const entry of checkpoint.tensors) total += entry.bytes;
  return new WeightLoader(device, checkpoint.tensors, total, onProgress, signal);
}

/** The error with the file in its message: layers that refuse their options do not know that a file gave them. */
function named(error: unknown, source: string): unknown {
  if (!(error instanceof SwitchyardError) || error.message.includes(source)) return error;
  const { message, hint, cause } = error;
  const code = error.code === 'ERR_OPTION' || error.code === 'ERR_SHAPE' ? 'ERR_FORMAT' : error.code;
  return new SwitchyardError(code, message.replace(/^\[/, `[${source}: `), {
    cause,
    ...(hint === undefined ? {} : { hint }),
  });
}

async function assemble(files: ModelFiles, loader: TensorSource, contextLength: number): Promise<Decoder> {
  const config = await withRopeFactors(files.config, loader);
  const { names } = files;
  const d = config.dModel;
  const matrix = (name: string, rows: number, columns: number): Promise<Weight> =>
    loader.matrix(whole(name), rows, columns);

  const embedding = await matrix(names.embedding, config.vocabSize, d);
  const layers: DecoderLayer[] = [];
  for (let i = 0; i < config.nLayers; i++) layers.push(await loadLayer(i, names.layer(i), config, loader));
  const finalNorm = new RmsNorm(await loader.vector(names.finalNorm, d), config.normEps);
  const head = config.tiedEmbeddings ? embedding : await matrix(names.head, config.vocabSize, d);
  refuseUnused(loader, config, names.head);
  const parts: DecoderParts = {
    embedding: new Embedding(embedding),
    rotary: new RotaryEmbedding(config.rope, contextLength),
    layers,
    finalNorm,
    head: new Linear(head),
  };
  return new Decoder(config, parts);
}

async function withRopeFactors(config: DecoderConfig, loader: TensorSource): Promise<DecoderConfig> {
  if (config.rope.scaling.type !== 'factors' || config.rope.scaling.factors.length > 0) return config;
  const factors = Array.from(await (await loader.vector('rope_freqs.weight', config.rope.dim / 2)).data());
  return { ...config, rope: { ...config.rope, scaling: { type: 'factors', factors } } };
}

async function loadLayer(
  index: number,
  names: LayerNames,
  config: DecoderConfig,
  loader: TensorSource,
): Promise<DecoderLayer> {
  const { dModel: d, nHeads, nKvHeads, headDim, qkNorm } = config;
  const norm = async (name: string, size = d): Promise<RmsNorm> =>
    new RmsNorm(await loader.vector(name, size), config.normEps);
  const linear = async (name: string, rows: number, columns: number, bias: boolean): Promise<Linear> =>
    new Linear(
      await loader.matrix(whole(name), rows, columns),
      bias ? await loader.vector(name.replace(/\.weight$/, '.bias'), rows) : null,
    );
  const bias = config.attentionBias;
  const attentionNorm = await norm(names.attentionNorm);
  const headNorm = async (name: string | undefined, heads: number): Promise<RmsNorm | null> => {
    if (qkNorm === null) return null;
    if (name === undefined)
      throw new SwitchyardError('ERR_FORMAT', '[load] got queries without a norm, expected its name');
    return norm(name, qkNorm === 'heads' ? heads * headDim : headDim);
  };
  const attention = new Attention(
    {
      nHeads,
      nKvHeads,
      headDim,
      ropeInterleaved: config.rope.interleaved,
      normAcross: qkNorm ?? 'head',
      clip: config.clipQkv,
    },
    await linear(names.q, nHeads * headDim, d, bias),
    await linear(names.k, nKvHeads * headDim, d, bias),
    await linear(names.v, nKvHeads * headDim, d, bias),
    await linear(names.o, d, nHeads * headDim, bias),
    await headNorm(names.qNorm, nHeads),
    await headNorm(names.kNorm, nKvHeads),
  );
  const feedForwardNorm = await norm(names.feedForwardNorm);
  const sparse = config.moe?.layers.includes(index) ?? false;
  const feedForward = sparse
    ? await loadSparse(names, config, loader)
    : await loadDense(names, config, loader);
  return { attentionNorm, attention, feedForwardNorm, feedForward };
}

async function loadDense(
  names: LayerNames,
  config: DecoderConfig,
  loader: TensorSource,
): Promise<FeedForward> {
  const { dModel: d, dFf: f } = config;
  const linear = async (source: LayerNames['gate'], rows: number, columns: number): Promise<Linear> => {
    const name = source.kind === 'whole' ? source.name.replace(/\.weight$/, '.bias') : '';
    return new Linear(
      await loader.matrix(source, rows, columns),
      config.feedForwardBias ? await loader.vector(name, rows) : null,
    );
  };
  return new FeedForward(
    await linear(names.gate, f, d),
    await linear(names.up, f, d),
    await linear(names.down, d, f),
    config.activation,
  );
}

async function loadSparse(names: LayerNames, config: DecoderConfig, loader: TensorSource): Promise<MoELayer> {
  const { dModel, activation, moe } = config;
  if (!moe || names.router === undefined)
    throw new SwitchyardError('ERR_FORMAT', '[load] got a sparse layer without a router, expected its name');
  const { nExperts, topK, dFf, gating } = moe;
  const router = new Linear(await loader.matrix(whole(names.router), nExperts, dModel));
  const experts = {
    gate: await loader.matrix(names.gate, dFf, dModel, nExperts),
    up: await loader.matrix(names.up, dFf, dModel, nExperts),
    down: await loader.matrix(names.down, dModel, dFf, nExperts),
  };
  return new MoELayer({ dModel, dFf, nExperts, topK, gating, activation }, { router, experts });
}

/** Tensors that may stand in a file without taking part: buffers that are computed, and a tied head written twice. */
const COMPUTED = /(^|\.)(rotary_emb\.inv_freq|masked_bias|rope_freqs\.weight)$/;

function refuseUnused(loader: TensorSource, config: DecoderConfig, head: string): void {
  const unused = loader
    .unused()
    .filter((name) => !COMPUTED.test(name) && !(config.tiedEmbeddings && name === head));
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

/** All packed weights, each once. */
export function weightsOf({ parts }: Decoder): Weight[] {
  const found = new Set<unknown>([parts.embedding.weight, parts.head.weight]);
  for (const { attention, feedForward } of parts.layers) {
    for (const linear of [attention.q, attention.k, attention.v, attention.o]) found.add(linear.weight);
    if (feedForward instanceof MoELayer) {
      const { router, experts } = feedForward.parameters;
      for (const w of [router?.weight, experts.gate, experts.up, experts.down]) if (w) found.add(w);
    } else {
      for (const linear of [feedForward.gate, feedForward.up, feedForward.down])
        if (linear) found.add(linear.weight);
    }
  }
  return [...found] as Weight[];
}
