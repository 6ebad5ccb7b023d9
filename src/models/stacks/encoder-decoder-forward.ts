/** One pass of an encoder-decoder over padded batches, without a cache. */
import type { Device } from '../../core/device.js';
import { checkOptions, mismatch } from '../../core/errors.js';
import type { ComputeMode } from '../../core/format.js';
import { concat, reshape } from '../../core/ops/shape.js';
import { ByKey } from '../../core/program/by-key.js';
import { compileOn } from '../../core/program/compile.js';
import { type Tensor, tensor } from '../../core/tensor.js';
import { routerZLoss, sequenceBalanceLoss } from '../../moe/losses.js';
import type { SparsePlan } from '../../moe/plan.js';
import type { LayerRoutingOutput } from '../decoder/forward.js';
import type { EncoderDecoder } from './encoder-decoder.js';
import { backwards, type Layout, realOf, toMemory } from './layout.js';
import { type Padded, toPadded } from './padded.js';
import type { StackConfig } from './stack-config.js';

export interface EncoderDecoderForwardInputs {
  /** [B][S] token ids of the encoder. */
  inputIds: readonly (readonly number[])[];
  /** [B][S], 1 for real tokens. Default: all real. */
  attentionMask?: readonly (readonly number[])[];
  /** [B][T] token ids of the decoder, the start token first. */
  decoderInputIds: readonly (readonly number[])[];
  /** [B][T]. Default: all real. */
  decoderAttentionMask?: readonly (readonly number[])[];
  outputHiddenStates?: boolean;
  outputRouting?: boolean;
}

const OPTIONS = [
  'inputIds',
  'attentionMask',
  'decoderInputIds',
  'decoderAttentionMask',
  'outputHiddenStates',
  'outputRouting',
];

export interface EncoderDecoderOutput {
  /** [B, T, V] */
  readonly logits: Tensor;
  /** [B, S, D] */
  readonly encoderLastHiddenState: Tensor;
  /** What enters the first layer, then each layer's output, the last one after the final norm: [B, S, D]. */
  readonly encoderHiddenStates?: readonly Tensor[];
  /** [B, T, D] */
  readonly decoderHiddenStates?: readonly Tensor[];
  /** Per sparse layer; -1 for a token whose expert was full. */
  readonly encoderRouting?: readonly LayerRoutingOutput[];
  readonly decoderRouting?: readonly LayerRoutingOutput[];
  /** The Switch loss of each sequence over all sparse layers, meaned; padding counts as tokens (Fedus et al. 2021, eq. 4-6). */
  readonly encoderAuxLoss?: Tensor;
  readonly decoderAuxLoss?: Tensor;
  /** Mean of logsumexp(router logits)² over tokens and sparse layers (Zoph et al. 2022, eq. 5). */
  readonly encoderZLoss?: Tensor;
  readonly decoderZLoss?: Tensor;
}

interface Flags {
  readonly hidden: boolean;
  readonly routing: boolean;
  /** Whether the encoder's and the decoder's rows have padding. */
  readonly masked: readonly [boolean, boolean];
}

/** Runs both stacks; programs are kept per numbers of rows and tokens. */
export class EncoderDecoderPass {
  readonly #programs = new ByKey<ReturnType<EncoderDecoderPass['compile']>>();

  constructor(
    readonly device: Device,
    readonly model: EncoderDecoder,
    readonly compute: ComputeMode,
  ) {}

  dispose(): void {
    this.#programs.dispose();
  }

  async run(inputs: EncoderDecoderForwardInputs): Promise<EncoderDecoderOutput> {
    checkOptions('forward', inputs, OPTIONS);
    const { inputIds, attentionMask, decoderInputIds, decoderAttentionMask } = inputs;
    if (!decoderInputIds)
      throw mismatch('ERR_OPTION', 'forward', 'no decoderInputIds', 'the tokens of the decoder', {
        hint: `begin each row with ${this.model.config.startId}, the model's start token`,
      });
    const { encoder, decoder } = this.model.config;
    const source = this.#padded(encoder, ['inputIds', 'attentionMask'], inputIds, attentionMask);
    const names = ['decoderInputIds', 'decoderAttentionMask'] as const;
    const target = this.#padded(decoder, names, decoderInputIds, decoderAttentionMask);
    if (source.batch !== target.batch)
      throw mismatch('ERR_SHAPE', 'forward', `${target.batch} rows of decoderInputIds`, `${source.batch}`);
    const flags: Flags = {
      hidden: inputs.outputHiddenStates === true,
      routing: inputs.outputRouting === true,
      masked: [source.hidden !== null, target.hidden !== null],
    };
    const fn = this.#programs.get(JSON.stringify(flags), () => this.compile(flags));
    const out = await fn(given(source), given(target));
    const [encoderSide, decoderSide] = [out.encoder, out.decoder];
    const [encoderLosses, decoderLosses] = [encoderSide.losses[0], decoderSide.losses[0]];
    return {
      logits: out.logits,
      encoderLastHiddenState: encoderSide.last,
      ...(flags.hidden
        ? { encoderHiddenStates: encoderSide.hiddenStates, decoderHiddenStates: decoderSide.hiddenStates }
        : {}),
      ...(flags.routing ? { encoderRouting: encoderSide.routing, decoderRouting: decoderSide.routing } : {}),
      ...(encoderLosses ? { encoderAuxLoss: encoderLosses.aux, encoderZLoss: encoderLosses.z } : {}),
      ...(decoderLosses ? { decoderAuxLoss: decoderLosses.aux, decoderZLoss: decoderLosses.z } : {}),
    };
  }

  compile({ hidden, routing, masked }: Flags) {
    const { model, compute } = this;
    const fn = (source: Given, target: Given) => {
      const [from, to] = [layoutOf(source, masked[0]), layoutOf(target, masked[1])];
      const encoded = model.encode(
        { tokens: flat(source.ids), positions: source.positions, layout: from, real: realOf(from) },
        compute,
      );
      const memory = model.memory(encoded.last, compute);
      const decoded = model.decode(
        {
          tokens: flat(target.ids),
          positions: target.positions,
          attend: () => backwards(to),
          attendMemory: (i) => toMemory(to, from, memory[i] as (typeof memory)[0]),
          sequences: to.sequences,
          real: realOf(to),
        },
        compute,
      );
      const side = (ids: Tensor, out: typeof encoded) => {
        const grid = (t: Tensor): Tensor => reshape(t, [...ids.shape, ...t.shape.slice(1)]);
        const plans = routing ? out.routing : [];
        return {
          last: grid(out.last),
          hiddenStates: hidden ? out.hiddenStates.map(grid) : [],
          routing: plans.map(({ routerLogits, expertIds, combineWeights }) => ({
            routerLogits: grid(routerLogits),
            expertIds: grid(expertIds),
            combineWeights: grid(combineWeights),
          })),
          losses: plans.length > 0 ? [lossesOf(plans, ids.shape[0] as number)] : [],
        };
      };
      const logits = reshape(decoded.logits, [...target.ids.shape, model.config.vocabSize]);
      return { logits, encoder: side(source.ids, encoded), decoder: side(target.ids, decoded) };
    };
    return compileOn(() => this.device, fn, { device: this.device });
  }

  #padded(
    stack: StackConfig,
    names: readonly [string, string],
    ids: readonly (readonly number[])[],
    mask: readonly (readonly number[])[] | undefined,
  ): Padded {
    const { vocabSize, maxSeqLen } = this.model.config;
    const countReal = stack.sinusoids !== null;
    return toPadded({ ids, mask }, { names, vocabSize, longest: maxSeqLen, countReal });
  }
}

/** One stack's inputs as tensors. */
type Given = {
  /** i32 [B, T] */
  readonly ids: Tensor;
  readonly positions: Tensor;
  readonly offsets: Tensor;
  readonly hides: Tensor;
};

const given = ({ batch, time, tokens, positions, offsets, hidden }: Padded): Given => ({
  ids: tensor(tokens, [batch, time]),
  positions: tensor(positions),
  offsets: tensor(offsets),
  hides: tensor(hidden ?? new Float32Array(0)),
});

const flat = (t: Tensor): Tensor => reshape(t, [t.size]);

const layoutOf = ({ ids, offsets, hides }: Given, masked: boolean): Layout => ({
  offsets,
  hidden: masked ? hides : null,
  sequences: ids.shape[0] as number,
});

/** Over the tokens of all layers of a sequence together, meaned over sequences. */
function lossesOf(plans: readonly SparsePlan[], batch: number): { aux: Tensor; z: Tensor } {
  const joined = (of: (plan: SparsePlan) => Tensor): Tensor => {
    const parts = plans.map((plan) => {
      const t = of(plan);
      return reshape(t, [batch, t.size / batch / (t.shape[1] as number), t.shape[1] as number]);
    });
    const all = concat(parts, 1); // [B, L·T, E]
    return reshape(all, [all.size / (all.shape[2] as number), all.shape[2] as number]);
  };
  const choices = {
    probabilities: joined((p) => p.probabilities),
    expertIds: joined((p) => p.wishedIds),
  };
  return { aux: sequenceBalanceLoss(choices, batch), z: routerZLoss(joined((p) => p.routerLogits)) };
}
