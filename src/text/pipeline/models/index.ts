import type { ModelType, TokenizerModel } from '../../tokenizer-json.js';
import { BpeModel } from './bpe.js';
import type { TokenModel } from './model.js';
import { UnigramModel } from './unigram.js';
import { WordLevelModel, WordPieceModel } from './word-piece.js';

export type { TokenModel } from './model.js';

type MakeModel = new (config: TokenizerModel, ids: ReadonlyMap<string, number>) => TokenModel;

const MODELS: Readonly<Record<ModelType, MakeModel>> = {
  BPE: BpeModel,
  Unigram: UnigramModel,
  WordPiece: WordPieceModel,
  WordLevel: WordLevelModel,
};

/** The `model` of a tokenizer.json, and the id of every token of its vocabulary. */
export function makeModel(config: TokenizerModel): { model: TokenModel; ids: Map<string, number> } {
  const Model = MODELS[config.type];
  const { vocab } = config;
  const ids = new Map(
    Array.isArray(vocab) ? vocab.map(([token], id): [string, number] => [token, id]) : Object.entries(vocab),
  );
  return { model: new Model(config, ids), ids };
}
