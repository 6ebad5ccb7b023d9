// Encoders against reference results: masked words, classes, states.
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { EncoderModel } from '../../src/generate/handles/encoder-model.js';
import { loadModel } from '../../src/generate/handles/load-model.js';
import type { EncoderOutput } from '../../src/models/stacks/encoder-forward.js';
import { fixturesFolder } from '../helpers/fixtures.js';
import { expectClose } from './compare.js';
import type { Expected, ExpectedInput } from './expected.js';
import { ofKind, readJson, StoredTensors } from './folders.js';

const KINDS = ['masked_lm', 'sequence_classification', 'token_classification'];
const TOLERANCE = 1e-4;

const folders = ofKind('model').flatMap(({ path, name }) => {
  const expected: Expected = readJson(join(path, 'expected.json'));
  return KINDS.includes(expected.kind) ? [{ path, name, expected }] : [];
});

describe.skipIf(fixturesFolder === undefined)('reference encoders', () => {
  it('are there', () => expect(folders.length).toBeGreaterThan(0));

  describe.each(folders)('$name', ({ path, expected }) => {
    const stored = new StoredTensors(join(path, 'expected.safetensors'));
    const names = Object.keys(expected.inputs);
    const inputOf = (name: string): ExpectedInput => expected.inputs[name] as ExpectedInput;
    const perText = expected.kind === 'sequence_classification';
    const outputs = new Map<string, EncoderOutput>();
    let model: EncoderModel;

    beforeAll(async () => {
      const loaded = await loadModel(path, { dtype: 'f32' });
      if (loaded.kind !== 'encoder') throw new Error(`${path} is a ${loaded.kind}`);
      model = loaded;
      for (const name of names) {
        const { input_ids, attention_mask, token_type_ids = [] } = inputOf(name);
        const inputs = { inputIds: input_ids, attentionMask: attention_mask, tokenTypeIds: token_type_ids };
        outputs.set(name, await model.forward({ ...inputs, outputHiddenStates: true }));
      }
    });
    afterAll(() => model?.dispose());

    it.each(names)('%s', async (name) => {
      const { attention_mask, argmax = [], labels } = inputOf(name);
      const mask = attention_mask.flat();
      const out = outputs.get(name) as EncoderOutput;
      const compare = async (what: string, got: { data(): Promise<ArrayLike<number>> }, each = false) =>
        expectClose(`${name} ${what}`, await got.data(), stored.floats(`${name}.${what}`).data, {
          tolerance: TOLERANCE,
          ...(each ? { mask } : {}),
        });
      expect(out.logits.shape).toEqual(stored.get(`${name}.logits`).shape);
      await compare('logits', out.logits, !perText);
      await compare('last_hidden_state', out.lastHiddenState, true);
      for (const [i, state] of (out.hiddenStates ?? []).entries())
        if (stored.has(`${name}.hidden_states.${i}`)) await compare(`hidden_states.${i}`, state, true);
      if (out.poolerOutput) await compare('pooler_output', out.poolerOutput);
      if (perText) await compare('probabilities', out.probabilities as NonNullable<typeof out.probabilities>);
      const width = out.logits.shape.at(-1) as number;
      const scores = await out.logits.data();
      const best = Array.from({ length: scores.length / width }, (_, i) => {
        const row = Array.from(scores.slice(i * width, (i + 1) * width));
        return row.indexOf(Math.max(...row));
      });
      const real = (values: readonly number[]) => values.filter((_, i) => perText || mask[i] === 1);
      expect(real(best)).toEqual(real(argmax.flat()));
      if (labels) expect(best.map((i) => model.config.labels[i])).toEqual(labels);
    });

    it('has no stored tensor that was not compared', () => expect(stored.unused()).toEqual([]));

    it.skipIf(!perText)('classifies texts alone and together', async () => {
      // the stored pairs have two segments, which texts alone cannot give
      const texts = [expected.texts?.single, expected.texts?.short].map((text) => text as string);
      const together = await model.classify(texts);
      for (const [i, text] of texts.entries()) {
        const [alone] = await model.classify([text]);
        const ids = model.tokenizer.encode(text);
        const { probabilities } = await model.forward({ inputIds: [ids] });
        const want = (await probabilities?.data()) as Float32Array;
        for (const c of [alone, together[i]])
          expectClose('probabilities', Object.values(c?.scores ?? {}), want, { tolerance: 1e-6 });
        expect(alone?.label).toBe(together[i]?.label);
      }
    });

    it.each(expected.tokenizer?.cases ?? [])('tokenizer: $text', (c) => {
      expect(model.tokenizer.encode(c.text, { addSpecialTokens: false })).toEqual(c.ids);
      expect(model.tokenizer.encode(c.text)).toEqual(c.ids_with_special);
    });
  });
});
