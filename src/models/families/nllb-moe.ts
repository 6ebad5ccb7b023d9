import type { CapacityOptions } from '../../moe/capacity.js';
import { softmaxTopK } from '../../moe/gating/index.js';
import { USUAL_MOE } from '../decoder/config.js';
import type { EncoderDecoderFamily } from '../family.js';
import type { ConfigReader } from '../read/config-reader.js';
import { named } from '../read/names.js';
import type { StackConfig } from '../stacks/stack-config.js';
import { bartNames, readBartLike } from './bart.js';

/**
 * NLLB-MoE ("No Language Left Behind", 2022, section 6.2): norms before the blocks, sinusoids, two experts for each token in
 * every n-th layer.
 */
export const nllbMoe: EncoderDecoderFamily = {
  kind: 'encoder-decoder',
  modelType: 'nllb-moe',
  fromHuggingFace(c, has) {
    const padId = c.ids('pad_token_id')[0] ?? 1;
    const base = readBartLike(c, 'nllb-moe', 'pre');
    c.only('second_expert_policy', 'all'); // the others choose by chance
    c.raw('router_ignore_padding_tokens', 'router_dtype'); // padding is routed nowhere either way
    const shared = {
      sinusoids: { offset: padId + 1 },
      finalNorm: true,
      capacity: readCapacity(c),
      sharesCapacity: true,
    } as const;
    return {
      ...base,
      embeddingScale: c.bool('scale_embedding', true) ? Math.sqrt(base.encoder.dModel) : 1,
      encoder: { ...base.encoder, ...shared, moe: readExperts(c, 'encoder', base.encoder) },
      decoder: { ...base.decoder, ...shared, moe: readExperts(c, 'decoder', base.decoder) },
      tiedEmbeddings: !has('lm_head.weight'),
    };
  },
  huggingFaceNames: () => [
    ...bartNames('cross_attention', 'ffn.fc', 'ff_layer_norm'),
    ...['encoder.', 'decoder.'].flatMap((part) => [
      ...named({ final_norm: 'layer_norm' }, part, `model.${part}`),
      ...named(EXPERTS, `${part}layers.{i}.`, `model.${part}layers.{i}.ffn.`),
    ]),
  ],
  spare: /^(model\.)?(encoder|decoder)\.embed_tokens\.weight$|embed_positions\.weights$/,
};

const EXPERTS = {
  router: 'router.classifier',
  'experts.up': 'experts.expert_{e}.fc1',
  'experts.down': 'experts.expert_{e}.fc2',
} as const;

/**
 * Places for a share of a batch's tokens; as many as tokens where it is 1, so that none is dropped. A share of 0 or less means
 * a number of places (fairseq's top-2 gate).
 */
function readCapacity(c: ConfigReader): CapacityOptions | null {
  const tokenShare = c.raw('moe_eval_capacity_token_fraction') ?? 1;
  if (typeof tokenShare !== 'number' || !Number.isFinite(tokenShare))
    throw c.fail('moe_eval_capacity_token_fraction', 'a number');
  const priority = c.bool('batch_prioritized_routing', false) ? 'probability' : 'order';
  const renormalize = !c.bool('normalize_router_prob_before_dropping', false);
  const slots = c.int('expert_capacity', 'length', 64);
  if (tokenShare >= 1) return null;
  return { ...(tokenShare > 0 ? { tokenShare } : { slots }), priority, renormalize };
}

function readExperts(
  c: ConfigReader,
  part: 'encoder' | 'decoder',
  { nLayers, dFf }: StackConfig,
): StackConfig['moe'] {
  const step = c.int(`${part}_sparse_step`, 'layers', 4, 0);
  const layers = Array.from({ length: nLayers }, (_, i) => i).filter((i) => step > 0 && (i + 1) % step === 0);
  // training masks a share of the experts' outputs (section 6.2.2); otherwise all are scaled by what it kept
  const masked = c.raw('moe_token_dropout') ?? 0.2;
  if (typeof masked !== 'number' || !(masked >= 0 && masked < 1))
    throw c.fail('moe_token_dropout', 'a number from 0 to less than 1');
  const moe = {
    ...USUAL_MOE,
    nExperts: c.int('num_experts', 'experts', 128),
    topK: 2,
    dFf,
    gating: softmaxTopK({ scale: 1 - masked }),
    layers,
    bias: true,
    routerBias: c.bool('router_bias', false),
  } as const;
  return layers.length > 0 ? moe : null;
}
