import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { GenerateOptions } from '../../src/generate/generation.js';
import type { LanguageModel } from '../../src/generate/handles/language-model.js';
import { loadLanguageModel } from '../../src/generate/handles/load-model.js';
import { drafters } from '../../src/generate/speculate/drafters.js';
import type { Drafter } from '../../src/generate/speculate/speculative.js';
import { quantizeModel } from '../../src/quantize/index.js';
import { type Bench, defineCase } from '../harness/case.js';
import { openBenchModel, promptOf } from '../harness/models.js';

const NEW_TOKENS = 96;
/** A passage of this many tokens, twice, as where a text is quoted or edited. */
const PASSAGE = 64;
const STORY = 'Once upon a time, in a small village by the sea, there lived';
const PERSON = 'A person, described as JSON with name, occupation, year of birth and place of residence:\n';
const RUNS = 5;
const CONTEXT = { contextLength: 512 };

const text = { type: 'string', maxLength: 24 };
const place = {
  street: text,
  houseNumber: { type: 'integer', minimum: 1, maximum: 999 },
  municipality: text,
};
const object = (properties: Record<string, object>): object => ({
  type: 'object',
  properties,
  required: Object.keys(properties),
  additionalProperties: false,
});
const SCHEMA = object({
  name: text,
  occupation: { enum: ['engineer', 'teacher', 'physician', 'farmer'] },
  yearOfBirth: { type: 'integer', minimum: 1900, maximum: 2020 },
  placeOfResidence: object(place),
  isRetired: { type: 'boolean' },
}) as Readonly<Record<string, unknown>>;

interface Way {
  readonly name: string;
  readonly prompt: readonly number[];
  readonly speculation: Drafter;
  readonly options: GenerateOptions;
}

export default defineCase({
  about:
    'one text with guesses of n-grams, a draft model and a grammar beside plain decoding: times faster, guesses that hold',
  words: ['model', 'generate', 'drafts', 'speed', 'json'],
  async run(bench) {
    const { options, emit } = bench;
    const { model, name } = await openBenchModel(bench, CONTEXT);
    const draft = await openDraft(bench, model);
    const passage = promptOf(model, PASSAGE);
    const encode = (words: string): number[] =>
      options.smoke ? promptOf(model, 8) : model.tokenizer.encode(words);
    const open = { maxTokens: options.smoke ? 4 : NEW_TOKENS, ignoreEos: true };
    // the tiny model has other words than JSON
    const constraint: GenerateOptions = options.smoke
      ? { grammar: 'root ::= "w1w2w3" ("w4" | "w5") "w6w7"', stopTokens: [0], maxTokens: 8 }
      : { jsonSchema: SCHEMA, jsonLayout: 'line', maxTokens: 200 };
    const json = { prompt: encode(PERSON), options: constraint };
    const ways: Way[] = [
      {
        name: 'a passage twice, n-grams',
        prompt: [...passage, ...passage],
        speculation: drafters.ngram(),
        options: open,
      },
      {
        name: `a story, ${draft.name}`,
        prompt: encode(STORY),
        speculation: drafters.model(draft.model),
        options: open,
      },
      { name: 'JSON of a schema, its grammar', speculation: drafters.grammar(), ...json },
      {
        name: 'JSON of a schema, its grammar or n-grams',
        speculation: drafters.firstOf([drafters.grammar(), drafters.ngram()]),
        ...json,
      },
    ];
    for (const way of ways) {
      const { times, held, steps } = await compared(model, way, Math.min(options.runs, RUNS));
      const shape = `${name}, ${way.name}`;
      const format = model.dtype;
      emit({ metric: 'times plain', shape, format, unit: '× plain', values: times });
      emit({ metric: 'guesses that hold', shape, format, unit: 'of all', values: held });
      emit({ metric: 'tokens of a step', shape, format, unit: 'tokens', values: steps });
    }
    await draft.close();
    await model.dispose();
  },
});

/** Pairs of runs, plain and with guesses, after one of each. */
async function compared(
  model: LanguageModel,
  { prompt, speculation, options }: Way,
  runs: number,
): Promise<{ times: number[]; held: number[]; steps: number[] }> {
  const run = async (more: GenerateOptions) => {
    const {
      timings,
      speculation: counts,
      tokens,
    } = await model.generate(prompt, { ...options, ...more }).result();
    const { steps = 0, accepted = 0, drafted = 0 } = counts ?? {};
    return {
      ms: timings.decodeMs,
      held: accepted / Math.max(1, drafted),
      tokens: (tokens.length - 1) / Math.max(1, steps),
    };
  };
  await run({});
  await run({ speculation });
  const [times, held, steps]: [number[], number[], number[]] = [[], [], []];
  for (let i = 0; i < runs; i++) {
    const plain = await run({});
    const guessed = await run({ speculation });
    times.push(plain.ms / guessed.ms);
    held.push(guessed.held);
    steps.push(guessed.tokens);
  }
  return { times, held, steps };
}

interface OpenDraft {
  readonly name: string;
  readonly model: LanguageModel;
  close(): Promise<void>;
}

/** The draft model of the options; else the model itself with weights of 4 bits in groups of 128, which guesses but saves nothing. */
async function openDraft({ options, device }: Bench, model: LanguageModel): Promise<OpenDraft> {
  if (options.smoke) return { name: 'itself', model, close: async () => undefined };
  if (options.draft !== null) {
    const small = await loadLanguageModel(options.draft, { ...CONTEXT, device });
    return { name: 'a draft model', model: small, close: () => small.dispose() };
  }
  const folder = mkdtempSync(join(tmpdir(), 'switchyard-draft-'));
  try {
    const path = join(folder, 'draft.switchyard');
    await quantizeModel(model, path, { formats: { default: 'int4_g128' } });
    const coarse = await loadLanguageModel(path, { ...CONTEXT, device });
    const close = async (): Promise<void> => {
      await coarse.dispose();
      rmSync(folder, { recursive: true });
    };
    return { name: 'itself in int4_g128', model: coarse, close };
  } catch (error) {
    rmSync(folder, { recursive: true });
    throw error;
  }
}
