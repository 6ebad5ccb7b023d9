/** A model in other formats, as a packed file, and what that costs. */
import { statSync } from 'node:fs';
import type { MatrixToWrite } from '../checkpoint/packed-write.js';
import type { NativeAbort, NativeWeight } from '../core/addon.js';
import { allOrNone } from '../core/all-or-none.js';
import type { Device } from '../core/device.js';
import { checkOptions, SwitchyardError } from '../core/errors.js';
import type { ComputeMode, WeightFormat } from '../core/format.js';
import { takeRows } from '../core/ops/indexing.js';
import { tensor } from '../core/tensor.js';
import { Weight } from '../core/weight.js';
import type { LanguageModel } from '../generate/handles/language-model.js';
import { loadLanguageModel } from '../generate/handles/load-model.js';
import type { Role } from '../inspect/parameters.js';
import type { DecoderConfig } from '../models/decoder/config.js';
import { type ModelContent, writeModel } from '../models/packed/save.js';
import { type MatrixPart, PartList, type VectorPart } from '../models/parts.js';
import { packValues } from '../models/read/weights.js';
import { chooseDropped, countToDrop, type DroppedExperts, expertLoads } from './drop-experts.js';
import { checkRules, type FormatRules, formatFor } from './formats.js';
import { type Comparison, compareModels } from './perplexity.js';

export interface QuantizeProgress {
  readonly stage: 'routing' | 'writing' | 'scoring';
  /** Bytes of the file while writing, else tokens. */
  readonly done: number;
  readonly total: number;
}

export interface QuantizeOptions {
  formats?: FormatRules;
  /** Experts to drop from every sparse layer: a count, or a share below 1. Needs a text. Default 0. */
  dropExperts?: number;
  /** What perplexity, divergence and the use of experts are measured on. Default: none, and the report leaves them out. */
  text?: string | readonly number[];
  /** Tokens of one window of the text. Default 512. */
  window?: number;
  /** How the written model computes while it is measured. Default 'auto'. */
  dtype?: 'auto' | ComputeMode;
  signal?: AbortSignal;
  onProgress?: (progress: QuantizeProgress) => void;
}

export interface QuantizedTensor {
  readonly name: string;
  readonly role: Role;
  readonly from: WeightFormat;
  readonly to: WeightFormat;
  /** Packed bytes. */
  readonly bytesBefore: number;
  readonly bytesAfter: number;
  /** √(Σ(new - old)² / Σ old²) over the experts that stay; 0 where nothing changed. */
  readonly error: number;
  /** Why it did not get the format of its rule. */
  readonly note: string | null;
}

export interface QuantizeReport {
  readonly path: string;
  /** Of the packed weights. */
  readonly bytesBefore: number;
  readonly bytesAfter: number;
  readonly fileBytes: number;
  /** The worst first. */
  readonly tensors: readonly QuantizedTensor[];
  /** Per sparse layer, where experts were dropped. */
  readonly dropped: readonly DroppedExperts[] | null;
  /** Null without a text. */
  readonly quality: (Comparison & { readonly compute: readonly [ComputeMode, ComputeMode] }) | null;
}

const OPTIONS = ['formats', 'dropExperts', 'text', 'window', 'dtype', 'signal', 'onProgress'];

/**
 * Writes `model` with its matrices in other formats to a packed file. Matrices are converted one at a time, while they are
 * written: beyond the model, memory holds one of them.
 * @throws SwitchyardError ERR_OPTION for unknown formats, ERR_FORMAT for values that a format cannot hold, ERR_IO
 */
export async function quantizeModel(
  model: LanguageModel,
  path: string,
  options: QuantizeOptions = {},
): Promise<QuantizeReport> {
  checkOptions('quantize', options, OPTIONS);
  const { formats = {}, dropExperts = 0, text, window, dtype = 'auto', signal, onProgress } = options;
  checkRules(formats);
  const count = dropExperts === 0 ? 0 : countToDrop(model.config, dropExperts);
  if (count > 0 && text === undefined)
    throw new SwitchyardError('ERR_OPTION', '[quantize] got experts to drop without a text, expected one', {
      hint: 'a text tells which experts are needed least: --text FILE',
    });
  const scoring = (stage: 'routing' | 'scoring') => ({
    ...(window === undefined ? {} : { window }),
    ...(signal ? { signal } : {}),
    onProgress: ({ tokens, total }: { tokens: number; total: number }): void =>
      onProgress?.({ stage, done: tokens, total }),
  });
  const dropped =
    count > 0 ? chooseDropped(await expertLoads(model, text ?? '', scoring('routing')), count) : null;
  const conversion = new Conversion(model, formats, dropped, signal);
  try {
    await writeModel(
      path,
      { config: conversion.config, tokenizer: model.tokenizer, ...conversion.content },
      {
        ...(signal ? { signal } : {}),
        onProgress: ({ written, total }) => onProgress?.({ stage: 'writing', done: written, total }),
      },
    );
  } finally {
    conversion.dispose();
  }
  const { tensors } = conversion;
  const sum = (key: 'bytesBefore' | 'bytesAfter'): number => tensors.reduce((n, t) => n + t[key], 0);
  return {
    path,
    bytesBefore: sum('bytesBefore'),
    bytesAfter: sum('bytesAfter'),
    fileBytes: statSync(path).size,
    tensors: [...tensors].sort((a, b) => b.error - a.error),
    dropped,
    quality: text === undefined ? null : await measured(),
  };

  async function measured(): Promise<NonNullable<QuantizeReport['quality']>> {
    const { device, settings } = model;
    await using written = await loadLanguageModel(path, {
      device,
      dtype,
      contextLength: settings.contextLength,
    });
    const comparison = await compareModels(model, written, text ?? '', scoring('scoring'));
    return { ...comparison, compute: [model.dtype, written.dtype] };
  }
}

/** One matrix on its way: where it comes from, and which of its experts stay. */
interface Plan {
  readonly part: MatrixPart;
  readonly source: Weight;
  readonly repeated: boolean;
  readonly to: WeightFormat;
  readonly note: string | null;
  /** Experts of the source that are written. */
  readonly experts: readonly number[];
  /** Rows of a router that stay; null: all. */
  readonly rows: readonly number[] | null;
}

/** The experts that stay of those that a part has rows or matrices for; undefined: all. */
function keptExperts(
  { name, role }: { name: string; role: Role },
  keptOf: ReadonlyMap<number, readonly number[]>,
): readonly number[] | undefined {
  const layer = Number(/^layers\.(\d+)\./.exec(name)?.[1] ?? -1);
  return role === 'experts' || role === 'router' ? keptOf.get(layer) : undefined;
}

/** Makes each matrix when its turn to be written comes, and keeps one. */
class Conversion {
  readonly config: DecoderConfig;
  readonly matrices: MatrixToWrite[] = [];
  readonly tensors: QuantizedTensor[] = [];
  readonly #device: Device;
  readonly #parts: PartList;
  readonly #vectors: readonly VectorPart[];
  readonly #plans = new Map<MatrixToWrite, Plan>();
  readonly #abort: NativeAbort;
  readonly #onAbort = (): void => this.#device.addon.abort(this.#abort);
  #current: { readonly matrix: MatrixToWrite; readonly native: NativeWeight } | null = null;

  constructor(
    { decoder, device }: LanguageModel,
    rules: FormatRules,
    dropped: readonly DroppedExperts[] | null,
    readonly signal: AbortSignal | undefined,
  ) {
    const { config } = decoder;
    const left = dropped?.[0]?.kept.length;
    this.config =
      config.moe && left !== undefined ? { ...config, moe: { ...config.moe, nExperts: left } } : config;
    this.#device = device;
    this.#parts = new PartList(decoder);
    this.#abort = device.addon.createAbort();
    const keptOf = new Map(dropped?.map(({ layer, kept }) => [layer, kept]));
    for (const part of this.#parts.matrices) this.#plan(part, rules, keptOf);
    this.#vectors = this.#parts.vectors.map((part) => {
      const kept = keptExperts(part, keptOf);
      return kept ? { ...part, vector: takeRows(part.vector, tensor(Int32Array.from(kept))) } : part;
    });
    signal?.addEventListener('abort', this.#onAbort, { once: true });
  }

  #plan(part: MatrixPart, rules: FormatRules, keptOf: ReadonlyMap<number, readonly number[]>): void {
    const { name, role, matrix: source } = part;
    if (!(source instanceof Weight))
      throw new SwitchyardError(
        'ERR_OPTION',
        `[quantize] got ${name} as a tensor, expected a packed weight`,
        {
          hint: 'save the model and quantise what was saved',
        },
      );
    const { addon } = this.#device;
    const { format: to, note } = formatFor(rules, role, source);
    const { repeated } = addon.weightInfo(source.native);
    const kept = keptExperts(part, keptOf);
    const stay = kept ?? Array.from({ length: source.experts }, (_, e) => e);
    const experts = role === 'router' || repeated ? [0] : stay;
    const rows = role === 'router' && kept ? kept : null;
    const height = rows?.length ?? source.rows;
    const matrix: MatrixToWrite = {
      name,
      format: to,
      experts: role === 'router' ? 1 : stay.length,
      rows: height,
      columns: source.columns,
      repeated,
      bytes: addon.packedBytes(to, experts.length, height, source.columns),
    };
    this.matrices.push(matrix);
    this.#plans.set(matrix, { part, source, repeated, to, note, experts, rows });
  }

  get content(): Pick<ModelContent, 'vectors' | 'matrices' | 'read'> {
    return {
      vectors: this.#vectors,
      matrices: this.matrices,
      read: (matrix, offset, target) => this.read(matrix, offset, target),
    };
  }

  async read(matrix: MatrixToWrite, offset: number, target: Uint8Array): Promise<void> {
    if (this.#current?.matrix !== matrix) {
      this.#release();
      this.#current = { matrix, native: await this.#convert(matrix, this.#plans.get(matrix) as Plan) };
    }
    this.#device.addon.copyWeight(this.#current.native, offset, target);
  }

  dispose(): void {
    this.signal?.removeEventListener('abort', this.#onAbort);
    this.#release();
  }

  #release(): void {
    if (this.#current) this.#device.addon.disposeWeight(this.#current.native);
    this.#current = null;
  }

  async #convert({ name, bytes }: MatrixToWrite, plan: Plan): Promise<NativeWeight> {
    const { addon, native: runtime } = this.#device;
    const { part, source, to, note, experts, rows } = plan;
    const chosen = await this.#chosen(plan);
    const before = chosen ?? source.native;
    let native: NativeWeight | null = null;
    try {
      return await allOrNone(async (keep) => {
        const all = experts.map((_, i) => i);
        native =
          chosen && to === source.format && !rows
            ? chosen
            : await addon.convertWeight(runtime, before, to, all, this.#abort);
        keep(native, addon.disposeWeight);
        let error = 0;
        if (to !== source.format || rows) {
          const sums = await addon.weightError(runtime, native, before, this.#abort);
          error = sums.reference === 0 ? 0 : Math.sqrt(sums.difference / sums.reference);
        }
        this.tensors.push({
          name,
          role: part.role,
          from: source.format,
          to,
          bytesBefore: source.bytes,
          bytesAfter: bytes,
          error,
          note,
        });
        return native;
      });
    } catch (error) {
      if (!(error instanceof SwitchyardError)) throw error;
      const { code, message, hint } = error;
      throw new SwitchyardError(code, `[${name}] ${message}`, hint === undefined ? {} : { hint });
    } finally {
      if (chosen && chosen !== native) addon.disposeWeight(chosen);
    }
  }

  /**
   * The part of the source that stays, in its own format; null: all of it. A router without some of its rows passes through
   * float32.
   */
  async #chosen({ source, experts, rows }: Plan): Promise<NativeWeight | null> {
    const { addon, native: runtime } = this.#device;
    if (!rows && experts.length === source.experts) return null;
    if (!rows) return addon.convertWeight(runtime, source.native, source.format, experts, this.#abort);
    const values = new Float32Array(rows.length * source.columns);
    for (const [i, row] of rows.entries())
      values.set(addon.readWeight(source.native, 0, row, 1), i * source.columns);
    return (await packValues(this.#device, values, rows.length, source.columns)).native;
  }
}
