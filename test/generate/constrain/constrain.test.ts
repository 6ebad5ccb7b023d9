/** Texts that a grammar, an expression or a schema allows, and descriptions of them that nobody can compile. */
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { SwitchyardError } from '../../../src/core/errors.js';
import type { GenerateOptions } from '../../../src/generate/generation.js';
import type { LanguageModel } from '../../../src/generate/handles/language-model.js';
import { type AnyModel, loadLanguageModel } from '../../../src/generate/handles/load-model.js';
import { temporaryFolder } from '../../helpers/checkpoint.js';
import { ROUTER_OR_EXPERT } from '../../helpers/schemas.js';
import { writeTinyFolder } from '../../helpers/tiny-model.js';

const path = join(temporaryFolder(), 'dense');
let model: LanguageModel;
beforeAll(async () => {
  await writeTinyFolder(path);
  model = await loadLanguageModel(path, { contextLength: 512, cacheTokens: 4096 });
});
afterAll(() => model.dispose());

const ask = async (options: GenerateOptions) =>
  model.generate('The gate decides', { maxTokens: 200, ...options }).result();
const failure = async (options: GenerateOptions): Promise<SwitchyardError> => {
  const error = await ask(options).then(
    ({ text }) => new Error(`no error but '${text}'`),
    (e: unknown) => e,
  );
  expect(error).toBeInstanceOf(SwitchyardError);
  return error as SwitchyardError;
};

describe('a text follows', () => {
  it.each([1, 2, 3])('a grammar, drawn with seed %i', async (seed) => {
    const grammar = 'root ::= "yes " [a-c]{2,5} | "no" ("!" | "?")+ "."';
    const { text, finishReason } = await ask({ grammar, temperature: 1, seed });
    expect(finishReason).toBe('stop');
    expect(text).toMatch(/^(yes [a-c]{2,5}|no[!?]+\.)$/);
  });

  it.each([/[a-z]{3,8}@[a-z]{2,4}\.com/, /^\d{4}-\d{2}-\d{2}$/, 'a|bc?'])(
    'the expression %s',
    async (regex) => {
      const { text, finishReason } = await ask({ regex, temperature: 1.5, seed: 4 });
      expect(finishReason).toBe('stop');
      const whole = typeof regex === 'string' ? regex : regex.source.replace(/^\^|\$$/g, '');
      expect(text).toMatch(new RegExp(`^(?:${whole})$`));
    },
  );

  it('a schema, and the result is its value', async () => {
    const { json, text } = await ask({ jsonSchema: ROUTER_OR_EXPERT, temperature: 1, seed: 3 });
    expect(json).toEqual(JSON.parse(text));
    expect(Object.keys(json as object)).toEqual(['kind', 'size']);
  });

  it('a zod type, and the result has it', async () => {
    const jsonSchema = z.object({ ok: z.boolean(), tag: z.enum(['a', 'b']) });
    const any: AnyModel = model; // what loadModel gives
    const { json } = await any
      .generate([1, 2], { jsonSchema, maxTokens: 200, temperature: 1, seed: 5 })
      .result();
    const typed: { ok: boolean; tag: 'a' | 'b' } | undefined = json;
    expect(jsonSchema.parse(typed)).toEqual(typed);
  });

  it('one of its own beside others, as alone', async () => {
    const options: GenerateOptions[] = [
      { regex: '[0-9]{5}', temperature: 1, seed: 1 },
      { temperature: 1, seed: 2, maxTokens: 20 },
      { grammar: 'root ::= ("ab" | "cd"){3}', temperature: 1, seed: 3 },
      { regex: '[0-9]{5}', temperature: 1, seed: 4 },
    ];
    const alone: string[] = [];
    for (const each of options) alone.push((await ask(each)).text);
    expect((await Promise.all(options.map(ask))).map(({ text }) => text)).toEqual(alone);
  });

  it('with filters that see what is allowed', async () => {
    for (const options of [{}, { topK: 1 }, { topP: 0.1, seed: 1 }, { minP: 0.9, seed: 1 }])
      expect((await ask({ ...options, regex: '[xyz]{4}' })).text).toMatch(/^[xyz]{4}$/);
  });
});

it('a text that is cut off has no value', async () => {
  const { json, finishReason } = await ask({
    jsonSchema: { type: 'string' },
    maxTokens: 2,
    temperature: 1,
    seed: 1,
  });
  expect({ json, finishReason }).toEqual({ json: undefined, finishReason: 'length' });
});

describe('is refused', () => {
  const deep = (depth: number): Record<string, unknown> =>
    depth === 0 ? { type: 'string' } : { type: 'array', items: deep(depth - 1) };
  const cases: [string, GenerateOptions, RegExp][] = [
    ['a grammar with an unknown rule', { grammar: 'root ::= "a" b' }, /Rule "b" is not defined/],
    ['a grammar without a root', { grammar: 'start ::= "a"' }, /\[grammar\]/],
    ['a grammar that does not parse', { grammar: 'root ::= ("a"' }, /\[grammar\]/],
    ['an empty grammar', { grammar: '' }, /0 characters/],
    ['a grammar that is too long', { grammar: `root ::= "${'a'.repeat(70_000)}"` }, /characters/],
    ['parentheses that are too deep', { grammar: `root ::= ${'('.repeat(300)}"a"${')'.repeat(300)}` }, /256/],
    ['an expression that does not parse', { regex: '(a' }, /^\[regex\] got Regex parsing error/],
    ['flags', { regex: /a/i }, /flags 'i'/],
    ['a schema of an unknown type', { jsonSchema: { type: 'objec' } }, /\[jsonSchema\]/],
    ['a schema with a reference to nothing', { jsonSchema: { $ref: '#/nope' } }, /\[jsonSchema\]/],
    ['a schema that is none', { jsonSchema: [] as never }, /a JSON schema/],
    ['a schema that is too deep', { jsonSchema: deep(70) }, /depth above 64/],
    ['two at once', { regex: 'a', grammar: 'root ::= "a"' }, /regex together with grammar/],
    ['no end token', { regex: 'a', ignoreEos: true }, /end tokens/],
  ];
  it.each(cases)('%s', async (_, options, message) => {
    const error = await failure(options);
    expect(error.code).toBe('ERR_OPTION');
    expect(error.message).toMatch(message);
  });

  it('what would compile for ever, in time, and others go on', async () => {
    const grammar = `root ::= ${'(a | b)'.repeat(12)}\na ::= "x"{1,3000} b?\nb ::= ("y" a){1,900} | a a a`;
    const start = performance.now();
    const bad = ask({ grammar, maxTokens: 5 }).then(
      () => null,
      (e: unknown) => e,
    );
    const good = ask({ regex: '[0-9]{3}' });
    expect((await good).text).toMatch(/^\d{3}$/);
    const error = await bad;
    if (error !== null) expect(error).toBeInstanceOf(SwitchyardError);
    expect(performance.now() - start).toBeLessThan(20_000);
    expect(model.engine.cache.freeBlocks).toBe(model.engine.cache.blocks);
  });

  it('a forced token that the grammar does not allow', async () => {
    const error = await failure({ regex: '[0-9]+', forcedTokens: { 0: 'x'.charCodeAt(0) } });
    expect(error.message).toMatch(/the grammar allows/);
  });

  it('random text as a grammar, or it works; never more than a typed error', async () => {
    const letters = fc.constantFrom(...'root::=|()[]{}"abc*+?,1 -\\\n^');
    await fc.assert(
      fc.asyncProperty(fc.array(letters, { minLength: 1, maxLength: 30 }), async (parts) => {
        const grammar = `root ::= ${parts.join('')}`;
        await ask({ grammar, maxTokens: 4 }).catch((error) => expect(error).toBeInstanceOf(SwitchyardError));
      }),
      { seed: 3, numRuns: 25 },
    );
  }, 60_000);
});
