/** Config of GGUF files: one scheme for all architectures. */
import type { GgufCheckpoint } from '../../checkpoint/folder.js';
import type { GgufMetadata } from '../../checkpoint/gguf-metadata.js';
import { SwitchyardError } from '../../core/errors.js';
import type { DecoderConfig } from '../decoder/config.js';
import type { Family } from '../family.js';
import { ConfigReader } from '../read/config-reader.js';
import { type GgufKey, readKeys } from './keys.js';
import { readScaling } from './rope.js';

/** What all architectures say in the same words. */
export const DECODER_KEYS: readonly GgufKey[] = [
  ['embedding_length', 'hidden_size', 'int'],
  ['nextn_predict_layers', 'num_nextn_predict_layers', 'int'],
  ['attention.head_count', 'num_attention_heads', 'int'],
  ['attention.head_count_kv', 'num_key_value_heads', 'int'],
  ['attention.key_length', 'head_dim', 'int'],
  ['feed_forward_length', 'intermediate_size', 'int'],
  ['vocab_size', 'vocab_size', 'int'],
  ['context_length', 'max_position_embeddings', 'int'],
  ['attention.layer_norm_rms_epsilon', 'rms_norm_eps', 'float'],
  ['attention.layer_norm_epsilon', 'layer_norm_epsilon', 'float'],
  ['rope.freq_base', 'rope_theta', 'float'],
  ['expert_feed_forward_length', 'moe_intermediate_size', 'count'],
  ['expert_count', 'num_local_experts', 'count'],
  ['expert_used_count', 'num_experts_per_tok', 'count'],
  ['expert_shared_count', 'n_shared_experts', 'count'],
  ['expert_shared_feed_forward_length', 'shared_expert_intermediate_size', 'count'],
  ['leading_dense_block_count', 'first_k_dense_replace', 'int'],
  ['expert_weights_norm', 'norm_topk_prob', 'bool'],
  ['expert_weights_scale', 'routed_scaling_factor', 'size'],
  ['expert_group_count', 'n_group', 'count'],
  ['expert_group_used_count', 'topk_group', 'count'],
  ['attention.clamp_kqv', 'clip_qkv', 'size'],
  ['attention.sliding_window', 'sliding_window', 'count'],
  ['attention.scale', 'attention_multiplier', 'size'],
  ['residual_scale', 'residual_multiplier', 'size'],
  ['embedding_scale', 'embedding_multiplier', 'size'],
  ['logit_scale', 'logits_scaling', 'size'],
];

/** GGUF metadata in the vocabulary of config.json, so that one reader checks both. */
function asConfig(m: GgufMetadata, arch: string): Record<string, unknown> {
  const said = readKeys(DECODER_KEYS, m, arch);
  const blocks = m.getInt(`${arch}.block_count`, undefined);
  const predicted = (said.num_nextn_predict_layers as number | undefined) ?? 0;
  return {
    ...said,
    // files count the prediction layers among the blocks
    num_hidden_layers: blocks === undefined ? undefined : blocks - predicted,
    vocab_size: said.vocab_size ?? m.getStringArray('tokenizer.ggml.tokens', undefined)?.length,
    scoring_func: scoring(m, m.getInt(`${arch}.expert_gating_func`, undefined)),
    bos_token_id: m.getInt('tokenizer.ggml.bos_token_id', undefined),
    eos_token_id: m.getInt('tokenizer.ggml.eos_token_id', undefined),
  };
}

/** The format's numbers of scoring functions, from 1 on. */
export const SCORING = ['softmax', 'sigmoid', 'softmax_of_chosen'];

function scoring({ path }: GgufMetadata, code: number | undefined): string | undefined {
  if (!code) return undefined; // 0: not said
  const name = SCORING[code - 1];
  if (name !== undefined) return name;
  throw new SwitchyardError(
    'ERR_UNSUPPORTED',
    `[${path}] got expert_gating_func ${code}, expected 1 to ${SCORING.length}`,
  );
}

export function ggufConfig(
  { metadata, tensors, path }: Pick<GgufCheckpoint, 'metadata' | 'tensors' | 'path'>,
  family: Family,
): DecoderConfig {
  const arch = family.ggufArchitecture as string;
  const said = { ...asConfig(metadata, arch), ...family.ggufOwn?.read(metadata) };
  const written = Object.entries(said).filter(([, value]) => value !== undefined);
  const reader = new ConfigReader({ ...family.ggufImplies, ...Object.fromEntries(written) }, path);
  const config = family.fromHuggingFace(reader);
  reader.finish();
  return {
    ...config,
    tiedEmbeddings: !tensors.has('output.weight'),
    // what some models of an architecture have and others have not
    qkNorm: config.qkNorm ?? (tensors.has('blk.0.attn_q_norm.weight') ? 'head' : null),
    queryKeyValueBias: config.queryKeyValueBias || tensors.has('blk.0.attn_q.bias'),
    outputBias: config.outputBias || tensors.has('blk.0.attn_output.bias'),
    feedForwardBias: config.feedForwardBias || tensors.has('blk.0.ffn_up.bias'),
    rope: config.rope && {
      ...config.rope,
      dim: metadata.getInt(`${arch}.rope.dimension_count`, config.rope.dim),
      interleaved: family.ggufInterleaved ?? false,
      scaling: readScaling(metadata, arch, (name) => tensors.has(name), {
        maxSeqLen: config.maxSeqLen,
        truncate: family.ggufYarnTruncates ?? true,
      }),
    },
  };
}
