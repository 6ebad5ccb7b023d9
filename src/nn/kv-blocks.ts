/**
 * Which blocks of a cache are held, free, or free but still worth reading: full blocks can be found again by the tokens in
 * them and all tokens before (Kwon et al. 2023, section 4.3), until their memory is needed.
 */
import { SwitchyardError } from '../core/errors.js';

/** Tokens per block: small enough to waste little, large enough that a block table stays short. */
export const KV_BLOCK = 32;

/**
 * A full block with known content. Its tokens stand behind those of `parent`; equal content means the same parent object and
 * equal tokens, never equal hashes alone.
 */
export interface FullBlock {
  readonly block: number;
  readonly parent: FullBlock | PrefixRoot;
  readonly tokens: readonly number[];
  readonly hash: number;
  readonly children: Map<number, FullBlock[]>;
}

/** Where texts with one salt begin. */
export interface PrefixRoot {
  readonly salt: string;
  readonly children: Map<number, FullBlock[]>;
}

/** FNV-1a over the ids. */
function hashOf(tokens: readonly number[]): number {
  let h = 0x811c9dc5;
  for (const token of tokens) h = Math.imul(h ^ token, 0x01000193);
  return h;
}

export class BlockPool {
  /** Sequences that hold each block. */
  readonly #holders: Int32Array;
  /** Free, content unknown. */
  readonly #blank: number[];
  /** Free, content known: the one let go first comes first. A sequence lets go of its last block first, so that what is
   * taken has no known block behind it. */
  readonly #kept = new Map<number, FullBlock>();
  readonly #known = new Map<number, FullBlock>();
  readonly #roots = new Map<string, PrefixRoot>();

  constructor(
    readonly blocks: number,
    /** @internal Tests make all blocks collide. */
    readonly hash: (tokens: readonly number[]) => number = hashOf,
  ) {
    this.#holders = new Int32Array(blocks);
    this.#blank = Array.from({ length: blocks }, (_, i) => blocks - 1 - i);
  }

  /** Blocks that can be taken. */
  get free(): number {
    return this.#blank.length + this.#kept.size;
  }

  /** Free blocks whose content can be found. */
  get kept(): number {
    return this.#kept.size;
  }

  holders(block: number): number {
    return this.#holders[block] as number;
  }

  /** A block for one holder, content unknown. */
  take(): number {
    let block = this.#blank.pop();
    if (block === undefined) {
      const [oldest] = this.#kept.values();
      if (!oldest) throw this.#full();
      this.forget(oldest);
      block = this.#blank.pop() as number;
    }
    this.#holders[block] = 1;
    return block;
  }

  /** One more holder. */
  hold(block: number): void {
    this.#holders[block] = this.holders(block) + 1;
    this.#kept.delete(block);
  }

  /** One holder less. */
  letGo(block: number): void {
    const left = this.holders(block) - 1;
    this.#holders[block] = left;
    if (left > 0) return;
    const known = this.#known.get(block);
    if (known) this.#kept.set(block, known);
    else this.#blank.push(block);
  }

  /** Where the texts of a salt begin; remembered from its first known block on. */
  root(salt: string): PrefixRoot {
    return this.#roots.get(salt) ?? { salt, children: new Map() };
  }

  /** The block with these tokens behind `parent`. */
  find(parent: FullBlock | PrefixRoot, tokens: readonly number[]): FullBlock | null {
    if (parent.children.size === 0) return null;
    const same = parent.children.get(this.hash(tokens));
    return same?.find((c) => c.tokens.every((token, i) => token === tokens[i])) ?? null;
  }

  /** Makes the content of a held block findable; the caller has made sure that nothing equal is. */
  know(parent: FullBlock | PrefixRoot, tokens: readonly number[], block: number): FullBlock {
    const known: FullBlock = { block, parent, tokens, hash: this.hash(tokens), children: new Map() };
    const same = parent.children.get(known.hash);
    if (same) same.push(known);
    else parent.children.set(known.hash, [known]);
    if ('salt' in parent) this.#roots.set(parent.salt, parent);
    this.#known.set(block, known);
    return known;
  }

  isKnown(block: number): boolean {
    return this.#known.has(block);
  }

  /** The block is found no more: its content is about to change, or was never written. */
  forget(known: FullBlock): void {
    const { parent, hash, block } = known;
    const same = (parent.children.get(hash) ?? []).filter((c) => c !== known);
    if (same.length > 0) parent.children.set(hash, same);
    else parent.children.delete(hash);
    if ('salt' in parent && parent.children.size === 0) this.#roots.delete(parent.salt);
    this.#known.delete(block);
    if (this.#kept.delete(block)) this.#blank.push(block);
  }

  /** Forgets all blocks that nobody holds. */
  clear(): void {
    for (const known of [...this.#kept.values()]) this.forget(known);
  }

  #full(): SwitchyardError {
    return new SwitchyardError(
      'ERR_CONTEXT_LENGTH',
      `[kv cache] got a request for more than ${this.blocks * KV_BLOCK} tokens, expected all sequences together to fit`,
      {
        hint: 'load the model with a larger contextLength or cacheTokens, or run fewer sequences at once',
      },
    );
  }
}
