import type { Device } from '../core/device.js';
import { checkOptions, SwitchyardError } from '../core/errors.js';
import { mul } from '../core/ops/elementwise.js';
import { randomNormal } from '../core/ops/random.js';
import { evaluate } from '../core/program/compile.js';
import { Weight } from '../core/weight.js';
import type { Gating, GatingName } from '../moe/gating/index.js';
import { MoELayer } from '../moe/layer.js';
import { Attention } from '../nn/attention.js';
import { Embedding, Linear, type Matrix } from '../nn/linear.js';
import { Decoder, type DecoderLayer } from './decoder.js';
import { packValues } from './weights.js';

export interface UpcycleOptions {
  nExperts: number;
  topK: number;
  /** Default 'softmax-top-k', whose weights sum to 1: the result then equals the dense model. */
  gating?: GatingName | Gating;
  /** Seed of the routers. Default 0. */
  seed?: number;
}

/** Deviation of the routers' initial weights. */
const ROUTER_STD = 0.02;

/**
 * Sparse upcycling (Komatsuzaki et al. 2022): each feed-forward layer becomes nExperts equal experts behind a random router.
 * All weights share the dense model's packed bytes through handles of their own: either model may be disposed first.
 */
export async function upcycleDecoder(
  decoder: Decoder,
  device: Device,
  options: UpcycleOptions,
): Promise<Decoder> {
  checkOptions('upcycle', options, ['nExperts', 'topK', 'gating', 'seed']);
  const { nExperts, topK, gating = 'softmax-top-k', seed = 0 } = options;
  const { config } = decoder;
  if (config.moe)
    throw new SwitchyardError(
      'ERR_OPTION',
      `[upcycle] got a model with ${config.moe.nExperts} experts, expected a dense one`,
    );
  if (config.feedForwardBias)
    throw new SwitchyardError(
      'ERR_UNSUPPORTED',
      '[upcycle] got feed-forward layers with biases, expected none',
    );
  const share = (m: Matrix, experts: number): Weight => {
    if (!(m instanceof Weight))
      throw new SwitchyardError('ERR_OPTION', '[upcycle] got ordinary tensors, expected packed weights');
    return new Weight(
      device.addon.repeatWeight(m.native, experts),
      m.format,
      experts,
      m.rows,
      m.columns,
      m.bytes,
    );
  };
  const layers: DecoderLayer[] = [];
  for (const [index, layer] of decoder.parts.layers.entries()) {
    const { feedForward } = layer;
    if (feedForward instanceof MoELayer || !feedForward.gate)
      throw new SwitchyardError(
        'ERR_UNSUPPORTED',
        `[upcycle] got layer ${index} without a gated feed-forward, expected one`,
      );
    const size = nExperts * config.dModel;
    const draw = mul(randomNormal([size], { seed, offset: index * size }), ROUTER_STD);
    await evaluate([draw], device);
    const router = await packValues(device, device.read(draw) as Float32Array, nExperts, config.dModel);
    const experts = {
      gate: share(feedForward.gate.weight, nExperts),
      up: share(feedForward.up.weight, nExperts),
      down: share(feedForward.down.weight, nExperts),
    };
    const moe = new MoELayer(
      { dModel: config.dModel, dFf: config.dFf, nExperts, topK, gating, activation: config.activation },
      { router: new Linear(router), experts },
    );
    const own = ({ weight, bias }: Linear): Linear => new Linear(share(weight, 1), bias);
    const { config: shape, q, k, v, o, qNorm, kNorm } = layer.attention;
    const attention = new Attention(shape, own(q), own(k), own(v), own(o), qNorm, kNorm);
    layers.push({ ...layer, attention, feedForward: moe });
  }
  const sparse = { nExperts, topK, dFf: config.dFf, gating, layers: layers.map((_, i) => i) };
  const embedding = share(decoder.parts.embedding.weight, 1);
  const head =
    decoder.parts.head.weight === decoder.parts.embedding.weight
      ? embedding
      : share(decoder.parts.head.weight, 1);
  return new Decoder(
    { ...config, moe: sparse },
    { ...decoder.parts, embedding: new Embedding(embedding), head: new Linear(head), layers },
  );
}
