import type { EncoderDecoderFamily } from '../family.js';
import { ACTIVATION_KEYS } from '../read/config-reader.js';
import { layersWhere, withExperts } from './shared/t5-experts.js';
import { readT5Like, T5_SPARE, t5Names } from './t5.js';

/**
 * Switch Transformer (Fedus et al. 2021): T5 with experts in some layers, one for each token, and so many places of an expert
 * in each sequence; who finds none goes on by the residual.
 */
export const switchTransformers: EncoderDecoderFamily = {
  kind: 'encoder-decoder',
  modelType: 'switch_transformers',
  fromHuggingFace(c, has) {
    const activation = c.oneOf('dense_act_fn', ACTIVATION_KEYS, 'relu');
    c.only('feed_forward_proj', 'relu');
    c.only('is_gated_act', false);
    c.only('router_type', 'tokens_masked');
    c.raw('router_jitter_noise'); // multiplies the router's input in training only
    c.raw('router_dtype', 'add_router_probs', 'batch_prioritized_routing', 'num_selected_experts');
    // published files have them beside expert_capacity, which is what counts
    c.raw(
      'capacity_factor',
      'eval_capacity_factor',
      'min_expert_capacity',
      'moe_eval_capacity_token_fraction',
    );
    c.raw('router_ignore_padding_tokens'); // the published router looks at it nowhere
    const tied = c.bool('tie_word_embeddings', true);
    const base = readT5Like(c, 'switch_transformers', { activation, gated: false });
    const layersOf = (part: string, nLayers: number): number[] => {
      const count = c.int(`num_sparse_${part}_layers`, 'layers', 3, 0);
      const usual = count > 0 ? Math.floor(nLayers / count) : nLayers;
      const step = c.int(`${part}_sparse_step`, 'layers', usual, 0);
      return layersWhere(nLayers, (i) => step === 1 || (step > 1 && i % step === 1));
    };
    const rest = { capacity: { slots: c.int('expert_capacity', 'length', 64) }, routesPadding: true };
    return {
      ...withExperts(c, base, { gating: 'switch-top-1', topK: 1, usual: 8, layersOf }, rest),
      tiedEmbeddings: !has('lm_head.weight'),
      outputScale: tied ? base.encoder.dModel ** -0.5 : 1,
    };
  },
  huggingFaceNames: ({ encoder }) => t5Names('mlp', encoder),
  spare: T5_SPARE,
};
