import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { LanguageModel } from '../../src/generate/handles/language-model.js';
import { loadLanguageModel } from '../../src/generate/handles/load-model.js';
import type { ChatMessage } from '../../src/text/chat-template.js';
import { modelsFolder } from '../helpers/fixtures.js';
import { distance, expectClose, worst } from './compare.js';
import { readJson } from './folders.js';

interface Reference {
  ids: number[];
  mean_logprob: number;
  last_top_ids: number[];
  last_top_logits: number[];
  greedy_ids: number[];
  greedy_text: string;
}
interface ExpectedTexts {
  model: string;
  texts: { text: string; ids: number[] }[];
  completions: (Reference & { prompt: string })[];
  chats: (Reference & { messages: ChatMessage[]; rendered: string })[];
}

const NEW_TOKENS = 32;
const CONTEXT = 512;

const expected: ExpectedTexts | undefined = modelsFolder && readJson(join(modelsFolder, 'expected.json'));
const file = join(modelsFolder ?? '', expected?.model ?? '');
const { texts = [], completions = [], chats = [] } = expected ?? {};
const prompts: { title: string; reference: Reference }[] = [
  ...completions.map((c) => ({ title: c.prompt, reference: c })),
  ...chats.map((c) => ({ title: c.messages.at(-1)?.content as string, reference: c })),
];

/** All logits of a prompt [T, V], by one forward pass. */
async function logitsOf(model: LanguageModel, ids: readonly number[]): Promise<Float32Array> {
  const { logits } = await model.forward({ inputIds: [ids] });
  return (await logits.data()) as Float32Array;
}

/** Mean log-probability of ids[1…] in float64. */
function meanLogprob(logits: Float32Array, ids: readonly number[]): number {
  const width = logits.length / ids.length;
  let sum = 0;
  for (let t = 0; t + 1 < ids.length; t++) {
    const row = logits.subarray(t * width, (t + 1) * width);
    const most = row.reduce((a, b) => Math.max(a, b), -Infinity);
    const total = row.reduce((a, b) => a + Math.exp(b - most), 0);
    sum += (row[ids[t + 1] as number] as number) - most - Math.log(total);
  }
  return sum / (ids.length - 1);
}

describe.skipIf(!expected)('a real model', () => {
  describe('exact', () => {
    let model: LanguageModel;
    beforeAll(async () => {
      model = await loadLanguageModel(file, { dtype: 'f32', contextLength: CONTEXT });
    });
    afterAll(() => model?.dispose());

    it.each(texts)('tokenizer: $text', ({ text, ids }) => {
      expect(model.tokenizer.encode(text)).toEqual(ids);
      expect(model.tokenizer.decode(ids)).toBe(text);
    });

    it.each(completions)('prompt ids: $prompt', ({ prompt, ids }) => {
      expect(model.tokenizer.encode(prompt)).toEqual(ids);
    });

    it.each(chats)('rendered chat and ids: $messages', ({ messages, rendered, ids }) => {
      expect(model.chatPrompt(messages)).toEqual({ text: rendered, ids });
    });

    it.each(prompts)('logits: $title', async ({ reference }) => {
      const logits = await logitsOf(model, reference.ids);
      const last = logits.slice(-model.config.vocabSize);
      const top = reference.last_top_ids.map((id) => last[id] as number);
      expectClose('exact top-logits', top, reference.last_top_logits, { tolerance: 1e-3 });
      const best = [...last.keys()].sort((a, b) => (last[b] as number) - (last[a] as number)).slice(0, 8);
      expect(best).toEqual(reference.last_top_ids);
      const difference = Math.abs(meanLogprob(logits, reference.ids) - reference.mean_logprob);
      worst.set('exact mean-logprob', Math.max(worst.get('exact mean-logprob') ?? 0, difference));
      expect(difference).toBeLessThanOrEqual(1e-4);
    });

    it.each(prompts)('greedy: $title', async ({ reference }) => {
      const { tokens } = await model.generate(reference.ids, { maxTokens: NEW_TOKENS }).result();
      expect(tokens).toEqual(reference.greedy_ids);
      expect(model.tokenizer.decode(tokens)).toBe(reference.greedy_text);
    });

    it('greedy: all prompts as one batch', async () => {
      const all = prompts.map(({ reference }) => reference);
      const results = await model.generateAll(
        all.map(({ ids }) => ids),
        { maxTokens: NEW_TOKENS },
      );
      expect(results.map(({ tokens }) => tokens)).toEqual(all.map(({ greedy_ids }) => greedy_ids));
    });

    describe.each([
      { nExperts: 8, topK: 2 },
      { nExperts: 64, topK: 8 },
    ])('upcycled to $nExperts experts, top-$topK', (options) => {
      let sparse: LanguageModel;
      let bytes = 0;
      beforeAll(async () => {
        const { addon } = model.device;
        const before = addon.memoryUsage().weights;
        sparse = await model.upcycle(options);
        bytes = addon.memoryUsage().weights - before;
      });
      afterAll(() => sparse?.dispose());

      it('shares the packed bytes of its experts', () => {
        const { nLayers, dModel } = model.config;
        // Only the routers are new; their rows may be padded to panels.
        const routers = 4 * nLayers * dModel * Math.ceil(options.nExperts / 64) * 64;
        expect(bytes).toBeLessThanOrEqual(2 * routers);
      });

      it.each(prompts)('logits and greedy ids: $title', async ({ reference }) => {
        const dense = await logitsOf(model, reference.ids);
        const routed = await logitsOf(sparse, reference.ids);
        expectClose('upcycled logits', routed, dense, { tolerance: 1e-4 });
        const { tokens } = await sparse.generate(reference.ids, { maxTokens: NEW_TOKENS }).result();
        expect(tokens).toEqual(reference.greedy_ids);
      });
    });
  });

  describe('fast', () => {
    let model: LanguageModel;
    beforeAll(async () => {
      model = await loadLanguageModel(file, { contextLength: CONTEXT });
    });
    afterAll(() => model?.dispose());

    it('rounds its activations', () => expect(model.dtype).not.toBe('f32'));

    it('has nearly the same mean log-probability over all prompts', async () => {
      const sum = { got: 0, want: 0 };
      for (const { title, reference } of prompts) {
        const got = meanLogprob(await logitsOf(model, reference.ids), reference.ids);
        const d = distance([got], [reference.mean_logprob]);
        worst.set(
          'fast mean-logprob of one prompt',
          Math.max(worst.get('fast mean-logprob of one prompt') ?? 0, d),
        );
        // Six log-probabilities do not average rounding out as all of them do.
        expect(d, title).toBeLessThanOrEqual(0.05);
        sum.got += got * (reference.ids.length - 1);
        sum.want += reference.mean_logprob * (reference.ids.length - 1);
      }
      const d = distance([sum.got], [sum.want]);
      worst.set('fast mean-logprob', d);
      expect(d).toBeLessThanOrEqual(0.01);
    });
  });

  afterAll(() => {
    if (process.env.SWITCHYARD_PARITY_REPORT === '1') console.log(Object.fromEntries(worst));
  });
});
