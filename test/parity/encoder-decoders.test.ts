// Encoder-decoders against reference results: logits, states, routing, losses, greedy ids with and without a cache.
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Tensor } from '../../src/core/tensor.js';
import type { EncoderDecoderModel } from '../../src/generate/handles/encoder-decoder-model.js';
import { loadModel } from '../../src/generate/handles/load-model.js';
import { samplers } from '../../src/generate/samplers/index.js';
import { Sampling } from '../../src/generate/steps/sampling.js';
import type { EncoderDecoderOutput } from '../../src/models/stacks/encoder-decoder-forward.js';
import { fixturesFolder } from '../helpers/fixtures.js';
import { expectClose, expectSame, expectTwins } from './compare.js';
import { type Expected, type ExpectedInput, type GreedyRow, rowsOf } from './expected.js';
import { ofKind, ownFolders, readJson, StoredTensors } from './folders.js';

const TOLERANCE = { values: 1e-4, routerWeights: 1e-5, loss: 1e-5 };

const folders = [...ofKind('model'), ...ownFolders].flatMap(({ path, name }) => {
  const expected: Expected = readJson(join(path, 'expected.json'));
  return expected.kind === 'seq2seq' ? [{ path, name, expected }] : [];
});

const PARTS = ['encoder', 'decoder'] as const;

it('there are folders from elsewhere too', () => {
  if (fixturesFolder !== undefined) expect(folders.length).toBeGreaterThan(ownFolders.length);
});

describe.each(folders)('$name', ({ path, expected }) => {
  const stored = new StoredTensors(join(path, 'expected.safetensors'));
  const names = Object.keys(expected.inputs);
  const greedy = expected.greedy ?? [];
  const inputOf = (name: string): ExpectedInput => expected.inputs[name] as ExpectedInput;
  const outputs = new Map<string, EncoderDecoderOutput>();
  let model: EncoderDecoderModel;

  beforeAll(async () => {
    const loaded = await loadModel(path, { dtype: 'f32', cacheTokens: 1024 });
    if (loaded.kind !== 'encoder-decoder') throw new Error(`${path} is a ${loaded.kind}`);
    model = loaded;
    for (const name of names) {
      const input = inputOf(name);
      const out = await model.forward({
        inputIds: input.input_ids,
        attentionMask: input.attention_mask,
        decoderInputIds: input.decoder_input_ids as number[][],
        decoderAttentionMask: input.decoder_attention_mask as number[][],
        outputHiddenStates: true,
        outputRouting: true,
      });
      outputs.set(name, out);
    }
  });
  afterAll(() => model?.dispose());

  const maskOf = (name: string, part: 'encoder' | 'decoder'): number[] => {
    const { attention_mask, decoder_attention_mask = [] } = inputOf(name);
    return (part === 'encoder' ? attention_mask : decoder_attention_mask).flat();
  };
  const compare = async (what: string, got: Tensor, mask: number[]): Promise<void> => {
    const want = stored.floats(what);
    expect(got.shape).toEqual(want.shape);
    expectClose(what, await got.data(), want.data, { tolerance: TOLERANCE.values, mask });
  };

  it.each(names)('%s: logits and states', async (name) => {
    const out = outputs.get(name) as EncoderDecoderOutput;
    await compare(`${name}.logits`, out.logits, maskOf(name, 'decoder'));
    await compare(`${name}.encoder_last_hidden_state`, out.encoderLastHiddenState, maskOf(name, 'encoder'));
    for (const part of PARTS)
      for (const [i, state] of (out[`${part}HiddenStates`] ?? []).entries()) {
        const what = `${name}.${part}_hidden_states.${i}`;
        if (stored.has(what)) await compare(what, state, maskOf(name, part));
      }
  });

  it.each(names)('%s: routing', async (name) => {
    const out = outputs.get(name) as EncoderDecoderOutput;
    const dropped: Record<string, number> = {};
    for (const part of PARTS) {
      const layers = model.config[part].moe?.layers ?? [];
      const routing = out[`${part}Routing`] ?? [];
      expect(routing.length).toBe(layers.length);
      const mask = maskOf(name, part);
      for (const [i, { routerLogits, expertIds, combineWeights }] of routing.entries()) {
        const at = `${name}.${part}.router.${layers[i]}`;
        await compare(`${at}.logits`, routerLogits, mask);
        const ids = await expertIds.data();
        expectSame(`${at}.experts`, ids, stored.get(`${at}.experts`).data, mask);
        dropped[`${part}.${layers[i]}`] = ids.filter((id) => id < 0).length;
        expectClose(
          `${at} router-weights`,
          await combineWeights.data(),
          stored.floats(`${at}.weights`).data,
          {
            tolerance: TOLERANCE.routerWeights,
            absolute: true,
            mask,
          },
        );
      }
    }
    const want = inputOf(name).dropped_tokens;
    if (want) expect(dropped).toEqual(want);
  });

  it.each(names)('%s: losses', async (name) => {
    const out = outputs.get(name) as EncoderDecoderOutput;
    const input = inputOf(name);
    const pairs = PARTS.flatMap((part) => [
      { want: input[`${part}_z_loss`], got: out[`${part}ZLoss`] },
      { want: input[`${part}_aux_loss`], got: out[`${part}AuxLoss`] },
    ]);
    for (const { want, got } of pairs) {
      if (want === undefined) continue;
      expectClose('loss', [await (got as Tensor).item()], [want], { tolerance: TOLERANCE.loss });
    }
  });

  const runs = greedy.map((run, i) => ({ run, title: `greedy run ${i} of ${run.input}` }));
  const optionsOf = (run: { eos_token_id: number[] | number | null; max_new_tokens: number }) => ({
    maxTokens: run.max_new_tokens,
    ignoreEos: true,
    stopTokens: [run.eos_token_id ?? []].flat(),
  });

  it.each(runs.filter(({ run }) => run.use_cache !== false))('$title', async ({ run }) => {
    const rows = rowsOf(run, inputOf(run.input));
    const prompts = rows.map((row) => row.prompt);
    const together = await model.generateAll(prompts, optionsOf(run));
    expect(together.map((r) => r.tokens)).toEqual(rows.map((row) => row.continuation));
    for (const { prompt, continuation } of rows) {
      const { tokens } = await model.generate(prompt, optionsOf(run)).result();
      expect(tokens).toEqual(continuation);
    }
    const { cache, memory } = model.engine;
    expect([cache.freeBlocks, memory?.cache.freeBlocks]).toEqual([cache.blocks, memory?.cache.blocks]);
  });

  it.each(runs.filter(({ run }) => run.use_cache === false))('$title, recomputed', async ({ run }) => {
    const { input_ids, attention_mask } = inputOf(run.input);
    const rows = rowsOf(run, inputOf(run.input));
    for (const row of rows) expect((await recomputed(row)).map(argmax)).toEqual(row.continuation);
    // all rows as one padded batch
    for (let n = 0; n < run.max_new_tokens; n++) {
      const decoderInputIds = run.sequences.map((sequence) => sequence.slice(0, n + 1));
      const { logits } = await model.forward({
        inputIds: input_ids,
        attentionMask: attention_mask,
        decoderInputIds,
      });
      const values = (await logits.data()) as Float32Array;
      const size = values.length / rows.length;
      const { vocabSize } = model.config;
      const next = rows.map((_, b) => argmax(values.subarray((b + 1) * size - vocabSize, (b + 1) * size)));
      expect(next).toEqual(rows.map((row) => row.continuation[n]));
    }
  });

  /** The logits behind each new token, by a whole pass for each. */
  async function recomputed({ prompt, continuation }: GreedyRow): Promise<Float32Array[]> {
    const all: Float32Array[] = [];
    for (let n = 0; n < continuation.length; n++) {
      const decoderInputIds = [[model.config.startId, ...continuation.slice(0, n)]];
      const { logits } = await model.forward({ inputIds: [prompt], decoderInputIds });
      all.push((await logits.data()).slice(-model.config.vocabSize) as Float32Array);
    }
    return all;
  }

  /** The same step by step over the caches. */
  async function stepped({ prompt, continuation }: GreedyRow): Promise<Float32Array[]> {
    const memory = await (model.engine.memory as NonNullable<typeof model.engine.memory>).remember(prompt);
    const sequence = model.engine.newSequence();
    const all: Float32Array[] = [];
    for (let n = 0; n < continuation.length; n++) {
      const tokens = [n === 0 ? model.config.startId : (continuation[n - 1] as number)];
      const fed = { sequence, memory, tokens, sampling: new Sampling(samplers.greedy()) };
      const { logits } = await model.engine.step([fed], { logits: true });
      all.push(logits as Float32Array);
    }
    sequence.release();
    memory.release();
    return all;
  }

  const steps = stored.names().filter((name) => name.endsWith('.greedy.step_logits'));
  it.each(steps)('%s', async (name) => {
    const run = greedy.find(({ input }) => name === `${input}.greedy.step_logits`);
    if (!run) throw new Error(`no greedy run for ${name}`);
    const [row] = rowsOf(run, inputOf(run.input)) as [GreedyRow];
    const cached = flat(await stepped(row));
    expectClose('step logits', cached, stored.floats(name).data, { tolerance: TOLERANCE.values });
    // where places of experts are few, whole passes drop tokens and steps do not
    if (model.config.decoder.capacity !== null) return;
    expectTwins('cached and uncached logits', cached, flat(await recomputed(row)));
  });

  const { text } = expected;
  it.skipIf(!text)('takes a text', async () => {
    const { prompt, prompt_ids } = text as NonNullable<typeof text>;
    expect(model.tokenizer.encode(prompt)).toEqual(prompt_ids);
    const options = { maxTokens: 8, ignoreEos: true };
    const { tokens, text: got } = await model.generate(prompt, options).result();
    expect(tokens).toEqual((await model.generate(prompt_ids, options).result()).tokens);
    expect(got).toBe(model.tokenizer.decode(tokens, { skipSpecialTokens: true }));
  });

  it.each(expected.tokenizer?.cases ?? [])('tokenizer: $text', (c) => {
    expect(model.tokenizer.encode(c.text, { addSpecialTokens: false })).toEqual(c.ids);
    expect(model.tokenizer.encode(c.text)).toEqual(c.ids_with_special);
  });

  it('has no stored tensor that was not compared', () => expect(stored.unused()).toEqual([]));
});

const flat = (rows: Float32Array[]): Float32Array => Float32Array.from(rows.flatMap((row) => [...row]));

function argmax(values: ArrayLike<number>): number {
  let best = 0;
  for (let i = 1; i < values.length; i++) if ((values[i] as number) > (values[best] as number)) best = i;
  return best;
}
