/** Vectors of texts: ragged batches through an encoder, then one vector for each text. */
import type { Device } from '../../core/device.js';
import type { ComputeMode } from '../../core/format.js';
import { add, cast, div, full, less, minimum, mul, sqrt, sub, where } from '../../core/ops/elementwise.js';
import { scatterAddRows, takeRows } from '../../core/ops/indexing.js';
import { max } from '../../core/ops/reduce.js';
import { concat, reshape, slice } from '../../core/ops/shape.js';
import { ByKey } from '../../core/program/by-key.js';
import { compileOn } from '../../core/program/compile.js';
import { type Tensor, tensor } from '../../core/tensor.js';
import type { EmbeddingSteps } from './embedding-steps.js';
import type { Encoder } from './encoder.js';
import type { Pooling } from './pooling.js';

/** Tokens of a batch are a multiple of this, and texts a power of two, so that programs are few. */
const STEP = 32;
/** Tokens of a batch at most, but for a single longer text. */
const MOST_TOKENS = 2048;

/** Ids of a text, and the segment of each; null: all are of the first. */
export interface SegmentedText {
  readonly ids: readonly number[];
  readonly types: readonly number[] | null;
}

/** Where the tokens of a batch's texts lie. */
interface Places {
  /** i32 [S+1] */
  readonly offsets: Tensor;
  /** i32 [N]: the text of each token; -1: padding. */
  readonly textOf: Tensor;
  /** i32 [N] */
  readonly positions: Tensor;
  /** [S, 1]: tokens of each text, 1 for padding. */
  readonly counts: Tensor;
  /** i32 [S, T]: the tokens of each text, -1 behind its last; null where no pooling asks for it. */
  readonly grid: Tensor | null;
}

/** Below every state; sentence-transformers takes it too. */
const LOWEST = -1e9;

/** states [N, D] → [S, D] */
const RULES: Readonly<Record<Pooling, (states: Tensor, at: Places) => Tensor>> = {
  cls: (states, at) => takeRows(states, ends(states, at, 0)),
  lasttoken: (states, at) => takeRows(states, sub(ends(states, at, 1), 1)),
  mean: (states, { textOf, counts }) => div(scatterAddRows(states, textOf, rowsOf(counts)), counts),
  mean_sqrt_len_tokens: (states, { textOf, counts }) =>
    div(scatterAddRows(states, textOf, rowsOf(counts)), sqrt(counts)),
  weightedmean: (states, { textOf, positions, counts }) => {
    const weights = reshape(cast(add(positions, 1), 'f32'), [rowsOf(states), 1]);
    const total = mul(mul(counts, add(counts, 1)), 0.5);
    return div(scatterAddRows(mul(states, weights), textOf, rowsOf(counts)), total);
  },
  max: (states, { grid }) => {
    const [texts, longest] = (grid as Tensor).shape as [number, number];
    const flat = reshape(grid as Tensor, [texts * longest]);
    const missing = reshape(less(flat, 0), [texts * longest, 1]);
    const rows = where(missing, full([], LOWEST), takeRows(states, flat));
    return max(reshape(rows, [texts, longest, states.shape[1] as number]), 1);
  },
};

const rowsOf = (t: Tensor): number => t.shape[0] as number;

/** The first token of each text, or the one behind its last, within the batch where a text of padding has none. */
function ends(states: Tensor, { offsets, counts }: Places, behind: 0 | 1): Tensor {
  const texts = rowsOf(counts);
  return minimum(slice(offsets, 0, behind, texts + behind), rowsOf(states) - 1 + behind);
}

export class EmbeddingPass {
  readonly #programs = new ByKey<ReturnType<EmbeddingPass['compile']>>();

  constructor(
    readonly device: Device,
    readonly encoder: Encoder,
    readonly steps: EmbeddingSteps,
    readonly compute: ComputeMode,
  ) {}

  dispose(): void {
    this.#programs.dispose();
    this.steps.dispose();
  }

  /** Unit vectors, one for each text in their order; a text has a token at least. */
  async run(texts: readonly SegmentedText[], poolings: readonly Pooling[]): Promise<Float32Array[]> {
    const fn = this.#programs.get(poolings.join(), () => this.compile(poolings));
    const vectors: Float32Array[] = [];
    for (const batch of batches(texts)) {
      const { tokens, types, positions, offsets, textOf, counts } = laidOut(batch);
      const grid = poolings.includes('max') ? gridOf(batch, offsets) : tensor(new Int32Array(0));
      const result = await fn(
        tensor(tokens),
        tensor(types),
        tensor(positions),
        tensor(offsets),
        tensor(textOf),
        tensor(counts, [counts.length, 1]),
        grid,
      );
      const values = (await result.data()) as Float32Array;
      const width = values.length / counts.length;
      for (let i = 0; i < batch.length; i++) vectors.push(values.slice(i * width, (i + 1) * width));
    }
    return vectors;
  }

  compile(poolings: readonly Pooling[]) {
    const fn = (
      tokens: Tensor,
      tokenTypes: Tensor,
      positions: Tensor,
      offsets: Tensor,
      textOf: Tensor,
      counts: Tensor,
      grid: Tensor,
    ): Tensor => {
      const layout = { offsets, hidden: null, sequences: null };
      const { last } = this.encoder.states({ tokens, positions, tokenTypes, layout }, this.compute);
      const places = { offsets, textOf, positions, counts, grid: grid.size > 0 ? grid : null };
      const pooled = poolings.map((pooling) => RULES[pooling](last, places));
      return this.steps.forward(
        pooled.length === 1 ? (pooled[0] as Tensor) : concat(pooled, 1),
        this.compute,
      );
    };
    return compileOn(() => this.device, fn, { device: this.device });
  }
}

function* batches(texts: readonly SegmentedText[]): Generator<SegmentedText[]> {
  let batch: SegmentedText[] = [];
  let tokens = 0;
  for (const text of texts) {
    if (batch.length > 0 && tokens + text.ids.length > MOST_TOKENS) {
      yield batch;
      batch = [];
      tokens = 0;
    }
    batch.push(text);
    tokens += text.ids.length;
  }
  if (batch.length > 0) yield batch;
}

/** Texts one after another; tokens of padding belong to none, texts of padding have none. */
function laidOut(batch: readonly SegmentedText[]) {
  const real = batch.reduce((n, { ids }) => n + ids.length, 0);
  const n = Math.ceil(real / STEP) * STEP;
  const [tokens, types, positions] = [new Int32Array(n), new Int32Array(n), new Int32Array(n)];
  const textOf = new Int32Array(n).fill(-1);
  const rows = 2 ** Math.ceil(Math.log2(batch.length));
  const offsets = new Int32Array(rows + 1).fill(real);
  const counts = new Float32Array(rows).fill(1);
  offsets[0] = 0;
  let at = 0;
  for (const [i, { ids: text, types: segments }] of batch.entries()) {
    tokens.set(text, at);
    if (segments) types.set(segments, at);
    textOf.fill(i, at, at + text.length);
    for (let t = 0; t < text.length; t++) positions[at + t] = t;
    at += text.length;
    offsets[i + 1] = at;
    counts[i] = text.length;
  }
  return { tokens, types, positions, offsets, textOf, counts };
}

/** The places of each text's tokens, a row each. */
function gridOf(batch: readonly SegmentedText[], offsets: Int32Array): Tensor {
  const rows = offsets.length - 1;
  const longest = Math.ceil(Math.max(...batch.map(({ ids }) => ids.length)) / STEP) * STEP;
  const grid = new Int32Array(rows * longest).fill(-1);
  for (const [i, { ids }] of batch.entries())
    for (let t = 0; t < ids.length; t++) grid[i * longest + t] = (offsets[i] as number) + t;
  return tensor(grid, [rows, longest]);
}
