import * as library from '@huggingface/tokenizers';
import { mismatch } from '../../core/errors.js';
import type { TokenizerJson } from '../tokenizer-json.js';

// The library's types do not resolve under NodeNext.
const { SequenceDecoder } = library as unknown as {
  SequenceDecoder: new (config: object) => { decode_chain(tokens: string[]): string[] };
};

/** Decodes all tokens at once: for decoders that decode-stages.ts has no stage for, such as CTC. */
export function wholeDecoder(json: TokenizerJson): (tokens: string[]) => string {
  let decoder: { decode_chain(tokens: string[]): string[] };
  try {
    decoder = new SequenceDecoder({ decoders: json.decoder === null ? [] : [json.decoder] });
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw mismatch('ERR_UNSUPPORTED', 'tokenizer.json: decoder', reason, 'a known decoder', { cause });
  }
  return (tokens) => decoder.decode_chain(tokens).join('');
}
