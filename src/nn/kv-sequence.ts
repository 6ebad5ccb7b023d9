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
  /** All tokens in the cache. */
  readonly #tokens: number[] = [];
  readonly #blocks: number[] = [];
  /** The leading full blocks that are known to the pool; stops for good at the first one that is not. */
  readonly #known: FullBlock[] = [];
  /** Blocks written here although the pool knew their content already: the known one takes the place after the step. */
  readonly #twins: { at: number; block: number }[] = [];
  /** Blocks that this sequence made known since the last commit. */
  readonly #fresh: FullBlock[] = [];
  readonly #salt: string | null;
  /** The last block was exchanged for a copy of it since the last commit: until then the old one is held too. */
  #parted: { readonly at: number; readonly copy: BlockCopy } | null = null;
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
    const { pool } = this.cache;
    if (tokens.length > 0 && this.#mustCopy()) this.#part();
    const slots: number[] = [];
    for (const token of tokens) {
      const place = this.#length % KV_BLOCK;
      if (place === 0) this.#blocks.push(pool.take());
      const block = this.#blocks[this.#blocks.length - 1] as number;
      slots.push(block * KV_BLOCK + place);
      this.#tokens.push(token);
      this.#length++;
      if (place === KV_BLOCK - 1) this.#fill(block);
    }
    return slots;
  }

  mark(): SequenceMark {
    return { length: this.#length };
  }

  /** The step that wrote what `extend` made room for has ended well. */
  commit(): void {
    const { pool } = this.cache;
    for (const { at, block } of this.#twins.splice(0)) {
      pool.letGo(this.#blocks[at] as number);
      this.#blocks[at] = block;
    }
    this.#fresh.length = 0;
    if (this.#parted) pool.letGo(this.#parted.copy.from);
    this.#parted = null;
  }

  /** It has not: all is as it was at the mark, and what was made findable meanwhile is forgotten. */
  rollback({ length }: SequenceMark): void {
    const { pool } = this.cache;
    for (const { block } of this.#twins.splice(0)) pool.letGo(block);
    for (const known of this.#fresh.splice(0).reverse()) pool.forget(known);
    if (this.#parted) {
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
    this.#tokens.length = length;
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
    this.#parted = { at: this.#blocks.push(to) - 1, copy };
    this.cache.copyLater(copy);
  }

  #fill(block: number): void {
    if (this.#salt === null || (this.#known.length + 1) * KV_BLOCK !== this.#length) return;
    const { pool } = this.cache;
    const tokens = this.#tokens.slice(-KV_BLOCK);
    const parent = this.#last();
    const same = pool.find(parent, tokens);
    if (same) {
      pool.hold(same.block);
      this.#twins.push({ at: this.#blocks.length - 1, block: same.block });
      this.#known.push(same);
      return;
    }
    const known = pool.know(parent, tokens, block);
    this.#fresh.push(known);
    this.#known.push(known);
  }
}
