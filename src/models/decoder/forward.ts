/** One pass over whole sequences without a cache: what training, scoring and parity tests use. */
import type { Device } from '../../core/device.js';
import { checkOptions, SwitchyardError } from '../../core/errors.js';
import type { ComputeMode } from '../../core/format.js';
import { attention } from '../../core/ops/attention.js';
import { cast, neg } from '../../core/ops/elementwise.js';
import { takeAlong, takeRows, topK } from '../../core/ops/indexing.js';
import { reshape } from '../../core/ops/shape.js';
import { ByKey } from '../../core/program/by-key.js';
import { compileOn } from '../../core/program/compile.js';
import { type Tensor, tensor } from '../../core/tensor.js';
import { loadBalancingLoss } from '../../moe/losses.js';
import type { Attend } from '../../nn/attention.js';
import type { Decoder } from './decoder.js';
import { type PaddedBatch, toRagged } from './ragged.js';

export interface ForwardInputs extends PaddedBatch {
  /** [B]: the first prefixLengths[b] tokens of row b see each other in both directions. */
  prefixLengths?: readonly number[];
  outputHiddenStates?: boolean;
  outputRouting?: boolean;
}

export interface LayerRoutingOutput {
  /** [B, T, E]; zeros at padding */
  readonly routerLogits: Tensor;
  /** i32 [B, T, K], by falling weight, then by index */
  readonly expertIds: Tensor;
  /** [B, T, K] */
  readonly combineWeights: Tensor;
}

export interface ForwardOutput {
  /** [B, T, V]; zeros at padding */
  readonly logits: Tensor;
  /** Embeddings, then each layer's output, the last one after the final norm: [B, T, D]. */
  readonly hiddenStates?: readonly Tensor[];
  /** Per sparse layer. */
  readonly routing?: readonly LayerRoutingOutput[];
  /** Load balancing over all sparse layers and real tokens (see moe.loadBalancingLoss). */
  readonly auxLoss?: Tensor;
}

type Plan = {
  readonly logits: Tensor;
  readonly hiddenStates: readonly Tensor[];
  readonly routing: readonly { readonly [K in keyof LayerRoutingOutput]: Tensor }[];
  readonly auxLoss: readonly Tensor[];
};

/** The choices [N, K] of each token by falling weight, then by index: policies order them by what they chose from. */
function byWeight({ expertIds, combineWeights }: Pick<LayerRoutingOutput, 'expertIds' | 'combineWeights'>) {
  const k = expertIds.shape[1] as number;
  const byIndex = topK(neg(cast(expertIds, 'f32')), k);
  const { values, indices } = topK(takeAlong(combineWeights, byIndex.indices), k);
  return { expertIds: cast(neg(takeAlong(byIndex.values, indices)), 'i32'), combineWeights: values };
}

interface Flags {
  hidden: boolean;
  routing: boolean;
  prefix: boolean;
}

const OPTIONS = [
  'inputIds',
  'attentionMask',
  'positionIds',
  'prefixLengths',
  'outputHiddenStates',
  'outputRouting',
];

/** Runs the decoder on padded batches; programs are kept per number of tokens and rows. */
export class ForwardPass {
  readonly #programs = new ByKey<ReturnType<ForwardPass['compile']>>();

  constructor(
    readonly device: Device,
    readonly decoder: Decoder,
    readonly compute: ComputeMode,
  ) {}

  dispose(): void {
    this.#programs.dispose();
  }

  async run(inputs: ForwardInputs): Promise<ForwardOutput> {
    checkOptions('forward', inputs, OPTIONS);
    const ragged = toRagged(inputs, this.decoder.config.vocabSize);
    const { batch, time } = ragged;
    const prefix = this.#prefix(inputs.prefixLengths, batch);
    const flags = {
      hidden: inputs.outputHiddenStates === true,
      routing: inputs.outputRouting === true,
      prefix: prefix !== null,
    };
    const fn = this.#programs.get(JSON.stringify(flags), () => this.compile(flags));
    const out = await fn(
      tensor(ragged.tokens),
      tensor(ragged.positions),
      tensor(ragged.offsets),
      tensor(ragged.rowOf, [batch, time]),
      tensor(prefix ?? new Int32Array(0)),
    );
    return {
      logits: out.logits,
      ...(flags.hidden ? { hiddenStates: out.hiddenStates } : {}),
      ...(flags.routing ? { routing: out.routing } : {}),
      ...(out.auxLoss[0] ? { auxLoss: out.auxLoss[0] } : {}),
    };
  }

  compile(flags: Flags) {
    const fn = (tokens: Tensor, positions: Tensor, offsets: Tensor, rowOf: Tensor, prefix: Tensor): Plan => {
      const [batch, time] = rowOf.shape as [number, number];
      const attend: Attend = (q, k, v, options) =>
        attention(q, k, v, offsets, offsets, { ...options, prefix: flags.prefix ? prefix : null });
      const out = this.decoder.forward({ tokens, positions, attend: () => attend }, this.compute);
      const padded = (t: Tensor): Tensor =>
        reshape(takeRows(t, reshape(rowOf, [batch * time])), [batch, time, ...t.shape.slice(1)]);
      const routing = flags.routing ? out.routing : [];
      return {
        logits: padded(out.logits),
        hiddenStates: flags.hidden ? out.hiddenStates.map(padded) : [],
        routing: routing.map(({ routerLogits, ...choice }) => {
          const { expertIds, combineWeights } = byWeight(choice);
          return {
            routerLogits: padded(routerLogits),
            expertIds: padded(expertIds),
            combineWeights: padded(combineWeights),
          };
        }),
        auxLoss: routing.length > 0 ? [loadBalancingLoss(routing)] : [],
      };
    };
    return compileOn(() => this.device, fn, { device: this.device });
  }

  #prefix(lengths: readonly number[] | undefined, batch: number): Int32Array | null {
    if (!lengths) return null;
    if (lengths.length !== batch || !lengths.every((n) => Number.isInteger(n) && n >= 0)) {
      throw new SwitchyardError(
        'ERR_OPTION',
        `[forward] got prefixLengths [${lengths.join(', ')}], expected ${batch} whole numbers ≥ 0`,
      );
    }
    return Int32Array.from(lengths);
  }
}
