/** Options that several commands have, with their checks and their environment variables. */
import { readFileSync } from 'node:fs';
import { type Command, Option } from 'commander';
import { DEVICE_NAMES, type DeviceName, parseDeviceName, VARIABLES } from '../core/env.js';
import { SwitchyardError, unknownOption } from '../core/errors.js';
import { COMPUTE_MODES, type ComputeMode, KV_TYPES, type KvType } from '../core/format.js';
import type { GenerateOptions } from '../generate/generation.js';

interface Range {
  min?: number;
  max?: number;
  whole?: boolean;
}

/** Reads a number; the samplers and loaders check finer rules. */
export function numberOf(flag: string, { min = 0, max = 2 ** 53, whole = true }: Range = {}) {
  return (text: string): number => {
    const n = text.trim() === '' ? Number.NaN : Number(text);
    if (!(n >= min && n <= max) || (whole && !Number.isInteger(n))) {
      const range = max === 2 ** 53 ? `≥ ${min}` : `from ${min} to ${max}`;
      throw new SwitchyardError(
        'ERR_OPTION',
        `[${flag}] got '${text}', expected a ${whole ? 'whole ' : ''}number ${range}`,
      );
    }
    return n;
  };
}

export function oneOf<T extends string>(flag: string, allowed: readonly T[]) {
  return (text: string): T => {
    if (!(allowed as readonly string[]).includes(text)) throw unknownOption(flag, text, allowed);
    return text as T;
  };
}

function deviceFlag(text: string): DeviceName {
  if (!parseDeviceName(text)) throw unknownOption('--device', text, ['auto', 'cpu', 'cuda', 'cuda:1']);
  return text as DeviceName;
}

export interface ModelFlags {
  json?: true;
  model?: string;
  device: DeviceName;
  dtype: 'auto' | ComputeMode;
  kvCache: 'auto' | KvType;
  threads?: number;
  context?: number;
  packedCache?: string;
}

export function addModelOptions(command: Command): Command {
  const threads = numberOf('--threads', { min: 1, max: 1024 });
  return command
    .addOption(
      new Option('--model <path>', 'GGUF file, Hugging Face folder or packed file').env(VARIABLES.model.name),
    )
    .addOption(
      new Option('--device <name>', `${DEVICE_NAMES}; auto: a GPU where one works`)
        .env(VARIABLES.device.name)
        .argParser(deviceFlag)
        .default('auto'),
    )
    .addOption(
      new Option('--dtype <mode>', 'how linear layers compute: auto, f32 (exact), bf16, int8')
        .env(VARIABLES.dtype.name)
        .argParser(oneOf('--dtype', ['auto', ...COMPUTE_MODES]))
        .default('auto'),
    )
    .addOption(kvCacheOption())
    .addOption(
      new Option('--threads <n>', 'threads; default: the cores this process may use')
        .env(VARIABLES.threads.name)
        .argParser(threads),
    )
    .addOption(
      contextOption('longest sequence in tokens; default: what the model was made for, at most 4096'),
    )
    .addOption(
      new Option(
        '--packed-cache <folder>',
        'the first load of a model writes a packed file there, later loads map it',
      ).env(VARIABLES.packedCache.name),
    );
}

export const kvCacheOption = (): Option =>
  new Option('--kv-cache <type>', 'how the cache stores keys and values: auto, f32 (exact), f16, bf16, int8')
    .env(VARIABLES.kvCache.name)
    .argParser(oneOf('--kv-cache', ['auto', ...KV_TYPES]))
    .default('auto');

export const contextOption = (about: string): Option =>
  new Option('--context <n>', about)
    .env(VARIABLES.context.name)
    .argParser(numberOf('--context', { min: 1, max: 2 ** 31 - 1 }));

export interface SamplingFlags {
  maxTokens?: number;
  temperature?: number;
  topK?: number;
  topP?: number;
  minP?: number;
  repetitionPenalty?: number;
  frequencyPenalty?: number;
  presencePenalty?: number;
  seed?: number;
  stop?: string[];
  ignoreEos?: true;
  regex?: string;
  grammar?: string;
  jsonSchema?: Readonly<Record<string, unknown>>;
}

const SAMPLING = [
  'maxTokens',
  'temperature',
  'topK',
  'topP',
  'minP',
  'repetitionPenalty',
  'frequencyPenalty',
  'presencePenalty',
  'seed',
  'stop',
  'ignoreEos',
  'regex',
  'grammar',
  'jsonSchema',
] as const;

export function addSamplingOptions(command: Command, maxTokens: number | undefined): Command {
  const real = (flag: string, max: number) => numberOf(flag, { max, whole: false });
  const signed = (flag: string) => numberOf(flag, { min: -100, max: 100, whole: false });
  return command
    .addOption(
      new Option('--max-tokens <n>', 'new tokens at most')
        .argParser(numberOf('--max-tokens'))
        .default(maxTokens, maxTokens === undefined ? 'as many as the context holds' : undefined),
    )
    .option('--temperature <t>', '0: always the likeliest token (default)', real('--temperature', 100))
    .option('--top-k <k>', 'draw from the k likeliest tokens; 0: all', numberOf('--top-k', { max: 2 ** 24 }))
    .option('--top-p <p>', 'draw from the likeliest tokens that hold a share p', real('--top-p', 1))
    .option(
      '--min-p <p>',
      'draw from tokens with p times the probability of the likeliest',
      real('--min-p', 1),
    )
    .option(
      '--repetition-penalty <f>',
      'makes tokens that occurred less likely; 1: off',
      real('--repetition-penalty', 100),
    )
    .option(
      '--frequency-penalty <f>',
      'cost of each time a new token occurred; 0: off',
      signed('--frequency-penalty'),
    )
    .option('--presence-penalty <f>', 'cost of having occurred at all; 0: off', signed('--presence-penalty'))
    .option('--seed <n>', 'seed of the draws; default: random', numberOf('--seed', { max: 2 ** 32 - 1 }))
    .option(
      '--stop <text>',
      'end before this text; may be given several times',
      (text, all: string[] = []) => [...all, text],
    )
    .option('--ignore-eos', "go on after the model's end token")
    .option('--regex <pattern>', 'the whole text matches the expression')
    .option('--grammar <file>', 'the text is one of a GBNF or EBNF grammar', readTextFile)
    .option('--json-schema <file>', 'the text is JSON of a schema', (file) =>
      readJsonFile('--json-schema', file),
    );
}

/** The flags that `generate` takes as they are; absent ones keep the library's defaults. */
export function samplingOf(flags: SamplingFlags): GenerateOptions {
  return Object.fromEntries(
    SAMPLING.flatMap((name) => (flags[name] === undefined ? [] : [[name, flags[name]]])),
  );
}

function readTextFile(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (cause) {
    throw new SwitchyardError('ERR_IO', `[cli] got '${file}', expected a file that can be read`, { cause });
  }
}

function readJsonFile(flag: string, file: string): Readonly<Record<string, unknown>> {
  try {
    return JSON.parse(readTextFile(file));
  } catch (cause) {
    if (cause instanceof SwitchyardError) throw cause;
    throw new SwitchyardError('ERR_FORMAT', `[${flag}] got '${file}', expected JSON`, { cause });
  }
}
