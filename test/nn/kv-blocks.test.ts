// Blocks of a cache that sequences share, against what each sequence must read: its own tokens, whatever the others do.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { BlockPool, KV_BLOCK } from '../../src/nn/kv-blocks.js';
import {
  type BlockCopy,
  KvSequence,
  type SequenceCache,
  type SequenceMark,
} from '../../src/nn/kv-sequence.js';

/** A cache whose blocks hold plain ids. */
class Memory implements SequenceCache {
  readonly pool: BlockPool;
  readonly content: number[][];
  #copies: BlockCopy[] = [];

  constructor(blocks: number, hash?: (tokens: readonly number[]) => number) {
    this.pool = new BlockPool(blocks, hash);
    this.content = Array.from({ length: blocks }, () => new Array<number>(KV_BLOCK).fill(-1));
  }
  copyLater(copy: BlockCopy): void {
    this.#copies.push(copy);
  }
  copyNever(copy: BlockCopy): void {
    this.#copies = this.#copies.filter((c) => c !== copy);
  }
  /** What a step does: copies, then writes. */
  step(parts: readonly { tokens: readonly number[]; slots: readonly number[] }[]): void {
    for (const { from, to } of this.#copies) this.content[to] = [...(this.content[from] as number[])];
    this.#copies = [];
    for (const { tokens, slots } of parts)
      slots.forEach((slot, i) => {
        const block = this.content[Math.floor(slot / KV_BLOCK)] as number[];
        block[slot % KV_BLOCK] = tokens[i] as number;
      });
  }
  read({ length, blocks }: KvSequence): number[] {
    return Array.from(
      { length },
      (_, i) =>
        (this.content[blocks[Math.floor(i / KV_BLOCK)] as number] as number[])[i % KV_BLOCK] as number,
    );
  }
}

const text = (n: number, from = 0): number[] => Array.from({ length: n }, (_, i) => from + i);
function write(memory: Memory, sequence: KvSequence, tokens: readonly number[]): void {
  memory.step([{ tokens, slots: sequence.extend(tokens) }]);
  sequence.commit();
}

describe('full blocks', () => {
  it('are found again by the tokens in them and before them', () => {
    const memory = new Memory(8);
    const first = new KvSequence(memory, { salt: '' });
    write(memory, first, text(70));
    first.release();
    expect([memory.pool.free, memory.pool.kept]).toEqual([8, 2]);
    const second = new KvSequence(memory, { salt: '' });
    expect(second.adopt(text(70))).toBe(64);
    expect(memory.read(second)).toEqual(text(64));
    // the same tokens elsewhere are something else
    const other = new KvSequence(memory, { salt: '' });
    expect(other.adopt(text(64, 32))).toBe(0);
    expect(other.adopt([...text(32), ...text(32)])).toBe(32);
  });

  it.each([
    ['of another salt', 'a', 'b'],
    ['without a salt', null, null],
    ['without a salt, after one with', '', null],
  ])('are not found %s', (_, a, b) => {
    const memory = new Memory(8);
    const first = new KvSequence(memory, { salt: a });
    write(memory, first, text(64));
    first.release();
    expect(new KvSequence(memory, { salt: b }).adopt(text(64))).toBe(0);
  });

  it('are shared within one step, and not at all if it fails', () => {
    const memory = new Memory(8);
    const [a, b] = [new KvSequence(memory, { salt: '' }), new KvSequence(memory, { salt: '' })] as const;
    const marks = [a.mark(), b.mark()] as const;
    a.extend(text(64));
    expect(b.adopt(text(64), 0, 63)).toBe(32);
    b.extend(text(32, 32));
    a.rollback(marks[0]);
    b.rollback(marks[1]);
    expect([a.length, b.length, memory.pool.free, memory.pool.kept]).toEqual([0, 0, 8, 0]);
    expect(a.adopt(text(64))).toBe(0);
  });

  it('written twice at once end as one', () => {
    const memory = new Memory(8);
    const [a, b] = [new KvSequence(memory, { salt: '' }), new KvSequence(memory, { salt: '' })] as const;
    memory.step([a, b].map((s) => ({ tokens: text(40), slots: s.extend(text(40)) })));
    for (const s of [a, b]) s.commit();
    expect(a.blocks[0]).toBe(b.blocks[0]);
    expect(a.blocks[1]).not.toBe(b.blocks[1]);
    expect(memory.pool.free).toBe(5);
    expect(memory.read(b)).toEqual(text(40));
  });

  it('give way to new ones, those let go first and the ends of texts before their beginnings', () => {
    const memory = new Memory(4);
    for (const from of [0, 1000]) {
      const s = new KvSequence(memory, { salt: '' });
      write(memory, s, text(64, from));
      s.release();
    }
    write(memory, new KvSequence(memory), [7]);
    expect(new KvSequence(memory, { salt: '' }).adopt(text(64))).toBe(32);
    expect(new KvSequence(memory, { salt: '' }).adopt(text(64, 1000))).toBe(64);
  });

  it('are an error when all are held', () => {
    const memory = new Memory(2);
    const s = new KvSequence(memory);
    expect(s.blocksFor(65)).toBe(3);
    expect(() => s.extend(text(65))).toThrowError(/more than 64 tokens/);
  });
});

it('a copy that a failed step did not make is taken back', () => {
  const memory = new Memory(4);
  const a = new KvSequence(memory);
  write(memory, a, text(40));
  const b = a.fork();
  const mark = b.mark();
  expect(b.blocksFor(1)).toBe(1);
  b.extend([9]);
  expect(b.blocks[1]).not.toBe(a.blocks[1]);
  b.rollback(mark);
  expect(b.blocks).toEqual(a.blocks);
  memory.step([]);
  expect(memory.read(b)).toEqual(text(40));
  b.release();
  expect(memory.pool.free).toBe(2);
  expect(a.blocksFor(1)).toBe(0);
});

describe('any sequence of steps, forks, cuts and failures', () => {
  type Act =
    | { kind: 'open'; salt: string | null; length: number; texts: number }
    | { kind: 'step' | 'fail'; who: number; count: number; token: number }
    | { kind: 'ahead'; who: number; count: number; token: number; fails: 'none' | 'first' | 'second' }
    | { kind: 'fork' | 'release'; who: number }
    | { kind: 'cut'; who: number; share: number };
  const who = fc.nat(7);
  const act: fc.Arbitrary<Act> = fc.oneof(
    fc.record({
      kind: fc.constant('open' as const),
      salt: fc.constantFrom('', 'a', null),
      length: fc.integer({ min: 1, max: 100 }),
      texts: fc.nat(1),
    }),
    fc.record({
      kind: fc.constantFrom('step' as const, 'step' as const, 'fail' as const),
      who,
      count: fc.integer({ min: 1, max: 40 }),
      token: fc.nat(1),
    }),
    fc.record({
      kind: fc.constant('ahead' as const),
      who,
      count: fc.integer({ min: 1, max: 40 }),
      token: fc.nat(1),
      fails: fc.constantFrom('none' as const, 'first' as const, 'second' as const),
    }),
    fc.record({ kind: fc.constantFrom('fork' as const, 'release' as const), who }),
    fc.record({ kind: fc.constant('cut' as const), who, share: fc.double({ min: 0, max: 1, noNaN: true }) }),
  );

  it.each([
    ['with real hashes', undefined],
    ['when all hashes collide', () => 1],
  ])('leaves every sequence its own tokens and frees all blocks at the end, %s', (_, hash) => {
    fc.assert(
      fc.property(fc.array(act, { maxLength: 60 }), (acts) => {
        const memory = new Memory(12, hash);
        const open: { sequence: KvSequence; tokens: number[] }[] = [];
        type Ran = { entry: (typeof open)[0]; mark: SequenceMark; end: number };
        const back = (ran: readonly Ran[]): void => {
          for (const { entry, mark } of ran) entry.sequence.rollback(mark);
        };
        /** A step, and before it has ended one more with a token that it chooses. */
        const runAhead = (chosen: typeof open, next: readonly number[], fails: string): void => {
          const [first, second]: [Ran[], Ran[]] = [[], []];
          const parts: { tokens: readonly number[]; slots: number[] }[] = [];
          for (const entry of chosen) {
            const mark = entry.sequence.mark();
            if (memory.pool.free < entry.sequence.blocksFor(next.length)) continue;
            parts.push({ tokens: next, slots: entry.sequence.extend(next) });
            first.push({ entry, mark, end: entry.sequence.length });
          }
          if (fails !== 'first') memory.step(parts.splice(0));
          const chosenLast = next.length % 2;
          for (const { entry } of first) {
            const mark = entry.sequence.mark();
            if (memory.pool.free < entry.sequence.blocksFor(1)) continue;
            parts.push({ tokens: [chosenLast], slots: entry.sequence.reserve(1) });
            second.push({ entry, mark, end: entry.sequence.length });
          }
          if (fails === 'first') {
            back(second);
            back(first);
            return;
          }
          for (const { entry, end } of first) {
            entry.sequence.commit(end);
            entry.tokens.push(...next);
          }
          for (const { entry } of second) entry.sequence.learn([chosenLast]);
          if (fails === 'second') {
            back(second);
            return;
          }
          memory.step(parts);
          for (const { entry, end } of second) {
            entry.sequence.commit(end);
            entry.tokens.push(chosenLast);
          }
        };
        const run = (chosen: typeof open, wanted: readonly number[][], fails: boolean): void => {
          const marks = chosen.map(({ sequence }) => sequence.mark());
          const parts: { tokens: readonly number[]; slots: number[] }[] = [];
          const ran: typeof open = [];
          for (const [i, entry] of chosen.entries()) {
            const tokens = wanted[i] as number[];
            const gained = entry.sequence.adopt(tokens, 0, tokens.length - 1);
            const rest = tokens.slice(gained);
            if (memory.pool.free < entry.sequence.blocksFor(rest.length)) {
              entry.sequence.rollback(marks[i] as SequenceMark);
              continue;
            }
            parts.push({ tokens: rest, slots: entry.sequence.extend(rest) });
            ran.push(entry);
            if (!fails) entry.tokens.push(...tokens);
          }
          if (!fails) memory.step(parts);
          for (const entry of ran)
            if (fails) entry.sequence.rollback(marks[chosen.indexOf(entry)] as SequenceMark);
            else entry.sequence.commit();
        };
        for (const a of acts) {
          const at = 'who' in a ? open[a.who] : undefined;
          if (a.kind === 'open') {
            if (open.length === 8) continue;
            const entry = { sequence: new KvSequence(memory, { salt: a.salt }), tokens: [] };
            open.push(entry);
            run([entry], [text(a.length, a.texts * 50)], false);
          } else if (!at) {
            continue;
          } else if (a.kind === 'step' || a.kind === 'fail') {
            const next = text(a.count, a.token);
            const chosen = open.slice(a.who, a.who + 3);
            run(
              chosen,
              chosen.map(() => next),
              a.kind === 'fail',
            );
          } else if (a.kind === 'ahead') {
            runAhead(open.slice(a.who, a.who + 3), text(a.count, a.token), a.fails);
          } else if (a.kind === 'fork') {
            if (open.length < 8) open.push({ sequence: at.sequence.fork(), tokens: [...at.tokens] });
          } else if (a.kind === 'release') {
            at.sequence.release();
            open.splice(a.who, 1);
          } else if (a.kind === 'cut') {
            const length = Math.floor(a.share * at.tokens.length);
            at.sequence.truncate(length);
            at.tokens.length = length;
          }
          for (const { sequence, tokens } of open) expect(memory.read(sequence)).toEqual(tokens);
        }
        for (const { sequence } of open) sequence.release();
        expect(memory.pool.free).toBe(12);
        memory.pool.clear();
        expect(memory.pool.kept).toBe(0);
      }),
      { seed: 7, numRuns: 2000 },
    );
  });
});
