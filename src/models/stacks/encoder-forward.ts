/** One pass of an encoder over padded batches. */
import type { Device } from '../../core/device.js';
import { checkOptions, mismatch, SwitchyardError } from '../../core/errors.js';
import type { ComputeMode } from '../../core/format.js';
import { reshape } from '../../core/ops/shape.js';
import { ByKey } from '../../core/program/by-key.js';
import { compileOn } from '../../core/program/compile.js';
import { type Tensor, tensor } from '../../core/tensor.js';
import type { Encoder } from './encoder.js';
import { flatGrid, type Padded, toPadded } from './padded.js';

export interface EncoderForwardInputs {
  /** [B][T] token ids. */
  inputIds: readonly (readonly number[])[];
  /** [B][T], 1 for real tokens. Default: all real. */
  attentionMask?: readonly (readonly number[])[];
  /** [B][T]: the segment of each token. Default 0. */
  tokenTypeIds?: readonly (readonly number[])[];
  outputHiddenStates?: boolean;
}

const OPTIONS = ['inputIds', 'attentionMask', 'tokenTypeIds', 'outputHiddenStates'];

interface Results {
  /** [B, T, D]: the last layer's output. What stands at padding means nothing. */
  readonly lastHiddenState: Tensor;
  /** Embeddings, then each layer's output: [B, T, D]. */
  readonly hiddenStates?: readonly Tensor[];
  /** [B, D]: the first token through the pooler, where the model has one. */
  readonly poolerOutput?: Tensor;
  /** Of classes, [B, C] or [B, T, C], where the model is a classifier. */
  readonly probabilities?: Tensor;
}

/** What an encoder gives. */
export class EncoderOutput implements Results {
  readonly lastHiddenState: Tensor;
  declare readonly hiddenStates?: readonly Tensor[];
  declare readonly poolerOutput?: Tensor;
  declare readonly probabilities?: Tensor;
  readonly #logits: Tensor | null;

  constructor(results: Results, logits: Tensor | null) {
    this.lastHiddenState = results.lastHiddenState;
    Object.assign(this, results);
    this.#logits = logits;
  }

  /** [B, T, V] of masked words, [B, C] of a classifier of texts, [B, T, C] of tokens. @throws ERR_UNSUPPORTED without a head */
  get logits(): Tensor {
    if (this.#logits) return this.#logits;
    throw new SwitchyardError(
      'ERR_UNSUPPORTED',
      '[forward] got a model without a head, expected one that gives logits',
      { hint: 'read lastHiddenState, or use embed()' },
    );
  }
}

/** Runs the encoder; programs are kept per number of rows and tokens. */
export class EncoderPass {
  readonly #programs = new ByKey<ReturnType<EncoderPass['compile']>>();

  constructor(
    readonly device: Device,
    readonly encoder: Encoder,
    readonly compute: ComputeMode,
  ) {}

  dispose(): void {
    this.#programs.dispose();
  }

  async run(inputs: EncoderForwardInputs): Promise<EncoderOutput> {
    checkOptions('forward', inputs, OPTIONS);
    const { vocabSize, maxSeqLen, tokenTypes } = this.encoder.config;
    const padded = toPadded(
      { ids: inputs.inputIds, mask: inputs.attentionMask },
      {
        names: ['inputIds', 'attentionMask'],
        vocabSize,
        longest: maxSeqLen,
        countReal: this.encoder.config.stack.sinusoids !== null,
      },
    );
    const types = typesOf(inputs.tokenTypeIds, padded, tokenTypes);
    const hidden = inputs.outputHiddenStates === true;
    const masked = padded.hidden !== null;
    const fn = this.#programs.get(`${hidden} ${masked}`, () => this.compile(hidden, masked));
    const grid = [padded.batch, padded.time];
    const out = await fn(
      tensor(padded.tokens, grid),
      tensor(padded.positions),
      tensor(types),
      tensor(padded.offsets),
      tensor(padded.hidden ?? new Float32Array(0)),
    );
    const results: Results = {
      lastHiddenState: out.last,
      ...(hidden ? { hiddenStates: out.hiddenStates } : {}),
      ...(out.pooled[0] ? { poolerOutput: out.pooled[0] } : {}),
      ...(out.probabilities[0] ? { probabilities: out.probabilities[0] } : {}),
    };
    return new EncoderOutput(results, out.logits[0] ?? null);
  }

  compile(hidden: boolean, masked: boolean) {
    const fn = (ids: Tensor, positions: Tensor, types: Tensor, offsets: Tensor, hides: Tensor) => {
      const [batch, time] = ids.shape as [number, number];
      const first = tensor(Int32Array.from({ length: batch }, (_, b) => b * time));
      const layout = { offsets, hidden: masked ? hides : null, sequences: batch };
      const tokens = reshape(ids, [batch * time]);
      const out = this.encoder.forward({ tokens, positions, tokenTypes: types, layout, first }, this.compute);
      const grid = (t: Tensor): Tensor => reshape(t, [batch, time, ...t.shape.slice(1)]);
      // scores of a text are [B, C] already
      const scores = (t: Tensor | null): Tensor[] =>
        t === null ? [] : [this.encoder.parts.head?.kind === 'sequence-classification' ? t : grid(t)];
      return {
        last: grid(out.last),
        hiddenStates: hidden ? out.hiddenStates.map(grid) : [],
        pooled: out.pooled ? [out.pooled] : [],
        logits: scores(out.logits),
        probabilities: scores(out.probabilities),
      };
    };
    return compileOn(() => this.device, fn, { device: this.device });
  }
}

function typesOf(
  rows: EncoderForwardInputs['tokenTypeIds'],
  { batch, time }: Padded,
  count: number,
): Int32Array {
  if (!rows) return new Int32Array(batch * time);
  const types = flatGrid('tokenTypeIds', rows, batch, time);
  const odd = types.find((t) => !Number.isInteger(t) || t < 0 || t >= Math.max(1, count));
  if (odd !== undefined)
    throw mismatch(
      'ERR_OPTION',
      'forward',
      `token type ${odd}`,
      `a whole number below ${Math.max(1, count)}`,
    );
  return Int32Array.from(types);
}
