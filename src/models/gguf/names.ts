/** Tensor names of GGUF files: one scheme, which the architectures use in part. */
import { fused, type NameTable, named } from '../read/names.js';

const ROOT = {
  embedding: 'token_embd',
  embedding_norm: 'token_embd_norm',
  positions: 'position_embd',
  final_norm: 'output_norm',
  head: 'output',
} as const;

const LAYER = {
  attention_norm: 'attn_norm',
  attention_post_norm: 'post_attention_norm',
  'attention.q': 'attn_q',
  'attention.k': 'attn_k',
  'attention.v': 'attn_v',
  'attention.o': 'attn_output',
  'attention.q_down': 'attn_q_a',
  'attention.q_down_norm': 'attn_q_a_norm',
  'attention.q_up': 'attn_q_b',
  'attention.kv_down': 'attn_kv_a_mqa',
  'attention.kv_down_norm': 'attn_kv_a_norm',
  'attention.k_up': 'attn_k_b',
  'attention.v_up': 'attn_v_b',
  'attention.q_norm': 'attn_q_norm',
  'attention.k_norm': 'attn_k_norm',
  feed_forward_norm: 'ffn_norm',
  feed_forward_post_norm: 'post_ffw_norm',
  'feed_forward.gate': 'ffn_gate',
  'feed_forward.up': 'ffn_up',
  'feed_forward.down': 'ffn_down',
  router: 'ffn_gate_inp',
  'experts.gate': 'ffn_gate_exps',
  'experts.up': 'ffn_up_exps',
  'experts.down': 'ffn_down_exps',
  'shared.gate': 'ffn_gate_shexp',
  'shared.up': 'ffn_up_shexp',
  'shared.down': 'ffn_down_shexp',
  shared_gate: 'ffn_gate_inp_shexp',
  token_norm: 'nextn.enorm',
  hidden_norm: 'nextn.hnorm',
  projection: 'nextn.eh_proj',
  head_norm: 'nextn.shared_head_norm',
} as const;

/** Files from before experts were stacked. */
const EACH = {
  'experts.gate': 'ffn_gate.{e}',
  'experts.up': 'ffn_up.{e}',
  'experts.down': 'ffn_down.{e}',
} as const;

const OURS = 'layers.{i}.';
const THEIRS = 'blk.{i}.';

/** Architectures that have queries, keys and values in one tensor only; others may have. */
export const GGUF_QKV: NameTable = fused(
  `${THEIRS}attn_qkv`,
  ['q', 'k', 'v'].map((part) => `${OURS}attention.${part}`),
);

/** Architectures that call the norm before the feed-forward layer by its place, behind attention. */
export const GGUF_POST_ATTENTION_NORM: NameTable = named(
  { feed_forward_norm: 'post_attention_norm' },
  OURS,
  THEIRS,
);

/** What an architecture has without a word of its own. */
export const ggufNames: NameTable = [
  ...named(ROOT),
  ...named(LAYER, OURS, THEIRS),
  ...named(EACH, OURS, THEIRS),
  ...GGUF_QKV,
  // files from before keys and values had matrices of their own
  {
    tensor: `${THEIRS}attn_kv_b.weight`,
    parts: [`${OURS}attention.k_up.weightᵀ`, `${OURS}attention.v_up.weight`],
    flat: true,
  },
  { tensor: `${THEIRS}exp_probs_b.bias`, parts: [`${OURS}router.selection_bias`] },
  { tensor: `${THEIRS}attn_sinks.weight`, parts: [`${OURS}attention.sinks`] },
];
