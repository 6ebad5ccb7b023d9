/** Loading a model and running a generation as every command does it. */
import { SwitchyardError } from '../core/errors.js';
import type { Generation, GenerationResult } from '../generate/generation.js';
import type { LanguageModel } from '../generate/handles/language-model.js';
import { type AnyModel, loadLanguageModel, loadModel } from '../generate/handles/load-model.js';
import type { LoadModelOptions } from '../generate/handles/load-options.js';
import type { Interrupt } from './interrupt.js';
import type { ModelFlags, PlaceFlags } from './options.js';
import { ByteBar } from './terminal/progress.js';

/** The path, or the error that says how to give one. */
export function requireModel(command: string, path: string | undefined): string {
  if (path) return path;
  throw new SwitchyardError(
    'ERR_OPTION',
    `[${command}] got no model, expected --model PATH or the variable SWITCHYARD_MODEL`,
    {
      hint: 'PATH is a GGUF file, or a Hugging Face folder with config.json, safetensors and tokenizer.json',
    },
  );
}

/** Of any command that opens a model. */
type OpenFlags = PlaceFlags & Partial<ModelFlags>;

export interface LoadedModel<M = LanguageModel> {
  readonly model: M;
  readonly loadMs: number;
}

/** A decoder. Loads with a progress bar on stderr (on a terminal). */
export const openModelOf = (command: string, flags: ModelFlags, interrupt: Interrupt): Promise<LoadedModel> =>
  openWith(loadLanguageModel, command, flags, interrupt);

/** A model of any kind, in the same way. */
export const openAnyModelOf = (
  command: string,
  flags: OpenFlags,
  interrupt: Interrupt,
): Promise<LoadedModel<AnyModel>> => openWith(loadModel, command, flags, interrupt);

async function openWith<M>(
  load: (path: string, options: LoadModelOptions) => Promise<M>,
  command: string,
  flags: OpenFlags,
  interrupt: Interrupt,
): Promise<LoadedModel<M>> {
  const path = requireModel(command, flags.model);
  const { device, dtype, kvCache, threads, context, packedCache } = flags;
  const bar = new ByteBar('loading');
  const started = performance.now();
  try {
    const model = await load(path, {
      device,
      dtype,
      signal: interrupt.signal,
      onProgress: (progress) => bar.update(progress),
      ...(kvCache === undefined ? {} : { kvCache }),
      ...(threads === undefined ? {} : { threads }),
      ...(context === undefined ? {} : { contextLength: context }),
      ...(packedCache === undefined ? {} : { packedCache }),
    });
    return { model, loadMs: performance.now() - started };
  } finally {
    bar.stop();
  }
}

const NO_TIMINGS = {
  promptTokens: 0,
  promptMs: 0,
  newTokens: 0,
  decodeMs: 0,
  promptTokensPerSecond: 0,
  decodeTokensPerSecond: 0,
} as const;

/**
 * Runs a generation and hands out its text as it comes. An interrupt ends it with what is there: within the prompt by
 * aborting the step, later after the token that is being made.
 */
export async function runGeneration(
  start: (signal: AbortSignal) => Generation,
  interrupt: Interrupt,
  onText: (text: string) => void = () => undefined,
): Promise<GenerationResult> {
  interrupt.signal.throwIfAborted();
  const prompt = new AbortController();
  const stopPrompt = (): void => prompt.abort();
  interrupt.signal.addEventListener('abort', stopPrompt, { once: true });
  const generation = start(prompt.signal);
  try {
    for await (const part of generation) {
      interrupt.signal.removeEventListener('abort', stopPrompt);
      if (part.text !== '') onText(part.text);
      if (interrupt.hit) break;
    }
  } catch (error) {
    if (!prompt.signal.aborted) throw error;
    return { text: '', tokens: [], logprobs: [], finishReason: 'abort', timings: NO_TIMINGS };
  } finally {
    interrupt.signal.removeEventListener('abort', stopPrompt);
  }
  return generation.result();
}
