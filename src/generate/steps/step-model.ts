/** What a step engine runs: a decoder, or the decoder of an encoder-decoder over what its encoder gave. */
import type { ComputeMode } from '../../core/format.js';
import { less } from '../../core/ops/elementwise.js';
import { iota, slice } from '../../core/ops/shape.js';
import type { Tensor } from '../../core/tensor.js';
import { cacheWidths } from '../../models/decoder/config.js';
import type { Decoder } from '../../models/decoder/decoder.js';
import type { EncoderDecoder } from '../../models/stacks/encoder-decoder.js';
import { MoELayer } from '../../moe/layer.js';
import type { SparsePlan } from '../../moe/plan.js';
import type { SplitExperts } from '../../moe/split-experts.js';
import type { Attend } from '../../nn/attention.js';
import type { AttendMemory } from '../../nn/cross-attention.js';
import type { KvWidths } from '../../nn/kv-cache.js';

export interface StepInputs {
  /** i32 [N] */
  readonly tokens: Tensor;
  /** i32 [N] */
  readonly positions: Tensor;
  /** How layer `index` mixes values over the cache. */
  attend(index: number): Attend;
  /** How layer `index` mixes values of the memory, where the model has one. */
  attendMemory(index: number): AttendMemory;
  /** i32 [M]: the rows that get logits. */
  readonly rows: Tensor;
}

export interface StepModel {
  readonly vocabSize: number;
  /** Numbers of a hidden state. */
  readonly dModel: number;
  /** Experts that a token meets in a sparse layer; 0 without. */
  readonly topK: number;
  /** What each layer keeps of a token. */
  readonly cache: readonly KvWidths[];
  /** Places on a GPU of the experts of each sparse layer; null: it has none. */
  readonly splits: readonly (SplitExperts | null)[];
  /** How tokens become a memory that steps attend over; null: steps have none. */
  readonly memory: MemoryModel | null;
  forward(
    inputs: StepInputs,
    compute: ComputeMode,
  ): { logits: Tensor; hiddenStates: readonly Tensor[]; routing: readonly SparsePlan[] };
  /** The last of `hiddenStates` after the final norm: what the head sees, of all tokens. */
  normed(last: Tensor): Tensor;
}

export interface MemoryModel {
  /** What each layer keeps of a token of the memory. */
  readonly cache: readonly KvWidths[];
  /** Several texts may be encoded together. */
  readonly ragged: boolean;
  /** How many tokens there are counts: none may be put behind a text. */
  readonly exact: boolean;
  /** tokens, positions i32 [N], offsets i32 [S+1] → keys and values of each layer, [N, H, C] */
  encode(
    inputs: { tokens: Tensor; positions: Tensor; offsets: Tensor },
    compute: ComputeMode,
  ): readonly { k: Tensor; v: Tensor }[];
}

export const decoderSteps = (decoder: Decoder): StepModel => ({
  vocabSize: decoder.config.vocabSize,
  dModel: decoder.config.dModel,
  topK: decoder.config.moe?.topK ?? 0,
  // layers that predict further ahead have a cache where they are used (draft-head.ts)
  cache: cacheWidths(decoder.config),
  splits: decoder.parts.layers.flatMap(({ feedForward }) =>
    feedForward instanceof MoELayer ? [feedForward.parameters.experts.split ?? null] : [],
  ),
  memory: null,
  forward: ({ tokens, positions, attend, rows }, compute) =>
    decoder.forward({ tokens, positions, attend, rows }, compute),
  normed: (last) => decoder.parts.finalNorm?.forward(last) ?? last,
});

export function encoderDecoderSteps(model: EncoderDecoder): StepModel {
  const { vocabSize, encoder, decoder } = model.config;
  const { nLayers, nHeads, headDim } = decoder;
  const widths = Array.from({ length: nLayers }, () => ({ heads: nHeads, key: headDim, value: headDim }));
  // places of an expert are counted in one text
  const ragged = encoder.capacity === null || encoder.moe === null;
  return {
    vocabSize,
    dModel: decoder.dModel,
    topK: decoder.moe?.topK ?? 0,
    cache: widths,
    splits: [],
    memory: {
      cache: widths,
      ragged,
      exact: !ragged && encoder.capacity?.slots === undefined,
      encode({ tokens, positions, offsets }, compute) {
        const all = offsets.shape[0] as number;
        const end = slice(offsets, 0, all - 1);
        const real = less(iota(tokens.shape), end);
        const layout = { offsets, hidden: null, sequences: ragged ? null : 1 };
        const { last } = model.encode({ tokens, positions, layout, real }, compute);
        return model.memory(last, compute);
      },
    },
    forward: (inputs, compute) => model.decode({ ...inputs, sequences: null, real: null }, compute),
    normed: (last) => model.parts.decoder.parts.finalNorm?.forward(last) ?? last,
  };
}
