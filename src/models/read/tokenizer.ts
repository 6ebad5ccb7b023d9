import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Place } from '../../checkpoint/checked.js';
import type { Checkpoint, GgufCheckpoint, PackedCheckpoint } from '../../checkpoint/folder.js';
import { parseJsonObject, readJsonFile } from '../../checkpoint/json-file.js';
import { parsePackedTokenizer } from '../../checkpoint/packed-read.js';
import { SwitchyardError } from '../../core/errors.js';
import { tokenizerFromGguf } from '../../text/gguf-tokenizer.js';
import { Tokenizer, type TokenizerFiles } from '../../text/tokenizer.js';

/** Far above any published tokenizer (the largest have about 20 MB). */
const LIMITS = { bytes: 256 << 20, depth: 64, values: 1 << 24 };

/** The tokenizer that comes with a checkpoint. Errors name its file. */
export function loadTokenizer(checkpoint: Checkpoint): Tokenizer {
  if (checkpoint.kind === 'gguf') {
    const { path, metadata } = checkpoint;
    return located(`${path}: `, () => tokenizerFromGguf(metadata, embeddedJson(checkpoint)));
  }
  if (checkpoint.kind === 'switchyard') {
    const files = packedFiles(checkpoint);
    return located(`${checkpoint.path}: `, () => Tokenizer.fromFiles(files));
  }
  const { folder } = checkpoint;
  const { tokenizer, tokenizerConfig, specialTokensMap, chatTemplate } = checkpoint.textFiles;
  if (tokenizer === undefined) {
    throw new SwitchyardError(
      'ERR_FORMAT',
      `[${folder}] got no tokenizer.json, expected one beside the weights`,
      { hint: 'save the tokenizer in its fast form' },
    );
  }
  const json = (path: string | undefined): unknown =>
    path === undefined ? undefined : readJsonFile(path, LIMITS);
  const files = {
    tokenizerJson: json(tokenizer),
    tokenizerConfig: json(tokenizerConfig),
    specialTokensMap: json(specialTokensMap),
    ...(chatTemplate === undefined ? {} : { chatTemplate: readFileSync(chatTemplate, 'utf8') }),
  };
  return located(join(folder, '/'), () => Tokenizer.fromFiles(files));
}

/** The tokenizer.json that a GGUF file may hold beside the keys of the format. */
function embeddedJson({ path, metadata }: GgufCheckpoint): unknown {
  const key = 'tokenizer.huggingface.json';
  const text = metadata.getString(key, undefined);
  return text === undefined ? undefined : parseJsonObject(Buffer.from(text), new Place(path, key), LIMITS);
}

/** What `Tokenizer.files` was when the file was written. */
function packedFiles(checkpoint: PackedCheckpoint): TokenizerFiles {
  const { tokenizerJson, tokenizerConfig, specialTokensMap, chatTemplate, tokens, ...rest } =
    parsePackedTokenizer(checkpoint);
  const odd = Object.keys(rest)[0];
  const wrong = (what: string): SwitchyardError =>
    new SwitchyardError(
      'ERR_FORMAT',
      `[${checkpoint.path}: tokenizer] got ${what}, expected what its writer writes`,
    );
  if (odd !== undefined) throw wrong(`key '${odd.slice(0, 100)}'`);
  if (chatTemplate !== undefined && typeof chatTemplate !== 'string')
    throw wrong('a chatTemplate that is no text');
  const isText = (token: unknown): token is string => typeof token === 'string';
  if (tokens !== undefined && !(Array.isArray(tokens) && tokens.every(isText)))
    throw wrong('tokens that are no texts');
  return {
    tokenizerJson,
    tokenizerConfig,
    specialTokensMap,
    ...(chatTemplate === undefined ? {} : { chatTemplate }),
    ...(tokens === undefined ? {} : { tokens: tokens as readonly string[] }),
  };
}

/** Puts the place before what errors name: the reader of a tokenizer does not know where its files lie. */
function located(place: string, read: () => Tokenizer): Tokenizer {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof SwitchyardError)) throw error;
    const { code, message, hint, cause } = error;
    throw new SwitchyardError(code, message.replace(/^\[/, `[${place}`), {
      cause,
      ...(hint === undefined ? {} : { hint }),
    });
  }
}
