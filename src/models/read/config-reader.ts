/** The strict reading of config files: by key, with ranges, and nothing passed over. */
import { SwitchyardError } from '../../core/errors.js';
import type { Activation } from '../../core/ops/elementwise.js';
import { LIMITS, type Limit } from './limits.js';

/** Keys that describe training, bookkeeping or generation defaults, and leave the forward pass alone. */
const HARMLESS = new Set([
  'architectures',
  'activation_dropout',
  'attention_dropout',
  'attn_pdrop',
  'aux_loss_alpha',
  'auto_map',
  'bos_token_id',
  'chunk_size_feed_forward',
  'dropout',
  'dtype',
  'embd_pdrop',
  'eos_token_id',
  'gradient_checkpointing',
  'hidden_dropout',
  'id2label',
  'init_std',
  'initializer_range',
  'label2id',
  'layerdrop',
  'max_length',
  'model_max_length',
  'model_type',
  'n_ctx',
  'name_or_path',
  '_name_or_path',
  'output_attentions',
  'output_hidden_states',
  'output_past',
  'output_router_logits',
  'pad_token_id',
  'pretraining_tp',
  'prefix',
  'problem_type',
  'reorder_and_upcast_attn',
  'resid_pdrop',
  'return_dict',
  'router_aux_loss_coef',
  'router_z_loss_coef',
  'seq_aux',
  'summary_activation',
  'summary_first_dropout',
  'summary_proj_to_labels',
  'summary_type',
  'summary_use_proj',
  'task_specific_params',
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

  /** Not negative. */
  number(key: string, fallback?: number): number {
    const value = this.raw(key) ?? fallback;
    if (typeof value !== 'number' || !Number.isFinite(value) || value < 0)
      throw this.fail(key, 'a number ≥ 0');
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

  /** Whether a key was read. */
  reads(key: string): boolean {
    return this.#read.has(key);
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
