import { readFileSync } from 'node:fs';
import type { Checkpoint } from '../checkpoint/folder.js';
import { readJsonFile } from '../checkpoint/json-file.js';
import { SwitchyardError } from '../core/errors.js';
import { tokenizerFromGguf } from '../text/gguf-tokenizer.js';
import { Tokenizer } from '../text/tokenizer.js';

/** Far above any published tokenizer (the largest have about 20 MB). */
const LIMITS = { bytes: 256 << 20, depth: 64, values: 1 << 24 };

/** The tokenizer that comes with a checkpoint. */
export function loadTokenizer(checkpoint: Checkpoint): Tokenizer {
  if (checkpoint.kind === 'gguf') return tokenizerFromGguf(checkpoint.metadata);
  const { tokenizer, tokenizerConfig, specialTokensMap, chatTemplate } = checkpoint.textFiles;
  if (tokenizer === undefined) {
    throw new SwitchyardError(
      'ERR_FORMAT',
      `[${checkpoint.folder}] got no tokenizer.json, expected one beside the weights`,
      { hint: 'save the tokenizer in its fast form' },
    );
  }
  const json = (path: string | undefined): unknown =>
    path === undefined ? undefined : readJsonFile(path, LIMITS);
  return Tokenizer.fromFiles({
    tokenizerJson: json(tokenizer),
    tokenizerConfig: json(tokenizerConfig),
    specialTokensMap: json(specialTokensMap),
    ...(chatTemplate === undefined ? {} : { chatTemplate: readFileSync(chatTemplate, 'utf8') }),
  });
}
