import { allLayers, USUAL_MOE } from '../decoder/config.js';
import type { Family } from '../family.js';
import { GGUF_POST_ATTENTION_NORM } from '../gguf/names.js';
import { type NameTable, named } from '../read/names.js';
import { llamaNames, readLlamaLike } from './llama.js';
import { windowLayers } from './shared/windows.js';

/**
 * gpt-oss (OpenAI 2025, arXiv 2508.10925): sinks, every other layer with a window, biases everywhere, experts with clamped gates whose
 * matrices are stored [in, out], gate and up in turns; or as MXFP4 [out, in], gate and up in turns too.
 */
export const gptOss: Family = {
  modelType: 'gpt_oss',
  ggufArchitecture: 'gpt-oss',
  ggufImplies: { attention_bias: true },
  ggufNames: GGUF_POST_ATTENTION_NORM,
  ggufYarnTruncates: false,
  fromHuggingFace(c) {
    const base = readLlamaLike(c, 'gpt_oss', {
      maxSeqLen: 131072,
      normEps: 1e-5,
      nKvHeads: 8,
      headDim: 64,
      attentionBias: true,
      theta: 150000,
    });
    const window = c.raw('sliding_window') === undefined ? 0 : c.int('sliding_window', 'length');
    c.raw('initial_context_length'); // stands in rope_scaling too
    c.only('moe_intermediate_size', base.dFf);
    c.only('scoring_func', 'softmax_of_chosen');
    return {
      ...base,
      sinks: true,
      window,
      windowLayers: windowLayers(c, { ...base, window }, (layer) => layer % 2 === 0),
      moe: {
        ...USUAL_MOE,
        nExperts: c.int('num_local_experts', 'experts', 128),
        topK: c.int(['num_experts_per_tok', 'experts_per_token'], 'experts', 4),
        dFf: base.dFf,
        gating: 'top-k-softmax',
        layers: allLayers(base.nLayers),
        bias: true,
        routerBias: true,
        clamp: { limit: c.positive('swiglu_limit', 7), slope: c.positive('swiglu_alpha', 1.702) },
      },
    };
  },
  huggingFaceNames: ({ moe }) => [...llamaNames, ...expertNames(moe?.dFf ?? 1)],
};

const OURS = 'layers.{i}.';
const THEIRS = 'model.layers.{i}.';

const expertNames = (dFf: number): NameTable => [
  ...named({ router: 'mlp.router' }, OURS, THEIRS),
  { tensor: `${THEIRS}self_attn.sinks`, parts: [`${OURS}attention.sinks`] },
  {
    tensor: `${THEIRS}mlp.experts.gate_up_proj`,
    parts: [`${OURS}experts.gate.weight`, `${OURS}experts.up.weight`],
    turns: dFf,
    transposed: true,
  },
  {
    tensor: `${THEIRS}mlp.experts.gate_up_proj_blocks`,
    parts: [`${OURS}experts.gate.weight`, `${OURS}experts.up.weight`],
    turns: dFf,
  },
  {
    tensor: `${THEIRS}mlp.experts.gate_up_proj_bias`,
    parts: [`${OURS}experts.gate.bias`, `${OURS}experts.up.bias`],
    turns: dFf,
  },
  { tensor: `${THEIRS}mlp.experts.down_proj`, parts: [`${OURS}experts.down.weight`], transposed: true },
  { tensor: `${THEIRS}mlp.experts.down_proj_blocks`, parts: [`${OURS}experts.down.weight`] },
  { tensor: `${THEIRS}mlp.experts.down_proj_bias`, parts: [`${OURS}experts.down.bias`] },
];
