/** Searches and guesses that keep to a grammar. */
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { compiledGrammar } from '../../../src/generate/constrain/grammar-engine.js';
import type { GenerateOptions } from '../../../src/generate/generation.js';
import type { LanguageModel } from '../../../src/generate/handles/language-model.js';
import { loadLanguageModel } from '../../../src/generate/handles/load-model.js';
import { drafters } from '../../../src/generate/speculate/drafters.js';
import { tokensBehind } from '../../../src/generate/speculate/grammar-drafter.js';
import type { Drafter } from '../../../src/generate/speculate/speculative.js';
import { fixturesFolder } from '../../helpers/fixtures.js';
import { ROUTER_OR_EXPERT } from '../../helpers/schemas.js';
import { sharedTinyModel } from '../../helpers/shared-model.js';
import { tokenizerOfFolder } from '../../helpers/tokenizers.js';

const END = 256;
let model: LanguageModel;
const path = sharedTinyModel(
  (loaded) => {
    model = loaded;
  },
  { contextLength: 512, cacheTokens: 4096 },
  {},
);

const prompt = [...Buffer.from('The gate decides')];
const parts = ['ab', 'acd', 'b', 'bdd'];
const grammar = `root ::= (${parts.map((p) => `"${p}"`).join(' | ')}){2}`;
/** All texts of the grammar, as tokens, the end token included. */
const texts = [...new Set(parts.flatMap((a) => parts.map((b) => a + b)))].map((t) => [
  ...Buffer.from(t),
  END,
]);

const textOf = (tokens: readonly number[]): string => Buffer.from(tokens.slice(0, -1)).toString();

describe('beams', () => {
  it.each([0, 1, -0.5])(
    'find the best of all texts of a grammar, length penalty %d',
    async (lengthPenalty) => {
      const scores = await model.score(prompt, texts);
      const want = texts
        .map((tokens, i) => ({
          text: textOf(tokens),
          score: (scores[i]?.logprob as number) / tokens.length ** lengthPenalty,
        }))
        .sort((a, b) => b.score - a.score);
      const beams = { beams: 32, returned: 32, lengthPenalty, earlyStopping: 'never' as const };
      const { hypotheses = [], text, json } = await model.generate(prompt, { grammar, beams }).result();
      expect(hypotheses.map((h) => h.text)).toEqual(want.map((w) => w.text));
      for (const [i, { score }] of want.entries()) expect(hypotheses[i]?.score).toBeCloseTo(score, 4);
      expect(text).toBe(want[0]?.text);
      expect(json).toBeUndefined();
    },
  );

  it.each([
    ['few', 3],
    ['in groups', { beams: 6, groups: 3, returned: 6 }],
  ])('%s of them keep to a schema, and the result is its value', async (_, beams) => {
    const options = { jsonSchema: ROUTER_OR_EXPERT, beams, maxTokens: 120 };
    const { json, text, hypotheses = [] } = await model.generate(prompt, options).result();
    expect(json).toEqual(JSON.parse(text));
    expect(hypotheses[0]?.json).toEqual(json);
    for (const hypothesis of hypotheses) {
      const whole = hypothesis.tokens.at(-1) === END;
      expect(hypothesis.json).toEqual(whole ? JSON.parse(hypothesis.text) : undefined);
      if (whole) expect(Object.keys(hypothesis.json as object)).toEqual(['kind', 'size']);
    }
  });

  it('of one are greedy', async () => {
    const options = { regex: '[a-f0-9]{20}' };
    const greedy = await model.generate(prompt, options).result();
    const { tokens } = await model.generate(prompt, { ...options, beams: 1 }).result();
    expect(tokens).toEqual(greedy.tokens);
  });

  it('have no token where bans and a grammar leave none', async () => {
    const options = { regex: 'a+', suppressTokens: [97] };
    for (const search of [{ beams: 2 }, { contrastive: {} }])
      await expect(model.generate(prompt, { ...options, ...search }).result()).rejects.toMatchObject({
        code: 'ERR_OPTION',
        message: expect.stringMatching(/no token that is allowed/),
      });
  });
});

describe('guesses of a grammar', () => {
  const schema = {
    type: 'object',
    properties: {
      kind: { enum: ['router', 'expert'] },
      sizes: { type: 'array', items: { type: 'integer', minimum: 1, maximum: 99 }, minItems: 2, maxItems: 2 },
    },
    required: ['kind', 'sizes'],
    additionalProperties: false,
  };
  const kinds: [string, GenerateOptions][] = [
    ['a schema on one line', { jsonSchema: schema, jsonLayout: 'line' }],
    ['a schema with blanks as it likes', { jsonSchema: schema, jsonLayout: 'free' }],
    ['a grammar', { grammar: 'root ::= "one two three " ("four five" | "six seven") " eight"' }],
    ['an expression', { regex: '(spam eggs ){2}[ab]nd so on' }],
  ];
  it.each(kinds)('%s leave the text as it is', async (_, constraint) => {
    for (const drawn of [{}, { temperature: 1, seed: 2 }]) {
      const options = { ...constraint, ...drawn, maxTokens: 120 };
      const { timings: __, ...want } = await model.generate(prompt, options).result();
      for (const speculation of [
        drafters.grammar(),
        drafters.grammar({ tokens: 16 }),
        drafters.firstOf([drafters.grammar(), drafters.ngram()]),
      ]) {
        const run = await model.generate(prompt, { ...options, speculation }).result();
        const { timings: ___, speculation: counts, ...got } = run;
        expect(got).toEqual(want);
        expect(counts?.accepted).toBeGreaterThan(10);
        // letters are tokens here: what is forced has one cut, and holds always
        if (speculation.name === 'grammar') expect(counts?.accepted).toBe(counts?.drafted);
      }
    }
  });

  it('on one line say json.dumps', async () => {
    const options = {
      jsonSchema: schema,
      jsonLayout: 'line' as const,
      temperature: 1,
      seed: 1,
      maxTokens: 120,
    };
    const { text } = await model.generate(prompt, options).result();
    expect(text).toMatch(/^\{"kind": "(router|expert)", "sizes": \[\d+, \d+\]\}$/);
  });

  it('come first, then others', async () => {
    const asked: string[] = [];
    const named = (name: string, guesses: number[]): Drafter => ({
      name,
      tokens: 3,
      start: () => ({
        propose: ({ most }) => {
          asked.push(`${name} ${most}`);
          return guesses;
        },
        close: async () => void asked.push(`${name} closed`),
      }),
    });
    const speculation = drafters.firstOf([named('a', []), named('b', [97])]);
    await model.generate(prompt, { maxTokens: 4, regex: 'a{9}', speculation }).result();
    expect(asked).toEqual(['a 2', 'b 2', 'a closed', 'b closed']);
  });

  it.each<[string, () => GenerateOptions, RegExp]>([
    ['no grammar', () => ({ speculation: drafters.grammar() }), /drafters.grammar\(\) without a grammar/],
    [
      'no grammar, behind others',
      () => ({ speculation: drafters.firstOf([drafters.model(model), drafters.grammar()]) }),
      /without a grammar/,
    ],
    ['no drafters', () => ({ speculation: drafters.firstOf([]) }), /an array of drafters/],
    [
      'what is none',
      () => ({ speculation: drafters.firstOf(['ngram' as never]) }),
      /got ngram, expected a drafter/,
    ],
    [
      'a layout without a schema',
      () => ({ regex: 'a', jsonLayout: 'line' }),
      /jsonLayout line without jsonSchema/,
    ],
    ['an unknown layout', () => ({ jsonSchema: {}, jsonLayout: 'wide' as never }), /jsonLayout wide/],
  ])('%s is refused', async (_, options, message) => {
    const run = async () => model.generate(prompt, options()).result();
    await expect(run()).rejects.toMatchObject({
      code: 'ERR_OPTION',
      message: expect.stringMatching(message),
    });
  });
});

describe.skipIf(fixturesFolder === undefined)('forced text behind a text', () => {
  it.each(['llama', 'bloom', 'gemma', 't5'])('is cut as in the whole: %s', (folder) => {
    const tokenizer = tokenizerOfFolder(join(fixturesFolder as string, folder));
    const encode = (text: string): number[] => tokenizer.encode(text, { addSpecialTokens: false });
    const word = fc.constantFrom('the', ' router', 'a', 'x y', '{"', '": "', ', ', 'expert ', 'é', '1', '\n');
    const words = fc.array(word, { minLength: 1, maxLength: 8 }).map((list) => list.join(''));
    let whole = 0;
    fc.assert(
      fc.property(words, words, (before, text) => {
        const ids = tokensBehind(tokenizer, encode(before), text);
        const start = tokenizer.decode(encode(before));
        const all = encode(start + text);
        if (tokenizer.decode(all.slice(0, -ids.length)) === start) {
          expect(ids).toEqual(all.slice(-ids.length));
          whole++;
        } else expect(ids).toEqual(encode(text));
      }),
      { seed: 2, numRuns: 100 },
    );
    expect(whole).toBeGreaterThan(30);
  });
});

it('a grammar says the same of a text, whatever it was asked before', async () => {
  const engine = compiledGrammar({ type: 'grammar', source: grammar }, model.tokenizer, 260, [END]);
  const beginnings = [...new Set(texts.flatMap((t) => t.map((_, i) => t.slice(0, i + 1).join())))].map(
    (key) => key.split(',').map(Number),
  );
  const nextOf = (begin: readonly number[]): number[] =>
    [...new Set(texts.filter((t) => begin.every((id, i) => t[i] === id)).map((t) => t[begin.length]))]
      .filter((id) => id !== undefined)
      .sort((a, b) => a - b);
  const some = fc.array(fc.constantFrom([], ...beginnings), { minLength: 1, maxLength: 40 });
  await fc.assert(
    fc.asyncProperty(some, async (asked) => {
      const states = await Promise.all(asked.map((begin) => engine.state(begin)));
      for (const [i, begin] of asked.entries()) {
        const { accepted, mask } = states[i] as (typeof states)[number];
        expect(accepted).toBe(true);
        const allowed = Array.from({ length: 260 }, (_, id) => id).filter(
          (id) => mask && (((mask[id >> 5] as number) >> (id & 31)) & 1) === 1,
        );
        expect(allowed).toEqual(nextOf(begin));
        if (mask === null) expect(begin.at(-1)).toBe(END);
        const wrong = await engine.state([...begin, 0]);
        expect(wrong).toEqual({ accepted: false, mask: null });
      }
    }),
    { seed: 4, numRuns: 30 },
  );
});

it('a grammar is let go of, however a text ends', async () => {
  const source = 'root ::= "ab"{1,40} "."';
  const engine = compiledGrammar({ type: 'grammar', source }, model.tokenizer, 260, [END]);
  const options = { grammar: source, maxTokens: 30 };
  const aborted = new AbortController();
  const cases: Record<string, () => Promise<unknown>> = {
    plain: () => model.generate(prompt, options).result(),
    beams: () => model.generate(prompt, { ...options, beams: 3 }).result(),
    guesses: () => model.generate(prompt, { ...options, speculation: drafters.grammar() }).result(),
    many: () => model.generateMany(prompt, { ...options, n: 4, temperature: 1, seed: 1 }),
    batch: () => model.generateAll([prompt, prompt.slice(1)], options),
    'without tokens': () => model.generate(prompt, { ...options, maxTokens: 0 }).result(),
    'a break': async () => {
      for await (const part of model.generate(prompt, options)) if (part.token) break;
    },
    'an abort': async () => {
      const run = model.generate(prompt, { ...options, signal: aborted.signal });
      for await (const _ of run) aborted.abort();
    },
  };
  for (const [name, run] of Object.entries(cases)) {
    await run().catch((error) => expect(error).toMatchObject({ code: 'ERR_ABORTED' }));
    expect([name, engine.users]).toEqual([name, 0]);
  }
});

it('many long texts of one grammar at once are as alone', async () => {
  const small = await loadLanguageModel(path, { contextLength: 512, cacheTokens: 160 * 96 });
  const jobs = Array.from({ length: 160 }, (_, i) => ({ regex: '[a-z]{30}', temperature: 1, seed: i }));
  const got = await Promise.all(jobs.map((job) => small.generate(prompt, job).result()));
  for (const i of [0, 40, 159]) {
    const { text } = await model.generate(prompt, jobs[i]).result();
    expect(got[i]?.text).toBe(text);
    expect(text).toMatch(/^[a-z]{30}$/);
  }
  await small.dispose();
});
