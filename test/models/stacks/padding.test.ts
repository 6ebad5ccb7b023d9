// Padding changes nothing: rows of a padded batch are what they are alone.
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { EncoderDecoderModel } from '../../../src/generate/handles/encoder-decoder-model.js';
import { loadModel } from '../../../src/generate/handles/load-model.js';
import { temporaryFolder } from '../../helpers/checkpoint.js';
import { generator } from '../../helpers/random.js';
import { writeRandomFolder } from '../../helpers/random-folder.js';
import { TINY_VOCABULARY } from '../../helpers/tiny-model.js';
import { TINY_SWITCH } from '../../helpers/tiny-stacks.js';
import { expectClose, expectSame } from '../../parity/compare.js';

const root = temporaryFolder();
const own = (name: string) => fileURLToPath(new URL(`../../fixtures/${name}`, import.meta.url));
const BART = {
  model_type: 'bart',
  d_model: 12,
  encoder_layers: 2,
  decoder_layers: 2,
  encoder_attention_heads: 3,
  decoder_attention_heads: 2,
  encoder_ffn_dim: 20,
  decoder_ffn_dim: 16,
  max_position_embeddings: 40,
  vocab_size: TINY_VOCABULARY,
};

/** Sides on which padding leaves rows as they are: places of experts and positions may be counted from the left. */
const CASES: [name: string, sides: readonly ('left' | 'right')[]][] = [
  ['switch', ['right']],
  ['bart', ['right']],
  ['st_moe', ['left', 'right']],
  ['nllb_moe', ['left', 'right']],
];

describe.each(CASES)('%s', (name, sides) => {
  let model: EncoderDecoderModel;
  beforeAll(async () => {
    const made = { switch: TINY_SWITCH, bart: BART }[name];
    const path = made ? await writeRandomFolder(join(root, name), made) : own(name);
    const loaded = await loadModel(path, { dtype: 'f32' });
    if (loaded.kind !== 'encoder-decoder') throw new Error(name);
    model = loaded;
  });
  afterAll(() => model?.dispose());

  it.each(sides)('padded on the %s', async (side) => {
    const next = generator(17);
    const { vocabSize } = model.config;
    const ids = (n: number) => Array.from({ length: n }, () => 4 + Math.floor(next() * (vocabSize - 4)));
    const rows = [
      [9, 3],
      [4, 7],
      [1, 1],
    ].map(([s = 0, t = 0]) => ({ source: ids(s), target: [model.config.startId, ...ids(t - 1)] }));
    const pad = (row: readonly number[], length: number, fill: number): number[] => {
      const rest = Array(length - row.length).fill(fill) as number[];
      return side === 'left' ? [...rest, ...row] : [...row, ...rest];
    };
    const ones = (row: readonly number[]) => row.map(() => 1);
    const together = await model.forward({
      inputIds: rows.map(({ source }) => pad(source, 9, 3)),
      attentionMask: rows.map(({ source }) => pad(ones(source), 9, 0)),
      decoderInputIds: rows.map(({ target }) => pad(target, 7, 3)),
      decoderAttentionMask: rows.map(({ target }) => pad(ones(target), 7, 0)),
    });
    const logits = (await together.logits.data()) as Float32Array;
    for (const [b, { source, target }] of rows.entries()) {
      const alone = await model.forward({ inputIds: [source], decoderInputIds: [target] });
      const first = b * 7 + (side === 'left' ? 7 - target.length : 0);
      const got = logits.slice(first * vocabSize, (first + target.length) * vocabSize);
      const want = await alone.logits.data();
      // on the right even the bits are the same: keys that nobody sees stand behind all others
      if (side === 'right') expectSame(`${name} row ${b}`, got, want);
      else expectClose(`${name} row ${b}`, got, want, { tolerance: 1e-5 });
      expect(got.length).toBe(want.length);
    }
  });
});
