import { allLayers, USUAL_MOE } from '../decoder/config.js';
import type { Family } from '../family.js';
import { named } from '../read/names.js';
import { llamaNames, readLlamaLike } from './llama.js';

/** Granite 3 MoE (IBM 2024): the softmax runs over the chosen experts, and four constant factors. */
export const graniteMoe: Family = {
  modelType: 'granitemoe',
  ggufArchitecture: 'granitemoe',
  ggufInterleaved: true,
  fromHuggingFace(c) {
    const base = readLlamaLike(c, 'granitemoe');
    c.only('moe_intermediate_size', base.dFf); // what GGUF files may say besides
    return {
      ...base,
      embeddingScale: c.positive('embedding_multiplier', 1),
      residualScale: c.positive('residual_multiplier', 1),
      attentionScale: c.positive('attention_multiplier', 1),
      logitScale: 1 / c.positive('logits_scaling', 1),
      moe: {
        ...USUAL_MOE,
        nExperts: c.int('num_local_experts', 'experts', 8),
        topK: c.int('num_experts_per_tok', 'experts', 2),
        dFf: base.dFf,
        gating: 'top-k-softmax',
        layers: allLayers(base.nLayers),
      },
    };
  },
  huggingFaceNames: () => [
    ...llamaNames,
    ...named({ router: 'router.layer', 'experts.down': 'output_linear' }, OURS, BLOCK),
    {
      tensor: `${BLOCK}input_linear.weight`,
      parts: [`${OURS}experts.gate.weight`, `${OURS}experts.up.weight`],
    },
  ],
};

const OURS = 'layers.{i}.';
const BLOCK = 'model.layers.{i}.block_sparse_moe.';
