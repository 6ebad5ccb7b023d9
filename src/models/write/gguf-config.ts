/** A decoder's config as GGUF metadata. */
import { gatingForm } from '../../moe/gating/index.js';
import type { DecoderConfig } from '../decoder/config.js';
import type { Family } from '../family.js';
import { DECODER_KEYS, SCORING } from '../gguf/config.js';
import { type GgufValues, writeKeys } from '../gguf/keys.js';
import { scalingKeys } from '../gguf/rope.js';
import { ConfigReader } from '../read/config-reader.js';
import { allKeys } from './config-json.js';

/** How configs call the scores of a gating policy. */
const SCORES: Readonly<Record<string, (typeof SCORING)[number]>> = {
  'softmax-top-k': 'softmax',
  'group-limited-greedy': 'softmax',
  'sigmoid-top-k': 'sigmoid',
  'top-k-softmax': 'softmax_of_chosen',
};

/** @throws SwitchyardError ERR_UNSUPPORTED for what GGUF has no words for */
export function ggufMetadata(config: DecoderConfig, family: Family): GgufValues {
  const arch = family.ggufArchitecture as string;
  const all = allKeys(config);
  const reader = new ConfigReader({ ...all, ...family.ggufImplies }, 'GGUF');
  family.fromHuggingFace(reader);
  const read = Object.fromEntries(Object.entries(all).filter(([key]) => reader.reads(key)));
  const values: GgufValues = new Map([['general.architecture', arch]]);
  const put = (key: string, value: number) => values.set(`${arch}.${key}`, value);
  for (const [key, value] of writeKeys(DECODER_KEYS, read, arch)) values.set(key, value);
  // Prediction layers count among the blocks.
  put('block_count', config.nLayers + config.nPredictionLayers);
  put('attention.value_length', config.headDim);
  const score = config.moe && SCORES[gatingForm(config.moe.gating).name];
  if (score && reader.reads('scoring_func')) put('expert_gating_func', SCORING.indexOf(score) + 1);
  if (config.rope !== null) {
    put('rope.dimension_count', config.rope.dim);
    for (const [key, value] of scalingKeys(config.rope, arch)) values.set(key, value);
  }
  for (const [key, value] of family.ggufOwn?.write(config) ?? []) values.set(key, value);
  return values;
}
