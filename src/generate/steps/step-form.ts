/** What decides the program of a step, that program, and how its outputs are read. */
import { setImmediate as turn } from 'node:timers/promises';
import type { NativeBuffer } from '../../core/addon.js';
import type { Device } from '../../core/device.js';
import type { ComputeMode } from '../../core/format.js';
import { logSoftmax } from '../../core/ops/norm.js';
import { processLogits, sample, tokenLogprobs } from '../../core/ops/sampling.js';
import { concat, identity } from '../../core/ops/shape.js';
import { BoundProgram } from '../../core/program/bound.js';
import type { Tensor } from '../../core/tensor.js';
import type { KvCache } from '../../nn/kv-cache.js';
import type { ExpertCache } from './expert-cache.js';
import type { Choice } from './sampling.js';
import {
  attendOver,
  attendOverMemory,
  choicesOfStep,
  fedTokens,
  type StepSizes,
  type StepValues,
  stepInputs,
} from './step-inputs.js';
import type { StepModel } from './step-model.js';
import { type LikelyTensors, withLikely } from './top-tokens.js';

export interface StepForm {
  readonly tokens: number;
  readonly rows: number;
  readonly sampled: number;
  /** Words of the chains and histories. */
  readonly words: number;
  /** Some sequence has a prefix. */
  readonly prefix: boolean;
  readonly routing: boolean;
  readonly logits: boolean;
  readonly scores: boolean;
  readonly hidden: boolean;
  /** Likeliest tokens behind each choice; -1: not even ranks. */
  readonly top: number;
}

export interface StepOutput {
  /** For each row with a sampling, in order; its earlier ones first. */
  readonly results: Choice[];
  /** Per sparse layer, i32 [N, K] of the tokens fed, in order. */
  readonly experts: Int32Array[];
  /** f32 [results, V], if asked for. */
  readonly logits: Float32Array | null;
  /** f32 [results, V]: log-probabilities, processed, if asked for. */
  readonly scores: Float32Array | null;
  /** f32 [N, D] of the tokens fed, if asked for. */
  readonly hidden: Float32Array | null;
}

/**
 * What a program with choices brings back, the ranks and likeliest tokens where its form says so; and, also without choices, the
 * experts that its tokens met, i32 [sparse layers · N, K], where an expert cache wants to know.
 */
type Choices = { readonly [name in 'tokens' | 'logprobs' | 'chosen']: Tensor } & LikelyTensors & {
    readonly met?: Tensor;
  };
export type FormedProgram = BoundProgram<StepValues<Tensor>, Choices>;
/** Two that take turns, so that the next step may be filled while one runs; the same one twice where it is not. */
export type StepPrograms = readonly [FormedProgram, FormedProgram];

/** What steps of all forms run on. */
export interface StepBase {
  readonly device: Device;
  readonly model: StepModel;
  readonly compute: ComputeMode;
  readonly cache: KvCache;
  readonly contextLength: number;
  /** What the model attends over besides. */
  readonly memory: { readonly cache: KvCache } | null;
  /** Gets to know which experts were chosen; null: all lie in one place. */
  readonly experts: ExpertCache | null;
  /** Where a step leaves its choices for the next one, i32 [MAX_CHUNK] twice; null: each waits for the one before. */
  readonly carried: readonly [NativeBuffer, NativeBuffer] | null;
}

/** Such steps have the same program. */
export const sameForm = (a: StepForm, b: StepForm): boolean =>
  a.tokens === b.tokens &&
  a.rows === b.rows &&
  a.sampled === b.sampled &&
  a.words === b.words &&
  a.prefix === b.prefix &&
  a.routing === b.routing &&
  a.logits === b.logits &&
  a.scores === b.scores &&
  a.hidden === b.hidden &&
  a.top === b.top;

export async function buildStep(base: StepBase, form: StepForm): Promise<StepPrograms> {
  const { device, model, compute, cache, contextLength, memory, experts, carried } = base;
  const sizes: StepSizes = { ...form, contextLength, memory: memory !== null };
  const inputs = stepInputs(sizes);
  const before = choicesOfStep();
  const out = model.forward(
    {
      tokens: carried ? fedTokens(inputs.tokens, before) : inputs.tokens,
      positions: inputs.positions,
      attend: (layer) => attendOver(cache, layer, inputs),
      attendMemory: (layer) => attendOverMemory(memory?.cache as KvCache, layer, inputs),
      rows: inputs.picked,
    },
    compute,
  );
  const chains = { rows: inputs.chains, data: inputs.data };
  const large: Tensor[] = [];
  let results: Partial<Choices> = {};
  let left: Tensor | null = null;
  if (form.sampled > 0) {
    const choice = sample({ logits: out.logits, ...chains });
    left = identity(choice.tokens);
    const likely = form.top >= 0 ? tokenLogprobs(out.logits, choice.tokens, { n: form.top }) : {};
    results = { ...likely, ...choice };
    if (form.logits) large.push(out.logits);
    if (form.scores) large.push(processLogits({ logits: logSoftmax(out.logits), ...chains }));
  } else {
    large.push(...out.hiddenStates.slice(-1)); // keeps the cache writes of all layers alive
  }
  if (form.hidden) large.push(model.normed(out.hiddenStates.at(-1) as Tensor));
  if (form.routing) large.push(...out.routing.map((r) => r.expertIds));
  if (experts) results = { ...results, met: concat(out.routing.map((r) => r.expertIds)) };
  await turn();
  if (carried)
    return BoundProgram.pair(device, inputs, results as Choices, large, { before, left, buffers: carried });
  const program = await BoundProgram.build(device, inputs, results as Choices, large);
  return [program, program];
}

/**
 * Reads what a step gave and disposes of the buffers.
 * @param real tokens that were fed
 * @param sampled choices that were asked for
 */
export function readStep(
  { device, model: { vocabSize, dModel, topK } }: StepBase,
  form: StepForm,
  program: FormedProgram,
  large: readonly NativeBuffer[],
  { real, sampled }: { real: number; sampled: number },
): StepOutput {
  const { addon } = device;
  const { ints, floats } = program.results;
  const results: Choice[] = [];
  for (let i = 0; i < sampled; i++) {
    const choice = {
      token: ints.tokens[i] as number,
      logprob: floats.logprobs[i] as number,
      chosen: floats.chosen[i] as number,
    };
    results.push(form.top < 0 ? choice : withLikely(choice, program.results, form.top, i));
  }
  let at = form.sampled > 0 ? 0 : 1;
  const next = <T extends Float32Array | Int32Array>(array: T): T => {
    addon.readBuffer(large[at++] as NativeBuffer, array);
    return array;
  };
  try {
    const logits = form.logits ? next(new Float32Array(sampled * vocabSize)) : null;
    const scores = form.scores ? next(new Float32Array(sampled * vocabSize)) : null;
    const hidden = form.hidden ? next(new Float32Array(real * dModel)) : null;
    const experts: Int32Array[] = [];
    while (form.routing && at < large.length) experts.push(next(new Int32Array(real * topK)));
    return { results, experts, logits, scores, hidden };
  } finally {
    for (const buffer of large) addon.disposeBuffer(buffer);
  }
}
