/** Options that several commands have, with their checks and their environment variables. */
import { readFileSync } from 'node:fs';
import { type Command, Option } from 'commander';
import { ioCode } from '../checkpoint/file-reader.js';
import { DEVICE_NAMES, type DeviceName, parseDeviceName, VARIABLES } from '../core/env.js';
import { mismatch, SwitchyardError, unknownOption } from '../core/errors.js';
import { COMPUTE_MODES, type ComputeMode, KV_TYPES, type KvType } from '../core/format.js';
import { JSON_LAYOUTS, type JsonLayout } from '../generate/constrain/grammar.js';
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

/** A reader of an option's text; `where` is what errors name. */
type Reader = (where: string) => (text: string) => unknown;

/** An option that a variable stands for: what is wrong with the variable's text is said of the variable. */
function addWithVariable(command: Command, option: Option, variable: string, reader?: Reader): Command {
  option.env(variable);
  if (reader) {
    option.argParser(reader(option.long as string));
    // commander tells of a variable's text by this event, before it reads the text as that of the option
    command.on(`optionEnv:${option.name()}`, reader(variable));
  }
  return command.addOption(option);
}

const readDevice: Reader = (where) => (text) => {
  if (parseDeviceName(text)) return text as DeviceName;
  throw mismatch('ERR_OPTION', where, `'${text}'`, DEVICE_NAMES);
};

/** What a model is and where it runs. */
export interface PlaceFlags {
  json?: true;
  model?: string;
  device: DeviceName;
  dtype: 'auto' | ComputeMode;
  threads?: number;
}

export interface ModelFlags extends PlaceFlags {
  kvCache: 'auto' | KvType;
  context?: number;
  packedCache?: string;
}

/** What a path of a model may be. */
export const MODEL_PATH = 'GGUF file, Hugging Face folder, packed file or org/name';

export function addPlaceOptions(command: Command): Command {
  addWithVariable(command, new Option('--model <path>', MODEL_PATH), VARIABLES.model.name);
  const devices = `${DEVICE_NAMES}; auto: a GPU where one works`;
  addWithVariable(
    command,
    new Option('--device <name>', devices).default('auto'),
    VARIABLES.device.name,
    readDevice,
  );
  const modes = 'how linear layers compute: auto, f32 (exact), bf16, int8';
  addWithVariable(
    command,
    new Option('--dtype <mode>', modes).default('auto'),
    VARIABLES.dtype.name,
    (where) => oneOf(where, ['auto', ...COMPUTE_MODES]),
  );
  return addWithVariable(
    command,
    new Option('--threads <n>', 'threads; default: the cores this process may use'),
    VARIABLES.threads.name,
    (where) => numberOf(where, { min: 1, max: 1024 }),
  );
}

/** Of a model that writes text. */
export function addModelOptions(command: Command): Command {
  addKvCacheOption(addPlaceOptions(command));
  addContextOption(command, 'longest sequence in tokens; default: what the model was made for, at most 4096');
  const about = 'the first load of a model writes a packed file there, later loads map it';
  return addWithVariable(command, new Option('--packed-cache <folder>', about), VARIABLES.packedCache.name);
}

export function addKvCacheOption(command: Command): Command {
  const types = 'how the cache stores keys and values: auto, f32 (exact), f16, bf16, int8';
  return addWithVariable(
    command,
    new Option('--kv-cache <type>', types).default('auto'),
    VARIABLES.kvCache.name,
    (where) => oneOf(where, ['auto', ...KV_TYPES]),
  );
}

export const addContextOption = (command: Command, about: string): Command =>
  addWithVariable(command, new Option('--context <n>', about), VARIABLES.context.name, (where) =>
    numberOf(where, { min: 1, max: 2 ** 31 - 1 }),
  );

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
  jsonLayout?: JsonLayout;
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
  'jsonLayout',
] as const;

export function addSamplingOptions(command: Command, maxTokens: number | undefined): Command {
  const real = (flag: string, max: number) => numberOf(flag, { max, whole: false });
  const signed = (flag: string) => numberOf(flag, { min: -100, max: 100, whole: false });
  return command
    .addOption(
      new Option(
        '--max-tokens <n>',
        `new tokens at most${maxTokens === undefined ? '; default: as many as the context holds' : ''}`,
      )
        .argParser(numberOf('--max-tokens'))
        .default(maxTokens),
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
    .option('--grammar <file>', 'the text is one of a GBNF or EBNF grammar', (file) =>
      readTextFile('--grammar', file),
    )
    .option('--json-schema <file>', 'the text is JSON of a schema', (file) =>
      readJsonFile('--json-schema', file),
    )
    .option(
      '--json-layout <layout>',
      "line: JSON on one line, with ', ' and ': '; free (default): blanks as the model likes",
      oneOf('--json-layout', JSON_LAYOUTS),
    );
}

/** The flags that `generate` takes as they are; absent ones keep the library's defaults. */
export function samplingOf(flags: SamplingFlags): GenerateOptions {
  return Object.fromEntries(
    SAMPLING.flatMap((name) => (flags[name] === undefined ? [] : [[name, flags[name]]])),
  );
}

function readTextFile(flag: string, file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (cause) {
    throw mismatch('ERR_IO', flag, `'${file}' (${ioCode(cause)})`, 'a file that can be read', { cause });
  }
}

function readJsonFile(flag: string, file: string): Readonly<Record<string, unknown>> {
  try {
    return JSON.parse(readTextFile(flag, file));
  } catch (cause) {
    if (cause instanceof SwitchyardError) throw cause;
    throw new SwitchyardError('ERR_FORMAT', `[${flag}] got '${file}', expected JSON`, { cause });
  }
}
