import { mismatch } from '../../../core/errors.js';
import type { TokenizerModel } from '../../tokenizer-json.js';
import { asByteTokens, byteTokenIds, type TokenModel, WordCache } from './model.js';
import { PairTable } from './pair-table.js';

/** How much worse than the worst token an unknown character is. */
const UNKNOWN_PENALTY = 10;

/** Unigram language model (Kudo, arXiv 1804.10959): the segmentation of the highest sum of scores (Viterbi). */
export class UnigramModel implements TokenModel {
  readonly unknownId: number | undefined;
  readonly #ids: ReadonlyMap<string, number>;
  readonly #scores: Float64Array;
  readonly #bytes: Int32Array | undefined;
  readonly #unknownScore: number;
  readonly #trie: Trie;
  readonly #cache = new WordCache();

  constructor(config: TokenizerModel, ids: ReadonlyMap<string, number>) {
    const rows = config.vocab as [string, number][];
    this.#ids = ids;
    this.#scores = Float64Array.from(rows, ([, score]) => score);
    const unknown = config.unk_id;
    if (typeof unknown === 'number' && !(unknown in rows)) {
      throw mismatch('ERR_FORMAT', 'tokenizer.json: unk_id', String(unknown), `an id below ${rows.length}`);
    }
    this.unknownId = typeof unknown === 'number' ? unknown : undefined;
    this.#unknownScore =
      this.#scores.reduce((least, score) => Math.min(least, score), Infinity) - UNKNOWN_PENALTY;
    this.#bytes = config.byte_fallback === true ? byteTokenIds((token) => ids.get(token)) : undefined;
    this.#trie = new Trie(rows.map(([token]) => token));
  }

  encode(piece: string): number[] {
    if (piece === '') return [];
    const known = this.#cache.get(piece);
    if (known !== undefined) return known;
    const ids = this.#spell(piece);
    this.#cache.set(piece, ids);
    return ids;
  }

  #spell(piece: string): number[] {
    const { from, ids } = this.#bestPath(piece);
    const ends: number[] = [];
    for (let end = piece.length; end > 0; end = from[end]) ends.push(end);
    const tokens: number[] = [];
    // Neighbouring unknown characters are one token.
    let start = -1;
    const flush = (end: number) => {
      if (start >= 0) tokens.push(...this.#unknown(piece.slice(start, end)));
      start = -1;
    };
    for (const end of ends.reverse()) {
      if (ids[end] === this.unknownId) {
        if (start < 0) start = from[end];
        continue;
      }
      flush(from[end]);
      tokens.push(ids[end]);
    }
    flush(piece.length);
    return tokens;
  }

  #unknown(text: string): number[] {
    const id = this.#ids.get(text);
    if (id !== undefined) return [id];
    const bytes = this.#bytes && asByteTokens(text, this.#bytes);
    return bytes ?? [this.unknownId!];
  }

  /** For each end of a token its start and id on the best way there. */
  #bestPath(piece: string): { from: Int32Array; ids: Int32Array } {
    const size = piece.length;
    const scores = new Float64Array(size + 1);
    const from = new Int32Array(size + 1).fill(-1);
    const ids = new Int32Array(size + 1);
    let start = 0;
    const offer = (end: number, id: number, score: number) => {
      const sum = scores[start] + score;
      if (from[end] >= 0 && sum <= scores[end]) return;
      scores[end] = sum;
      from[end] = start;
      ids[end] = id;
    };
    while (start < size) {
      const width = piece.codePointAt(start)! > 0xffff ? 2 : 1;
      let single = false;
      let node = 0;
      for (let at = start; at < size; at++) {
        node = this.#trie.child(node, piece.charCodeAt(at));
        if (node < 0) break;
        const id = this.#trie.id(node);
        if (id < 0) continue;
        offer(at + 1, id, this.#scores[id]);
        single ||= at + 1 - start === width;
      }
      if (!single) {
        if (this.unknownId === undefined) {
          throw mismatch('ERR_FORMAT', 'tokenizer', 'a character outside the vocabulary', 'an unk_id for it');
        }
        offer(start + width, this.unknownId, this.#unknownScore);
      }
      start += width;
    }
    return { from, ids };
  }
}

/** Tokens by their UTF-16 units; of equal tokens the last one counts. */
class Trie {
  readonly #children: PairTable;
  readonly #ids: number[] = [-1];

  constructor(tokens: readonly string[]) {
    this.#children = new PairTable(tokens.reduce((sum, token) => sum + token.length, 0));
    for (const [id, token] of tokens.entries()) {
      let node = 0;
      for (let i = 0; i < token.length; i++) {
        const next = this.child(node, token.charCodeAt(i));
        const child = next < 0 ? this.#ids.push(-1) - 1 : next;
        if (next < 0) this.#children.set(node, token.charCodeAt(i), child, 0);
        node = child;
      }
      if (node > 0) this.#ids[node] = id;
    }
  }

  child(node: number, unit: number): number {
    const at = this.#children.find(node, unit);
    return at < 0 ? -1 : this.#children.rank(at);
  }

  id(node: number): number {
    return this.#ids[node];
  }
}
