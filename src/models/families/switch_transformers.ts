import { USUAL_MOE } from '../decoder/config.js';
import type { EncoderDecoderFamily } from '../family.js';
import { ACTIVATION_KEYS, type ConfigReader } from '../read/config-reader.js';
import type { StackConfig } from '../stacks/stack-config.js';
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
    const capacity = { slots: c.int('expert_capacity', 'length', 64) };
    return {
      ...base,
      encoder: {
        ...base.encoder,
        moe: readExperts(c, 'encoder', base.encoder),
        capacity,
        routesPadding: true,
      },
      decoder: {
        ...base.decoder,
        moe: readExperts(c, 'decoder', base.decoder),
        capacity,
        routesPadding: true,
      },
      tiedEmbeddings: !has('lm_head.weight'),
      outputScale: tied ? base.encoder.dModel ** -0.5 : 1,
    };
  },
  huggingFaceNames: ({ encoder }) => t5Names('mlp', encoder),
  spare: T5_SPARE,
};

function readExperts(
  c: ConfigReader,
  part: 'encoder' | 'decoder',
  { nLayers, dFf }: StackConfig,
): StackConfig['moe'] {
  const count = c.int(`num_sparse_${part}_layers`, 'layers', 3, 0);
  const step = c.int(`${part}_sparse_step`, 'layers', count > 0 ? Math.floor(nLayers / count) : nLayers, 0);
  const layers = Array.from({ length: nLayers }, (_, i) => i).filter(
    (i) => step === 1 || (step > 1 && i % step === 1),
  );
  const moe = {
    ...USUAL_MOE,
    nExperts: c.int('num_experts', 'experts', 8),
    topK: 1,
    dFf,
    gating: 'switch-top-1',
    layers,
    routerBias: c.bool('router_bias', false),
  } as const;
  return layers.length > 0 ? moe : null;
}
