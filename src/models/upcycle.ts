import { allOrNone } from '../core/all-or-none.js';
import type { Device } from '../core/device.js';
import { checkOptions, SwitchyardError } from '../core/errors.js';
import { mul } from '../core/ops/elementwise.js';
import { randomNormal } from '../core/ops/random.js';
import { evaluate } from '../core/program/compile.js';
import type { Tensor } from '../core/tensor.js';
import { Weight } from '../core/weight.js';
import type { Gating, GatingName } from '../moe/gating/index.js';
import { allLayers, USUAL_MOE } from './decoder/config.js';
import { Decoder } from './decoder/decoder.js';
import { packValues } from './read/weights.js';

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
  return allOrNone(async (keep) => {
    const kept = (weight: Weight): Weight => keep(weight, ({ native }) => device.disposeWeight(native));
    const share = (m: Weight, experts: number): Weight => {
      const native = device.addon.repeatWeight(m.native, experts);
      return kept(new Weight(native, m.format, experts, m.rows, m.columns, m.bytes));
    };
    const parameters = new Map<string, Weight | Tensor>();
    for (const [name, parameter] of decoder.parameters) {
      const expert = name.replace('.feed_forward.', '.experts.');
      const weight = parameter instanceof Weight;
      parameters.set(expert, weight ? share(parameter, expert === name ? 1 : nExperts) : parameter);
    }
    for (let i = 0; i < config.nLayers; i++) {
      const size = nExperts * config.dModel;
      const draw = mul(randomNormal([size], { seed, offset: i * size }), ROUTER_STD);
      await evaluate([draw], device);
      const values = device.read(draw) as Float32Array;
      const router = kept(await packValues(device, values, nExperts, config.dModel));
      parameters.set(`layers.${i}.router.weight`, router);
    }
    const moe = { ...USUAL_MOE, nExperts, topK, dFf: config.dFf, gating, layers: allLayers(config.nLayers) };
    return new Decoder({ ...config, moe }, parameters, decoder.contextLength);
  });
}
