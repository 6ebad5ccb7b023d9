/** What a decoder is, in our own names, and the strict reading of config files. */
import { SwitchyardError } from '../core/errors.js';
import type { Activation } from '../core/ops/elementwise.js';
import type { Gating, GatingName } from '../moe/gating/index.js';
import type { RopeConfig, RopeScaling } from '../nn/rope.js';

export interface MoEConfig {
  readonly nExperts: number;
  readonly topK: number;
  /** Inner width of one expert. */
  readonly dFf: number;
  readonly gating: GatingName | Gating;
  /** The layers that are sparse, rising. */
  readonly layers: readonly number[];
}

export interface DecoderConfig {
  /** model_type of the family. */
  readonly family: string;
  readonly dModel: number;
  readonly nLayers: number;
  readonly nHeads: number;
  readonly nKvHeads: number;
  readonly headDim: number;
  /** Inner width of dense feed-forward layers. */
  readonly dFf: number;
  readonly vocabSize: number;
  readonly maxSeqLen: number;
  readonly normEps: number;
  readonly activation: Activation;
  readonly rope: RopeConfig;
  /** Sliding window in tokens; 0: none. */
  readonly window: number;
  /** The layers that have the window, where not all have. */
  readonly windowLayers?: readonly number[];
  readonly tiedEmbeddings: boolean;
  readonly attentionBias: boolean;
  /** Queries and keys are normalised before they turn: each head by itself, or all heads of a token as one vector. */
  readonly qkNorm: 'head' | 'heads' | null;
  /** Bound on the absolute values of queries, keys and values. */
  readonly clipQkv: number | null;
  readonly feedForwardBias: boolean;
  readonly moe: MoEConfig | null;
  readonly bosId: number | null;
  readonly eosIds: readonly number[];
}

/** Window of one layer; 0: none. */
export const windowOf = ({ window, windowLayers }: DecoderConfig, layer: number): number =>
  windowLayers === undefined || windowLayers.includes(layer) ? window : 0;

/** Limits of hostile or broken configs: far above any published model, far below what would exhaust memory. */
const LIMITS = {
  layers: 1024,
  heads: 4096,
  experts: 65536,
  width: 1 << 20,
  vocabulary: 1 << 24,
  length: 2 ** 31 - 1,
} as const;
type Limit = keyof typeof LIMITS;

/** Keys that describe training, bookkeeping or generation defaults, and leave the forward pass alone. */
const HARMLESS = new Set([
  'architectures',
  'attention_dropout',
  'auto_map',
  'bos_token_id',
  'chunk_size_feed_forward',
  'dtype',
  'embd_pdrop',
  'eos_token_id',
  'hidden_dropout',
  'id2label',
  'initializer_range',
  'label2id',
  'max_length',
  'model_type',
  'name_or_path',
  '_name_or_path',
  'output_attentions',
  'output_hidden_states',
  'output_router_logits',
  'pad_token_id',
  'pretraining_tp',
  'problem_type',
  'resid_pdrop',
  'return_dict',
  'router_aux_loss_coef',
  'router_z_loss_coef',
  'torch_dtype',
  'transformers_version',
  'unk_token_id',
  'use_cache',
  '_attn_implementation',
  '_attn_implementation_autoset',
  '_experts_implementation',
  'is_llama_config',
  'rope_interleaved',
]);

/** Reads config.json by key and remembers what was read: keys left over that could change the mathematics are refused. */
export class ConfigReader {
  readonly #read = new Set<string>();

  constructor(
    readonly source: Readonly<Record<string, unknown>>,
    readonly where: string,
  ) {}

  fail(key: string, expected: string, hint?: string): SwitchyardError {
    const got = JSON.stringify(this.source[key]) ?? 'nothing';
    return new SwitchyardError(
      'ERR_FORMAT',
      `[${this.where}] got ${key} = ${got.slice(0, 200)}, expected ${expected}`,
      hint === undefined ? {} : { hint },
    );
  }

  /** The value of the first key that is there and not null. */
  raw(...keys: string[]): unknown {
    for (const key of keys) this.#read.add(key);
    for (const key of keys)
      if (this.source[key] !== undefined && this.source[key] !== null) return this.source[key];
    return undefined;
  }

  int(keys: string | readonly string[], limit: Limit, fallback?: number, min = 1): number {
    const names = [keys].flat();
    const value = this.raw(...names) ?? fallback;
    if (typeof value !== 'number' || !Number.isInteger(value) || value < min || value > LIMITS[limit]) {
      throw this.fail(
        names.find((k) => this.source[k] !== undefined) ?? (names[0] as string),
        `a whole number from ${min} to ${LIMITS[limit]}`,
      );
    }
    return value;
  }

  positive(key: string, fallback?: number): number {
    const value = this.raw(key) ?? fallback;
    if (typeof value !== 'number' || !Number.isFinite(value) || value <= 0)
      throw this.fail(key, 'a positive number');
    return value;
  }

  bool(key: string, fallback: boolean): boolean {
    const value = this.raw(key) ?? fallback;
    if (typeof value !== 'boolean') throw this.fail(key, 'true or false');
    return value;
  }

  oneOf<T>(key: string, table: Readonly<Record<string, T>>, fallback: string): T {
    const value = this.raw(key) ?? fallback;
    const found = typeof value === 'string' && Object.hasOwn(table, value) ? table[value] : undefined;
    if (found === undefined) throw this.fail(key, `one of ${Object.keys(table).join(', ')}`);
    return found;
  }

  /** Accepts one value of a key whose other values are not built. */
  only(key: string, ...accepted: unknown[]): void {
    const value = this.raw(key);
    if (value !== undefined && !accepted.includes(value))
      throw this.fail(key, accepted.map((v) => JSON.stringify(v)).join(' or '));
  }

  ids(key: string): number[] {
    return this.#indices(key, 'vocabulary', 'a token id or a list of them');
  }

  layers(key: string): number[] {
    return this.#indices(key, 'layers', 'a list of layer numbers');
  }

  #indices(key: string, limit: Limit, expected: string): number[] {
    const value = this.raw(key);
    const list = value === undefined ? [] : [value].flat();
    if (!list.every((v) => Number.isInteger(v) && (v as number) >= 0 && (v as number) < LIMITS[limit]))
      throw this.fail(key, expected);
    return list as number[];
  }

  /** Refuses keys that nobody read and that are not known to be harmless. */
  finish(): void {
    for (const key of Object.keys(this.source)) {
      if (
        this.#read.has(key) ||
        HARMLESS.has(key) ||
        this.source[key] === null ||
        this.source[key] === undefined
      )
        continue;
      throw new SwitchyardError(
        'ERR_UNSUPPORTED',
        `[${this.where}] got key '${key}' = ${JSON.stringify(this.source[key])?.slice(0, 200)}, expected only keys whose meaning for the computation is known`,
        {
          hint: 'running the model without it could give wrong numbers; remove the key if it is bookkeeping',
        },
      );
    }
  }
}

export const ACTIVATION_KEYS: Readonly<Record<string, Activation>> = {
  silu: 'silu',
  swish: 'silu',
  gelu: 'gelu',
  gelu_new: 'gelu_tanh',
  gelu_pytorch_tanh: 'gelu_tanh',
  gelu_tanh: 'gelu_tanh',
  relu: 'relu',
};

/** Refuses sizes that contradict each other, which no single key can show. */
export function checkConfig(config: DecoderConfig, where: string): DecoderConfig {
  const { nHeads, nKvHeads, headDim, rope, moe, nLayers } = config;
  const refuse = (got: string, expected: string): SwitchyardError =>
    new SwitchyardError('ERR_FORMAT', `[${where}] got ${got}, expected ${expected}`);
  if (nHeads % nKvHeads !== 0)
    throw refuse(`${nHeads} query heads for ${nKvHeads} key heads`, 'a multiple of the key heads');
  if (headDim < 1)
    throw refuse(`${nHeads} heads for a width of ${config.dModel}`, 'fewer heads than the width');
  if (!Number.isInteger(rope.dim) || rope.dim < 2 || rope.dim > headDim || rope.dim % 2 !== 0)
    throw refuse(`${rope.dim} rotary sizes of a head of ${headDim}`, 'an even number, at most the head');
  if (moe && moe.topK > moe.nExperts)
    throw refuse(`${moe.topK} experts per token of ${moe.nExperts} experts`, 'at most all of them');
  if (moe?.layers.some((layer) => layer < 0 || layer >= nLayers))
    throw refuse(`sparse layers ${moe.layers.join(', ')}`, `layers from 0 to ${nLayers - 1}`);
  return config;
}

/** rope_theta and rope_scaling (published files) or rope_parameters (library version 5), in one form. */
export function readRope(
  c: ConfigReader,
  headDim: number,
  maxSeqLen: number,
  { interleaved = false } = {},
): RopeConfig {
  const parameters = (c.raw('rope_parameters') ?? c.raw('rope_scaling') ?? {}) as Record<string, unknown>;
  c.raw('rope_scaling');
  if (typeof parameters !== 'object' || Array.isArray(parameters)) throw c.fail('rope_scaling', 'an object');
  const r = new ConfigReader(parameters, `${c.where}: rope`);
  const theta =
    r.source.rope_theta === undefined ? c.positive('rope_theta', 10000) : r.positive('rope_theta');
  const share =
    r.source.partial_rotary_factor === undefined
      ? c.positive('partial_rotary_factor', 1)
      : r.positive('partial_rotary_factor');
  const type = (r.raw('rope_type', 'type') ?? 'default') as string;
  const original = r.int(
    'original_max_position_embeddings',
    'length',
    (c.raw('original_max_position_embeddings') as number | undefined) ?? maxSeqLen,
  );
  const scaling = readScaling(r, type, original, maxSeqLen);
  r.finish();
  return { theta, dim: Math.floor(headDim * share), interleaved, scaling };
}

function readScaling(r: ConfigReader, type: string, original: number, maxSeqLen: number): RopeScaling {
  switch (type) {
    case 'default':
      return { type };
    case 'linear':
      return { type, factor: r.positive('factor') };
    case 'dynamic':
      return { type, factor: r.positive('factor'), originalMaxSeqLen: original };
    case 'llama3':
      return {
        type,
        factor: r.positive('factor'),
        lowFreqFactor: r.positive('low_freq_factor'),
        highFreqFactor: r.positive('high_freq_factor'),
        originalMaxSeqLen: original,
      };
    case 'yarn': {
      const optional = (key: string): number | null => (r.raw(key) === undefined ? null : r.positive(key));
      return {
        type,
        factor: r.positive('factor'),
        originalMaxSeqLen: original,
        betaFast: r.positive('beta_fast', 32),
        betaSlow: r.positive('beta_slow', 1),
        attentionFactor: optional('attention_factor'),
        mscale: optional('mscale'),
        mscaleAllDim: optional('mscale_all_dim'),
        truncate: r.bool('truncate', true),
      };
    }
    case 'longrope': {
      const list = (key: string): number[] => {
        const value = r.raw(key);
        if (!Array.isArray(value) || !value.every((v) => typeof v === 'number' && v > 0))
          throw r.fail(key, 'a list of positive numbers');
        return value as number[];
      };
      const factor = r.positive('factor', maxSeqLen / original);
      const attentionFactor = r.positive(
        'attention_factor',
        factor <= 1 ? 1 : Math.sqrt(1 + Math.log(factor) / Math.log(original)),
      );
      return {
        type,
        shortFactors: list('short_factor'),
        longFactors: list('long_factor'),
        originalMaxSeqLen: original,
        attentionFactor,
      };
    }
    default:
      throw r.fail('rope_type', 'default, linear, dynamic, llama3, yarn or longrope');
  }
}
