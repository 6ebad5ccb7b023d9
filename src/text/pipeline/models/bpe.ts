import { mismatch } from '../../../core/errors.js';
import type { TokenizerModel } from '../../tokenizer-json.js';
import { asByteTokens, byteTokenIds, type TokenModel, WordCache } from './model.js';
import { PairTable } from './pair-table.js';

const where = 'tokenizer.json: merges';

/** Byte-pair encoding (Sennrich et al., arXiv 1508.07909): the merge of lowest rank first, of equal ones the leftmost. */
export class BpeModel implements TokenModel {
  readonly unknownId: number | undefined;
  readonly #ids: ReadonlyMap<string, number>;
  readonly #merges: PairTable;
  readonly #bytes: Int32Array | undefined;
  readonly #fuseUnknown: boolean;
  readonly #ignoreMerges: boolean;
  readonly #prefix: string;
  readonly #suffix: string;
  readonly #cache = new WordCache();
  readonly #heap = new Heap();

  /** @param ids every token of the vocabulary */
  constructor(config: TokenizerModel, ids: ReadonlyMap<string, number>) {
    this.#ids = ids;
    this.#prefix = String(config.continuing_subword_prefix ?? '');
    this.#suffix = String(config.end_of_word_suffix ?? '');
    this.#fuseUnknown = config.fuse_unk === true;
    this.#ignoreMerges = config.ignore_merges === true;
    this.#bytes = config.byte_fallback === true ? byteTokenIds((token) => ids.get(token)) : undefined;
    this.unknownId =
      config.unk_token === null || config.unk_token === undefined ? undefined : ids.get(config.unk_token);
    this.#merges = new PairTable(config.merges?.length ?? 0);
    for (const [rank, merge] of (config.merges ?? []).entries()) this.#addMerge(merge, rank);
  }

  #addMerge(merge: unknown, rank: number): void {
    const [left, right] = halves(merge, rank);
    const ends = [left, right, left + right.slice(this.#prefix.length)].map((token) => this.#ids.get(token));
    if (ends.includes(undefined)) {
      throw mismatch(
        'ERR_FORMAT',
        `${where}[${rank}]`,
        JSON.stringify(merge).slice(0, 100),
        'tokens of the vocabulary',
      );
    }
    this.#merges.set(ends[0]!, ends[1]!, rank, ends[2]!);
  }

  encode(piece: string): number[] {
    if (piece === '') return [];
    if (this.#ignoreMerges) {
      const whole = this.#ids.get(piece);
      if (whole !== undefined) return [whole];
    }
    const known = this.#cache.get(piece);
    if (known !== undefined) return known;
    const ids = this.#merge(this.#symbols(piece));
    this.#cache.set(piece, ids);
    return ids;
  }

  /** The ids of the characters, before any merge. */
  #symbols(piece: string): number[] {
    const symbols: number[] = [];
    let unknown = false;
    const flush = () => {
      if (unknown) symbols.push(this.unknownId!);
      unknown = false;
    };
    let at = 0;
    for (const char of piece) {
      const first = at === 0;
      at += char.length;
      let spelled = char;
      if (!first && this.#prefix !== '') spelled = this.#prefix + spelled;
      if (at === piece.length && this.#suffix !== '') spelled += this.#suffix;
      const id = this.#ids.get(spelled);
      if (id !== undefined) {
        flush();
        symbols.push(id);
        continue;
      }
      const bytes = this.#bytes && asByteTokens(spelled, this.#bytes);
      // As in the reference, an unknown run that bytes interrupt is written behind them.
      if (bytes !== undefined) symbols.push(...bytes);
      else if (this.unknownId !== undefined) {
        if (!this.#fuseUnknown) flush();
        unknown = true;
      }
    }
    flush();
    return symbols;
  }

  #merge(symbols: number[]): number[] {
    const count = symbols.length;
    if (count < 2) return symbols;
    if (count <= SHORT_WORD) return this.#mergeShort(symbols);
    // A list of symbols that shrinks: next and previous by index, -1 at the ends; a symbol that is gone has id -1.
    const ids = Int32Array.from(symbols);
    const next = new Int32Array(count);
    const previous = new Int32Array(count);
    for (let i = 0; i < count; i++) {
      next[i] = i + 1 < count ? i + 1 : -1;
      previous[i] = i - 1;
    }
    const heap = this.#heap;
    const merges = this.#merges;
    heap.clear();
    for (let i = 0; i + 1 < count; i++) {
      const at = merges.find(ids[i], ids[i + 1]);
      if (at >= 0) heap.push(merges.rank(at), i);
    }
    while (heap.size > 0) {
      const rank = heap.rank();
      const i = heap.place();
      heap.pop();
      const right = ids[i] < 0 ? -1 : next[i];
      if (right < 0) continue;
      const at = merges.find(ids[i], ids[right]);
      // The pair may have changed since it was put here.
      if (at < 0 || merges.rank(at) !== rank) continue;
      ids[i] = merges.merged(at);
      ids[right] = -1;
      const after = next[right];
      next[i] = after;
      if (after >= 0) previous[after] = i;
      const before = previous[i];
      const left = before < 0 ? -1 : merges.find(ids[before], ids[i]);
      if (left >= 0) heap.push(merges.rank(left), before);
      const following = after < 0 ? -1 : merges.find(ids[i], ids[after]);
      if (following >= 0) heap.push(merges.rank(following), i);
    }
    return Array.from(ids.filter((id) => id >= 0));
  }

  /** The same by looking through all pairs for each merge, which is faster for a few symbols. */
  #mergeShort(symbols: number[]): number[] {
    const merges = this.#merges;
    for (;;) {
      let best = -1;
      let place = 0;
      for (let i = 0; i + 1 < symbols.length; i++) {
        const at = merges.find(symbols[i], symbols[i + 1]);
        if (at >= 0 && (best < 0 || merges.rank(at) < merges.rank(best))) [best, place] = [at, i];
      }
      if (best < 0) return symbols;
      symbols[place] = merges.merged(best);
      symbols.splice(place + 1, 1);
    }
  }
}

/** Symbols up to which looking through all pairs beats a heap. */
const SHORT_WORD = 16;

function halves(merge: unknown, rank: number): [string, string] {
  const pair = typeof merge === 'string' ? merge.split(' ') : merge;
  if (Array.isArray(pair) && pair.length === 2 && pair.every((half) => typeof half === 'string')) {
    return pair as [string, string];
  }
  throw mismatch(
    'ERR_FORMAT',
    `${where}[${rank}]`,
    (JSON.stringify(merge) ?? 'nothing').slice(0, 100),
    'two tokens',
  );
}

/** A heap of places by rank, then place, both in one number: rank · 2^31 + place is exact in a double. */
class Heap {
  #keys = new Float64Array(64);
  size = 0;

  clear(): void {
    this.size = 0;
  }

  rank(): number {
    return Math.floor(this.#keys[0] / PLACES);
  }

  place(): number {
    return this.#keys[0] % PLACES;
  }

  push(rank: number, place: number): void {
    if (this.size === this.#keys.length) {
      const grown = new Float64Array(2 * this.size);
      grown.set(this.#keys);
      this.#keys = grown;
    }
    const keys = this.#keys;
    const key = rank * PLACES + place;
    let at = this.size++;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (keys[parent] <= key) break;
      keys[at] = keys[parent];
      at = parent;
    }
    keys[at] = key;
  }

  pop(): void {
    const keys = this.#keys;
    const key = keys[--this.size];
    const { size } = this;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= size) break;
      if (child + 1 < size && keys[child + 1] < keys[child]) child++;
      if (keys[child] >= key) break;
      keys[at] = keys[child];
      at = child;
    }
    keys[at] = key;
  }
}

const PLACES = 2 ** 31;
