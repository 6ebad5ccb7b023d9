/** Vectors of texts: ragged batches through an encoder, then one vector for each text. */
import type { Device } from '../core/device.js';
import type { ComputeMode } from '../core/format.js';
import { div, maximum, minimum, mul, sqrt, square } from '../core/ops/elementwise.js';
import { scatterAddRows, takeRows } from '../core/ops/indexing.js';
import { sum } from '../core/ops/reduce.js';
import { slice } from '../core/ops/shape.js';
import { compileOn } from '../core/program/compile.js';
import { type Tensor, tensor } from '../core/tensor.js';
import type { Encoder } from './encoder.js';
import type { Pooling } from './pooling.js';

/** Tokens of a batch are a multiple of this, and texts a power of two, so that programs are few. */
const STEP = 32;
/** Tokens of a batch at most, but for a single longer text. */
const MOST_TOKENS = 2048;
/** What a length is divided by at least: a vector of zeros stays one. */
const SHORTEST = 1e-12;

export class EmbeddingPass {
  readonly #compiled = new Map<Pooling, ReturnType<EmbeddingPass['compile']>>();

  constructor(
    readonly device: Device,
    readonly encoder: Encoder,
    readonly compute: ComputeMode,
  ) {}

  dispose(): void {
    for (const fn of this.#compiled.values()) fn.dispose();
    this.#compiled.clear();
  }

  /** Unit vectors [D], one for each text in their order; a text has a token at least. */
  async run(texts: readonly (readonly number[])[], pooling: Pooling): Promise<Float32Array[]> {
    let fn = this.#compiled.get(pooling);
    if (!fn) {
      fn = this.compile(pooling);
      this.#compiled.set(pooling, fn);
    }
    const vectors: Float32Array[] = [];
    for (const batch of batches(texts)) {
      const { tokens, positions, offsets, textOf, counts } = laidOut(batch);
      const result = await fn(
        tensor(tokens),
        tensor(positions),
        tensor(offsets),
        tensor(textOf),
        tensor(counts, [counts.length, 1]),
      );
      const values = (await result.data()) as Float32Array;
      const width = values.length / counts.length;
      for (let i = 0; i < batch.length; i++) vectors.push(values.slice(i * width, (i + 1) * width));
    }
    return vectors;
  }

  compile(pooling: Pooling) {
    const fn = (
      tokens: Tensor,
      positions: Tensor,
      offsets: Tensor,
      textOf: Tensor,
      counts: Tensor,
    ): Tensor => {
      const texts = counts.shape[0] as number;
      const layout = { offsets, hidden: null, sequences: null };
      const tokenTypes = mul(tokens, 0);
      const { last } = this.encoder.states({ tokens, positions, tokenTypes, layout }, this.compute);
      const pooled =
        pooling === 'mean'
          ? div(scatterAddRows(last, textOf, texts), counts)
          : takeRows(last, minimum(slice(offsets, 0, 0, texts), (tokens.shape[0] as number) - 1));
      return div(pooled, maximum(sqrt(sum(square(pooled), 1, { keepDims: true })), SHORTEST));
    };
    return compileOn(() => this.device, fn, { device: this.device });
  }
}

function* batches(texts: readonly (readonly number[])[]): Generator<(readonly number[])[]> {
  let batch: (readonly number[])[] = [];
  let tokens = 0;
  for (const text of texts) {
    if (batch.length > 0 && tokens + text.length > MOST_TOKENS) {
      yield batch;
      batch = [];
      tokens = 0;
    }
    batch.push(text);
    tokens += text.length;
  }
  if (batch.length > 0) yield batch;
}

/** Texts one after another; tokens of padding belong to none, texts of padding have none. */
function laidOut(batch: readonly (readonly number[])[]) {
  const real = batch.reduce((n, text) => n + text.length, 0);
  const n = Math.ceil(real / STEP) * STEP;
  const [tokens, positions] = [new Int32Array(n), new Int32Array(n)];
  const textOf = new Int32Array(n).fill(-1);
  const rows = 2 ** Math.ceil(Math.log2(batch.length));
  const offsets = new Int32Array(rows + 1).fill(real);
  const counts = new Float32Array(rows).fill(1);
  offsets[0] = 0;
  let at = 0;
  for (const [i, text] of batch.entries()) {
    tokens.set(text, at);
    textOf.fill(i, at, at + text.length);
    for (let t = 0; t < text.length; t++) positions[at + t] = t;
    at += text.length;
    offsets[i + 1] = at;
    counts[i] = text.length;
  }
  return { tokens, positions, offsets, textOf, counts };
}
