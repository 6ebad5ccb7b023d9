import type { EncoderDecoderFamily } from '../family.js';
import { layersWhere, withExperts } from './shared/t5-experts.js';
import { feedForwardOf, readT5Like, T5_SPARE, t5Names } from './t5.js';

/**
 * ST-MoE (Zoph et al. 2022), encoder-decoder: T5 1.1 with two gated experts for each token in every n-th layer. No checkpoint
 * is published in this form; config and names are Switch Transformer's where it has them.
 */
export const stMoe: EncoderDecoderFamily = {
  kind: 'encoder-decoder',
  modelType: 'st_moe',
  fromHuggingFace(c, has) {
    const tied = c.bool('tie_word_embeddings', false);
    const base = readT5Like(c, 'st_moe', feedForwardOf(c, 'gated-gelu'));
    c.raw('router_jitter_noise', 'router_dtype'); // the first multiplies the router's input in training only
    c.only('num_experts_per_tok', 2);
    const places = c.raw('expert_capacity') === undefined ? null : c.int('expert_capacity', 'length');
    const capacity = places === null ? null : { slots: places };
    const layersOf = (part: string, nLayers: number): number[] => {
      const step = c.int(`${part}_sparse_step`, 'layers', 4);
      return layersWhere(nLayers, (i) => (i + 1) % step === 0);
    };
    return {
      ...withExperts(c, base, { gating: 'st-moe-top-2', topK: 2, usual: 32, layersOf }, { capacity }),
      tiedEmbeddings: !has('lm_head.weight'),
      outputScale: tied ? base.encoder.dModel ** -0.5 : 1,
    };
  },
  huggingFaceNames: ({ encoder }) => t5Names('mlp', encoder),
  spare: T5_SPARE,
};
