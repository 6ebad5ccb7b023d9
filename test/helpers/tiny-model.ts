import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TensorToWrite, writeSafetensors } from '../../src/checkpoint/safetensors-write.js';
import { type GgufTensorToWrite, ggufBytes, type MetadataToWrite } from './gguf-writer.js';
import { generator } from './random.js';
import { byteTokenizerJson } from './tokenizers.js';

/** Sizes of a random model with a byte-level tokenizer; small enough to load in milliseconds. */
export interface TinyOptions {
  /** Default 0: dense. */
  nExperts?: number;
  topK?: number;
  dModel?: number;
  nLayers?: number;
  nHeads?: number;
  nKvHeads?: number;
  dFf?: number;
  maxSeqLen?: number;
  /** Sliding window of sparse models; default none. */
  window?: number;
  seed?: number;
  /** The end token, beyond the 256 bytes. Default: never likely, but there. */
  eosId?: number | null;
}

const SPECIAL = ['</s>', '<s>', '<pad>', '<unused>'];
export const TINY_VOCABULARY = 256 + SPECIAL.length;

const sizes = (o: TinyOptions) => ({
  nExperts: 0,
  topK: 2,
  dModel: 64,
  nLayers: 2,
  nHeads: 4,
  nKvHeads: 2,
  dFf: 96,
  maxSeqLen: 2048,
  window: 0,
  seed: 1,
  eosId: 256 as number | null,
  ...o,
});

/** Normal values times `scale`. */
export function normal(next: () => number, size: number, scale: number): Float32Array {
  return Float32Array.from({ length: size }, () => {
    const radius = Math.sqrt(-2 * Math.log(1 - next()));
    return scale * radius * Math.cos(2 * Math.PI * next());
  });
}

export interface Plain {
  readonly name: string;
  readonly shape: readonly number[];
}

/** Names and shapes of the tensors in a Hugging Face folder. */
export function tinyShapes(options: TinyOptions): Plain[] {
  const { nExperts, dModel, nLayers, nHeads, nKvHeads, dFf } = sizes(options);
  const c = dModel / nHeads;
  const list: Plain[] = [{ name: 'model.embed_tokens.weight', shape: [TINY_VOCABULARY, dModel] }];
  for (let i = 0; i < nLayers; i++) {
    const add = (name: string, ...shape: number[]) =>
      list.push({ name: `model.layers.${i}.${name}.weight`, shape });
    add('input_layernorm', dModel);
    add('self_attn.q_proj', nHeads * c, dModel);
    add('self_attn.k_proj', nKvHeads * c, dModel);
    add('self_attn.v_proj', nKvHeads * c, dModel);
    add('self_attn.o_proj', dModel, nHeads * c);
    add('post_attention_layernorm', dModel);
    if (nExperts === 0) {
      add('mlp.gate_proj', dFf, dModel);
      add('mlp.up_proj', dFf, dModel);
      add('mlp.down_proj', dModel, dFf);
    } else {
      add('block_sparse_moe.gate', nExperts, dModel);
      for (let e = 0; e < nExperts; e++) {
        add(`block_sparse_moe.experts.${e}.w1`, dFf, dModel);
        add(`block_sparse_moe.experts.${e}.w2`, dModel, dFf);
        add(`block_sparse_moe.experts.${e}.w3`, dFf, dModel);
      }
    }
  }
  list.push({ name: 'model.norm.weight', shape: [dModel] });
  list.push({ name: 'lm_head.weight', shape: [TINY_VOCABULARY, dModel] });
  return list;
}

const count = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);

function draw(next: () => number, { name, shape }: Plain): Float32Array {
  if (name.includes('norm')) return normal(next, count(shape), 0.1).map((v) => 1 + v);
  // Large enough that different prompts lead to clearly different texts.
  return normal(next, count(shape), name.includes('embed') ? 1 : 1.5 / Math.sqrt(shape.at(-1) as number));
}

/** config.json of the model. */
export function tinyConfig(options: TinyOptions = {}): Record<string, unknown> {
  const s = sizes(options);
  return {
    model_type: s.nExperts > 0 ? 'mixtral' : 'llama',
    hidden_size: s.dModel,
    num_hidden_layers: s.nLayers,
    num_attention_heads: s.nHeads,
    num_key_value_heads: s.nKvHeads,
    intermediate_size: s.dFf,
    vocab_size: TINY_VOCABULARY,
    max_position_embeddings: s.maxSeqLen,
    rms_norm_eps: 1e-5,
    rope_theta: 10000,
    hidden_act: 'silu',
    tie_word_embeddings: false,
    ...(s.eosId === null ? {} : { eos_token_id: s.eosId }),
    ...(s.nExperts > 0
      ? {
          num_local_experts: s.nExperts,
          num_experts_per_tok: s.topK,
          ...(s.window ? { sliding_window: s.window } : {}),
        }
      : {}),
  };
}

/** The tensors of a model, in float32. */
export function tinyTensors(options: TinyOptions = {}): (TensorToWrite & { data: Float32Array })[] {
  const next = generator(sizes(options).seed);
  return tinyShapes(options).map((t) => ({ ...t, data: draw(next, t) }));
}

export interface TinyFiles {
  config?: object;
  tensors?: readonly TensorToWrite[];
}

/** Writes a Hugging Face folder with random weights, or with the files given instead. */
export async function writeTinyFolder(
  folder: string,
  options: TinyOptions = {},
  files: TinyFiles = {},
): Promise<string> {
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, 'config.json'), JSON.stringify(files.config ?? tinyConfig(options)));
  writeFileSync(join(folder, 'tokenizer.json'), JSON.stringify(byteTokenizerJson(SPECIAL)));
  await writeSafetensors(join(folder, 'model.safetensors'), files.tensors ?? tinyTensors(options));
  return folder;
}

const GGUF_TYPES = { f32: [0, 1, 4], q4_0: [2, 32, 18], q4_1: [3, 32, 20], q8_0: [8, 32, 34] } as const;
export type TinyFormat = keyof typeof GGUF_TYPES;

/** Bytes of a GGUF file of the same architecture with random blocks; norms and the router are f32. */
export function tinyGguf(format: TinyFormat, options: TinyOptions = {}): Buffer {
  const s = sizes(options);
  const next = generator(s.seed);
  const tensors: GgufTensorToWrite[] = [];
  const add = (name: string, type: TinyFormat, ...shape: number[]): void => {
    const data =
      type === 'f32'
        ? new Uint8Array(draw(next, { name, shape }).buffer)
        : randomBlocks(next, type, count(shape), 1.5 / Math.sqrt(shape.at(-1) as number));
    tensors.push({ name: `${name}.weight`, dims: [...shape].reverse(), type: GGUF_TYPES[type][0], data });
  };
  const [d, f, c] = [s.dModel, s.dFf, s.dModel / s.nHeads];
  add('token_embd', format, TINY_VOCABULARY, d);
  for (let i = 0; i < s.nLayers; i++) {
    const at = (name: string): string => `blk.${i}.${name}`;
    add(at('attn_norm'), 'f32', d);
    add(at('attn_q'), format, s.nHeads * c, d);
    add(at('attn_k'), format, s.nKvHeads * c, d);
    add(at('attn_v'), format, s.nKvHeads * c, d);
    add(at('attn_output'), format, d, s.nHeads * c);
    add(at('ffn_norm'), 'f32', d);
    if (s.nExperts === 0) {
      add(at('ffn_gate'), format, f, d);
      add(at('ffn_up'), format, f, d);
      add(at('ffn_down'), format, d, f);
    } else {
      add(at('ffn_gate_inp'), 'f32', s.nExperts, d);
      add(at('ffn_gate_exps'), format, s.nExperts, f, d);
      add(at('ffn_up_exps'), format, s.nExperts, f, d);
      add(at('ffn_down_exps'), format, s.nExperts, d, f);
    }
  }
  add('output_norm', 'f32', d);
  add('output', format, TINY_VOCABULARY, d);
  return ggufBytes({ metadata: tinyMetadata(options), tensors });
}

export function tinyMetadata(options: TinyOptions): [string, MetadataToWrite][] {
  const s = sizes(options);
  const u32 = (value: number): MetadataToWrite => ({ type: 'u32', value });
  const string = (value: string): MetadataToWrite => ({ type: 'string', value });
  const array = (element: string, items: MetadataToWrite[]): MetadataToWrite => ({
    type: 'array',
    element,
    items,
  });
  const { vocab } = byteTokenizerJson([]).model;
  const bytes = Object.entries(vocab).sort(([, a], [, b]) => a - b);
  const tokens = [...bytes.map(([token]) => token), ...SPECIAL];
  return [
    ['general.architecture', string('llama')],
    ['llama.block_count', u32(s.nLayers)],
    ['llama.context_length', u32(s.maxSeqLen)],
    ['llama.embedding_length', u32(s.dModel)],
    ['llama.feed_forward_length', u32(s.dFf)],
    ['llama.attention.head_count', u32(s.nHeads)],
    ['llama.attention.head_count_kv', u32(s.nKvHeads)],
    ['llama.attention.layer_norm_rms_epsilon', { type: 'f32', value: 1e-5 }],
    ['llama.rope.freq_base', { type: 'f32', value: 10000 }],
    ...(s.nExperts > 0
      ? ([
          ['llama.expert_count', u32(s.nExperts)],
          ['llama.expert_used_count', u32(s.topK)],
        ] as [string, MetadataToWrite][])
      : []),
    ['tokenizer.ggml.model', string('gpt2')],
    ['tokenizer.ggml.pre', string('gpt-2')],
    ['tokenizer.ggml.tokens', array('string', tokens.map(string))],
    [
      'tokenizer.ggml.token_type',
      array(
        'i32',
        tokens.map((_, id) => ({ type: 'i32', value: id < 256 ? 1 : 3 })),
      ),
    ],
    ['tokenizer.ggml.merges', array('string', [])],
    ...(s.eosId === null
      ? []
      : ([['tokenizer.ggml.eos_token_id', u32(s.eosId)]] as [string, MetadataToWrite][])),
  ];
}

/** Random valid blocks whose values have about the deviation `scale`. */
function randomBlocks(
  next: () => number,
  format: Exclude<TinyFormat, 'f32'>,
  values: number,
  scale: number,
): Uint8Array {
  const [, perBlock, blockBytes] = GGUF_TYPES[format];
  const bytes = new Uint8Array((values / perBlock) * blockBytes).map(() => Math.floor(256 * next()));
  const view = new DataView(bytes.buffer);
  // Deviation of the integers: uniform over 256, or over 16, values.
  const step = scale / (format === 'q8_0' ? 74 : 4.6);
  for (let at = 0; at < bytes.length; at += blockBytes) {
    view.setUint16(at, half(step * (0.75 + 0.5 * next())), true);
    if (format === 'q4_1') view.setUint16(at + 2, half(-7.5 * step) | 0x8000, true);
  }
  return bytes;
}

/** Bits of the half-precision number next to |x|, for ordinary sizes. */
function half(x: number): number {
  const bits = new Uint32Array(Float32Array.of(Math.abs(x)).buffer)[0] as number;
  return (((bits >>> 23) - 112) << 10) | ((bits >>> 13) & 0x3ff);
}
