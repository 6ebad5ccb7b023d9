/** Models for benches: a file, or a tiny one with random weights; and what one token of a model costs. */
import { existsSync } from 'node:fs';
import type { Device } from '../../src/core/device.js';
import { type Tensor, tensor } from '../../src/core/tensor.js';
import type { Weight } from '../../src/core/weight.js';
import { LanguageModel } from '../../src/generate/handles/language-model.js';
import { loadLanguageModel } from '../../src/generate/handles/load-model.js';
import type { LoadModelOptions } from '../../src/generate/handles/load-options.js';
import { decoderParts } from '../../src/models/decoder/build.js';
import { type DecoderConfig, rmsNorm, USUAL } from '../../src/models/decoder/config.js';
import { Decoder } from '../../src/models/decoder/decoder.js';
import { packValues } from '../../src/models/read/weights.js';
import { Tokenizer } from '../../src/text/tokenizer.js';
import type { Bench } from './case.js';
import { randomValues } from './random-weights.js';

/** The model file of the options, or in its absence (and in smoke runs) a tiny random model. */
export async function openBenchModel(
  { options, device, note }: Bench,
  settings: LoadModelOptions = {},
): Promise<{ model: LanguageModel; name: string; path: string | null }> {
  const path = options.model;
  if (path !== null && !existsSync(path)) throw new Error(`[bench] got no model at ${path}, expected one`);
  if (path !== null && !options.smoke) {
    const model = await loadLanguageModel(path, { ...settings, device });
    return { model, name: nameOf(path), path };
  }
  if (path === null && !options.smoke) note('no model file (--model or SWITCHYARD_MODEL): a tiny random one');
  return { model: await tinyModel(device), name: 'tiny', path: null };
}

export const nameOf = (path: string): string => (path.split(/[\\/]/).at(-1) ?? path).replace(/\.gguf$/, '');

/** Prompt ids that any vocabulary has, as the peers get them. Another `turn` begins otherwise: a beginning that a model has
 * read is not read again. */
export const promptOf = (model: LanguageModel, length: number, turn = 0): number[] => {
  const low = Math.min(300, model.config.vocabSize >> 1);
  const span = Math.min(40_000, model.config.vocabSize - low);
  return Array.from({ length }, (_, i) => low + (((i + turn) * 7919) % span));
};

const D = 64;
const V = 512;
const TINY: DecoderConfig = {
  ...USUAL,
  family: 'llama',
  dModel: D,
  nLayers: 1,
  nHeads: 4,
  nKvHeads: 2,
  headDim: 16,
  dFf: 128,
  vocabSize: V,
  maxSeqLen: 2048,
  norm: rmsNorm(1e-5),
  dEmbedding: D,
  activation: 'silu',
  rope: { theta: 10_000, dim: 16, interleaved: false, scaling: { type: 'default' } },
  tiedEmbeddings: true,
  bosId: null,
  eosIds: [],
};

/** A decoder of one small layer with random weights: its steps cost next to no arithmetic. */
export async function tinyModel(device: Device): Promise<LanguageModel> {
  let seed = 1;
  const parameters = new Map<string, Weight | Tensor>();
  for (const { name, kind, shape } of decoderParts(TINY)) {
    const [rows = 1, columns = 1] = shape;
    const ones = (): Tensor => tensor(new Float32Array(rows).fill(1));
    const matrix = (): Promise<Weight> =>
      packValues(device, randomValues(rows * columns, seed++), rows, columns);
    parameters.set(name, kind === 'vector' ? ones() : await matrix());
  }
  const decoder = new Decoder(TINY, parameters, TINY.maxSeqLen);
  const model = new LanguageModel(decoder, wordTokenizer(), {
    device,
    compute: 'f32',
    kvCache: 'f32',
    contextLength: TINY.maxSeqLen,
    cacheTokens: TINY.maxSeqLen,
  });
  await model.engine.warm();
  return model;
}

function wordTokenizer(): Tokenizer {
  const vocab = Object.fromEntries(Array.from({ length: V }, (_, i) => [`w${i}`, i]));
  const byteLevel = { type: 'ByteLevel', add_prefix_space: false, use_regex: false };
  return Tokenizer.fromFiles({
    tokenizerJson: {
      model: { type: 'BPE', vocab, merges: [] },
      added_tokens: [],
      pre_tokenizer: byteLevel,
      decoder: byteLevel,
    },
  });
}
