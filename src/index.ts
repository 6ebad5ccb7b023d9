/** Switchyard's public names. */
import { mismatch } from './core/errors.js';
import * as coreOps from './core/ops/index.js';
import type { LanguageModel } from './generate/handles/language-model.js';
import { type AnyModel, loadModel } from './generate/handles/load-model.js';
import * as modelNames from './models/index.js';
import type { SaveOptions } from './models/packed/save.js';
import type { UpcycleOptions } from './models/upcycle.js';

export { grad, valueAndGrad } from './core/autograd.js';
export { compile, runtimeInt } from './core/compile.js';
export { Device, type DeviceOptions, device } from './core/device.js';
export type { DType } from './core/dtype.js';
export { DisposedError, type ErrorCode, SwitchyardError } from './core/errors.js';
export { Tensor, tensor } from './core/tensor.js';
export { type TensorTree, treeLeaves, treeMap } from './core/tree.js';
export { Weight } from './core/weight.js';
export type { BatchOptions, BatchResult } from './generate/batch.js';
export type {
  Alternatives,
  EchoedPrompt,
  FinishReason,
  GeneratedPart,
  Hypothesis,
  SpeculationStatistics,
} from './generate/continuation.js';
export type { GenerateOptions, GenerationResult } from './generate/generation.js';
export { Generation } from './generate/generation.js';
export {
  type AnswerBatchOptions,
  type AnswerOptions,
  EncoderDecoderModel,
} from './generate/handles/encoder-decoder-model.js';
export { type Classification, type EmbedOptions, EncoderModel } from './generate/handles/encoder-model.js';
export { LanguageModel } from './generate/handles/language-model.js';
export type { AnyModel } from './generate/handles/load-model.js';
export type { ExpertsOption, LoadModelOptions } from './generate/handles/load-options.js';
export type { TextPair } from './generate/handles/model.js';
export type { CandidateScore, LikelihoodOptions, ScoredToken } from './generate/likelihood.js';
export { type Sampler, type SamplerOptions, samplers } from './generate/samplers/index.js';
export type { BeamOptions } from './generate/search/beam.js';
export {
  type BestOfOptions,
  type BestOfResult,
  bestOf,
  type ScoredAnswer,
} from './generate/search/best-of.js';
export type { ContrastiveOptions } from './generate/search/contrastive.js';
export type { ManyOptions } from './generate/search/many.js';
export type {
  DisposableDrafter,
  DraftHeadOptions,
  PredictionHead,
  PredictionInputs,
} from './generate/speculate/draft-head.js';
export { type DraftModelOptions, drafters, type NgramOptions } from './generate/speculate/drafters.js';
export * as hub from './hub/index.js';
export * as moe from './moe/index.js';
export * as nn from './nn/index.js';
export * as quantize from './quantize/index.js';
export { loadModel };

/** Every op, by name: `ops.matmul(a, b)`. */
export const ops = coreOps;

/** Model families and what can be made of a model. */
export const models = {
  ...modelNames,
  /** Writes a packed file, which `loadModel` maps instead of reading it (docs/packed-file.md). */
  savePacked: (model: AnyModel, path: string, options?: SaveOptions): Promise<void> =>
    decoderOf('savePacked', model).save(path, { ...options, format: 'packed' }),
  /** Turns each feed-forward layer of a dense model into nExperts equal experts behind a random router. */
  upcycle: (model: AnyModel, options: UpcycleOptions): Promise<LanguageModel> =>
    decoderOf('upcycle', model).upcycle(options),
};
export { type Scorer, scorers, type TextScorer } from './generate/search/scorers.js';
export { countVotes, type VoteOptions, type VoteResult, type Votes, vote } from './generate/search/vote.js';
export type { Draft, DraftContext, Drafter } from './generate/speculate/speculative.js';

function decoderOf(what: string, model: AnyModel): LanguageModel {
  if (model.kind === 'decoder') return model;
  throw mismatch('ERR_UNSUPPORTED', what, `an ${model.kind} model`, 'a decoder');
}
