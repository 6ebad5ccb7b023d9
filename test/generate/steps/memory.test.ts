// Decoding over an encoded text: whoever runs beside, waits for room or is aborted, a text's answer is the one it gets alone.
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { SwitchyardError } from '../../../src/core/errors.js';
import type { EncoderDecoderModel } from '../../../src/generate/handles/encoder-decoder-model.js';
import { loadModel } from '../../../src/generate/handles/load-model.js';
import type { LoadModelOptions } from '../../../src/generate/handles/load-options.js';
import { KV_BLOCK } from '../../../src/nn/kv-blocks.js';
import { temporaryFolder } from '../../helpers/checkpoint.js';
import { generator } from '../../helpers/random.js';
import { writeRandomFolder } from '../../helpers/random-folder.js';
import { TINY_VOCABULARY } from '../../helpers/tiny-model.js';
import { TINY_SWITCH, TINY_T5 } from '../../helpers/tiny-stacks.js';

const root = temporaryFolder();

const open: EncoderDecoderModel[] = [];
async function load(name: string, options: LoadModelOptions = {}): Promise<EncoderDecoderModel> {
  const model = await loadModel(join(root, name), {
    dtype: 'f32',
    contextLength: 128,
    cacheTokens: 2048,
    ...options,
  });
  if (model.kind !== 'encoder-decoder') throw new Error(`${name} is no encoder-decoder`);
  open.push(model);
  return model;
}
const next = generator(3);
const ids = (n: number): number[] => Array.from({ length: n }, () => Math.floor(next() * 256));
const texts = [5, 70, 1, 33, 32, 12].map(ids);
const options = { maxTokens: 12, ignoreEos: true };
const answer = async (model: EncoderDecoderModel, text: readonly number[]): Promise<readonly number[]> =>
  (await model.generate(text, options).result()).tokens;

beforeAll(async () => {
  await writeRandomFolder(join(root, 'dense'), TINY_T5);
  await writeRandomFolder(join(root, 'sparse'), TINY_SWITCH);
});
afterEach(() => {
  for (const { engine } of open) {
    expect(engine.cache.freeBlocks).toBe(engine.cache.blocks);
    expect(engine.memory?.cache.freeBlocks).toBe(engine.memory?.cache.blocks);
  }
});
afterAll(() => Promise.all(open.map((model) => model.dispose())));

describe.each(['dense', 'sparse'])('%s', (name) => {
  it('answers are what whole passes give', async () => {
    const model = await load(name);
    const text = texts[0] as number[];
    const made = [0];
    // a step drops no token, whole passes do once an expert is full: as long as it has room, both agree
    const steps = name === 'sparse' ? 2 : 6;
    for (let i = 0; i < steps; i++) {
      const { logits } = await model.forward({ inputIds: [text], decoderInputIds: [made] });
      const row = Array.from(await logits.data()).slice(-TINY_VOCABULARY);
      made.push(row.indexOf(Math.max(...row)));
    }
    expect((await answer(model, text)).slice(0, steps)).toEqual(made.slice(1));
  });

  it('are the same alone, together, and where few texts fit at once', async () => {
    const model = await load(name);
    const alone: (readonly number[])[] = [];
    for (const text of texts) alone.push(await answer(model, text));
    expect(new Set(alone.map(String)).size).toBeGreaterThan(3);
    const together = await model.generateAll(texts, options);
    expect(together.map((r) => r.tokens)).toEqual(alone);
    // room for 96 tokens: the long text and little more
    const narrow = await load(name, { cacheTokens: 96 });
    const crowded = await narrow.generateAll(texts, options);
    expect(crowded.map((r) => r.tokens)).toEqual(alone);
    expect(await Promise.all(texts.map((text) => answer(narrow, text)))).toEqual(alone);
  });

  it('several to one text share what was encoded', async () => {
    const model = await load(name);
    const text = texts[3] as number[];
    const many = await model.generateMany(text, { ...options, n: 3, temperature: 1, seed: 5 });
    for (const [i, { tokens }] of many.entries()) {
      const one = await model.generate(text, { ...options, temperature: 1, seed: 5 + i }).result();
      expect(tokens).toEqual(one.tokens);
    }
    const { hypotheses } = await model
      .generate(text, { ...options, beams: { beams: 3, returned: 2 } })
      .result();
    expect(hypotheses?.length).toBe(2);
  });

  it('count the tokens of the text', async () => {
    const model = await load(name);
    const { timings } = await model.generate(texts[0] as number[], options).result();
    expect(timings.promptTokens).toBe((texts[0]?.length ?? 0) + 1);
  });

  it('keep the caches in 16 bits where asked', async () => {
    const model = await load(name, { kvCache: 'f16' });
    expect((await answer(model, texts[0] as number[])).length).toBe(options.maxTokens);
  });
});

describe('a text', () => {
  it('is refused where it can never be held, or is empty', async () => {
    const model = await load('dense', { contextLength: 64, cacheTokens: KV_BLOCK });
    await expect(answer(model, ids(33))).rejects.toMatchObject({ code: 'ERR_CONTEXT_LENGTH' });
    await expect(answer(model, [])).rejects.toMatchObject({ code: 'ERR_OPTION' });
    await expect(answer(model, [9999]).catch((e) => Promise.reject(e))).rejects.toMatchObject({
      code: 'ERR_OPTION',
    });
    expect((await answer(model, ids(32))).length).toBe(options.maxTokens);
  });

  it('cannot be longer than positions that were learned', async () => {
    const path = await writeRandomFolder(join(root, 'learned'), {
      model_type: 'bart',
      d_model: 12,
      encoder_layers: 1,
      decoder_layers: 1,
      encoder_attention_heads: 2,
      decoder_attention_heads: 2,
      encoder_ffn_dim: 16,
      decoder_ffn_dim: 16,
      max_position_embeddings: 20,
      vocab_size: TINY_VOCABULARY,
    });
    await expect(loadModel(path, { contextLength: 21 })).rejects.toMatchObject({ code: 'ERR_OPTION' });
    const model = await load('learned', { contextLength: 20 });
    await expect(answer(model, ids(21))).rejects.toMatchObject({ code: 'ERR_CONTEXT_LENGTH' });
    expect((await answer(model, ids(20))).length).toBe(options.maxTokens);
  });

  it('that waits for room may be given up', async () => {
    const model = await load('dense', { cacheTokens: KV_BLOCK });
    const first = model.generate(ids(20), { maxTokens: 24, ignoreEos: true });
    const running = first.result();
    const controller = new AbortController();
    const waiting = model.generate(ids(20), { ...options, signal: controller.signal }).result();
    controller.abort();
    const thrown = await waiting.catch((error: unknown) => error);
    expect(thrown).toBeInstanceOf(SwitchyardError);
    expect((thrown as SwitchyardError).code).toBe('ERR_ABORTED');
    expect((await running).tokens.length).toBe(24);
  });

  it('waits no longer when the model is disposed', async () => {
    const model = await load('dense', { cacheTokens: KV_BLOCK });
    const memory = await (model.engine.memory as NonNullable<typeof model.engine.memory>).remember(ids(20));
    const waiting = answer(model, ids(20)).catch((error: unknown) => error);
    await new Promise((resolve) => setImmediate(resolve));
    const disposing = model.dispose();
    expect((await waiting) as SwitchyardError).toMatchObject({ code: 'ERR_DISPOSED' });
    memory.release();
    await disposing;
    await expect(answer(model, ids(3))).rejects.toMatchObject({ code: 'ERR_DISPOSED' });
  });

  it('may be answered from a given beginning', async () => {
    const model = await load('dense');
    const text = texts[0] as number[];
    const whole = await answer(model, text);
    const { tokens } = await model
      .generate(text, { ...options, maxTokens: 9, decoderPrompt: whole.slice(0, 3) })
      .result();
    expect(tokens).toEqual(whole.slice(3));
  });

  it('may be shorter than what is fed of the answer at once', async () => {
    const model = await load('dense');
    const [text, beginning] = [ids(3), ids(40)];
    const result = await model
      .generate(text, { ...options, maxTokens: 1, decoderPrompt: beginning })
      .result();
    const { logits } = await model.forward({ inputIds: [text], decoderInputIds: [[0, ...beginning]] });
    const row = Array.from(await logits.data()).slice(-TINY_VOCABULARY);
    expect(result.tokens).toEqual([row.indexOf(Math.max(...row))]);
  });
});
