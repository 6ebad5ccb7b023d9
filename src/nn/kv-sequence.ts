/** The place of one sequence in a paged cache. */
import { type BlockPool, type FullBlock, KV_BLOCK, type PrefixRoot } from './kv-blocks.js';

/** A whole block that must be copied before the next step writes. */
export interface BlockCopy {
  readonly from: number;
  readonly to: number;
}

/** What a sequence needs of its cache. */
export interface SequenceCache {
  readonly pool: BlockPool;
  copyLater(copy: BlockCopy): void;
  /** The copy is not wanted any more. */
  copyNever(copy: BlockCopy): void;
}

/** Where a sequence stood before a step, to return there if the step fails. */
export interface SequenceMark {
  readonly length: number;
}

export interface KvSequenceOptions {
  /** Share full blocks with other sequences of this salt. null (default): with none, by way of `fork` alone. */
  salt?: string | null;
}

export class KvSequence {
  /** All tokens in the cache, but for the last ones where `reserve` made room for what is not known yet. */
  readonly #tokens: number[] = [];
  readonly #blocks: number[] = [];
  /** The leading full blocks that are known to the pool; stops for good at the first one that is not. */
  readonly #known: FullBlock[] = [];
  /** Blocks written here although the pool knew their content already: the known one takes the place after the step. */
  readonly #twins: { at: number; block: number }[] = [];
  /** Blocks that this sequence made known, which steps write that have not ended. */
  readonly #fresh: { at: number; known: FullBlock }[] = [];
  readonly #salt: string | null;
  /** A block was exchanged for a copy of it at this length: until the step that writes there has ended the old one is held too. */
  #parted: { readonly length: number; readonly at: number; readonly copy: BlockCopy } | null = null;
  #length = 0;

  constructor(
    readonly cache: SequenceCache,
    { salt = null }: KvSequenceOptions = {},
  ) {
    this.#salt = salt;
  }

  /** Tokens written so far. */
  get length(): number {
    return this.#length;
  }

  get blocks(): readonly number[] {
    return this.#blocks;
  }

  /** Blocks to be taken before `count` more tokens have room. */
  blocksFor(count: number): number {
    if (count === 0) return 0;
    const fresh = Math.ceil((this.#length + count) / KV_BLOCK) - this.#blocks.length;
    return fresh + (this.#mustCopy() ? 1 : 0);
  }

  /** Takes over blocks that hold the next tokens already, where this sequence ends with a full block. @returns tokens gained */
  adopt(next: readonly number[], from = 0, to = next.length): number {
    const { pool } = this.cache;
    let at = from;
    while (at + KV_BLOCK <= to && this.#chained()) {
      const known = pool.find(this.#last(), next.slice(at, at + KV_BLOCK));
      if (!known) break;
      pool.hold(known.block);
      this.#blocks.push(known.block);
      this.#known.push(known);
      for (const token of known.tokens) this.#tokens.push(token);
      this.#length += KV_BLOCK;
      at += KV_BLOCK;
    }
    return at - from;
  }

  /** Makes room for more tokens and returns the slot (block · KV_BLOCK + place) of each. */
  extend(tokens: readonly number[]): number[] {
    const slots = this.reserve(tokens.length);
    this.learn(tokens);
    return slots;
  }

  /** The same for tokens that are still to be chosen: `learn` tells which they are. */
  reserve(count: number): number[] {
    const { pool } = this.cache;
    if (count > 0 && this.#mustCopy()) this.#part();
    const slots: number[] = [];
    for (let i = 0; i < count; i++) {
      const place = this.#length % KV_BLOCK;
      if (place === 0) this.#blocks.push(pool.take());
      const block = this.#blocks[this.#blocks.length - 1] as number;
      slots.push(block * KV_BLOCK + place);
      this.#length++;
    }
    return slots;
  }

  /** The tokens of the next places that have room. */
  learn(tokens: readonly number[]): void {
    for (const token of tokens) {
      this.#tokens.push(token);
      if (this.#tokens.length % KV_BLOCK === 0) this.#fill(this.#tokens.length / KV_BLOCK - 1);
    }
  }

  mark(): SequenceMark {
    return { length: this.#length };
  }

  /**
   * The step that wrote what `extend` made room for has ended well.
   * @param length of the sequence behind that step. Default: no later step was begun
   */
  commit(length = this.#length): void {
    const { pool } = this.cache;
    while (this.#twins.length > 0 && endOf(this.#twins[0]) <= length) {
      const { at, block } = this.#twins.shift() as { at: number; block: number };
      pool.letGo(this.#blocks[at] as number);
      this.#blocks[at] = block;
    }
    while (this.#fresh.length > 0 && endOf(this.#fresh[0]) <= length) this.#fresh.shift();
    if (!this.#parted || this.#parted.length >= length) return;
    pool.letGo(this.#parted.copy.from);
    this.#parted = null;
  }

  /** It has not: all is as it was at the mark, and what was made findable behind it is forgotten. */
  rollback({ length }: SequenceMark): void {
    const { pool } = this.cache;
    while (endOf(this.#twins.at(-1)) > length) pool.letGo((this.#twins.pop() as { block: number }).block);
    while (endOf(this.#fresh.at(-1)) > length) pool.forget((this.#fresh.pop() as { known: FullBlock }).known);
    if (this.#parted && this.#parted.length >= length) {
      const { at, copy } = this.#parted;
      this.#blocks[at] = copy.from;
      pool.letGo(copy.to);
      this.cache.copyNever(copy);
      this.#parted = null;
    }
    this.truncate(length);
  }

  /** Drops the tokens from `length` on. */
  truncate(length: number): void {
    if (length > this.#length) return;
    const { pool } = this.cache;
    const keep = Math.ceil(length / KV_BLOCK);
    while (this.#blocks.length > keep) pool.letGo(this.#blocks.pop() as number);
    this.#known.length = Math.min(this.#known.length, Math.floor(length / KV_BLOCK));
    this.#tokens.length = Math.min(this.#tokens.length, length);
    this.#length = length;
  }

  /** A second sequence with the same tokens in the same blocks; whoever writes to a common block first gets a copy of it. */
  fork(): KvSequence {
    const twin = new KvSequence(this.cache, { salt: this.#salt });
    for (const block of this.#blocks) {
      this.cache.pool.hold(block);
      twin.#blocks.push(block);
    }
    for (const known of this.#known) twin.#known.push(known);
    for (const token of this.#tokens) twin.#tokens.push(token);
    twin.#length = this.#length;
    return twin;
  }

  release(): void {
    this.rollback({ length: 0 });
  }

  /** A full block may be known only if all before it are. */
  #chained(): boolean {
    return this.#salt !== null && this.#known.length * KV_BLOCK === this.#length;
  }

  #last(): FullBlock | PrefixRoot {
    return this.#known[this.#known.length - 1] ?? this.cache.pool.root(this.#salt as string);
  }

  /** Whether the next token falls into a block that others read, or whose content is known. */
  #mustCopy(): boolean {
    if (this.#length % KV_BLOCK === 0) return false;
    const block = this.#blocks[this.#blocks.length - 1] as number;
    return this.cache.pool.holders(block) > 1 || this.cache.pool.isKnown(block);
  }

  #part(): void {
    const { pool } = this.cache;
    const to = pool.take();
    const from = this.#blocks.pop() as number;
    const copy = { from, to };
    this.#parted = { length: this.#length, at: this.#blocks.push(to) - 1, copy };
    this.cache.copyLater(copy);
  }

  #fill(at: number): void {
    if (this.#salt === null || this.#known.length !== at) return;
    const { pool } = this.cache;
    const tokens = this.#tokens.slice(-KV_BLOCK);
    const parent = this.#last();
    const same = pool.find(parent, tokens);
    if (same) {
      pool.hold(same.block);
      this.#twins.push({ at, block: same.block });
      this.#known.push(same);
      return;
    }
    const known = pool.know(parent, tokens, this.#blocks[at] as number);
    this.#fresh.push({ at, known });
    this.#known.push(known);
  }
}

/** Tokens up to the end of a block; 0: there is none. */
const endOf = (entry: { readonly at: number } | undefined): number => (entry ? (entry.at + 1) * KV_BLOCK : 0);
