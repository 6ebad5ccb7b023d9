import { describe, expect, it } from 'vitest';
import { type CachedExperts, ExpertCache } from '../../../src/generate/steps/expert-cache.js';

/** Places without memory behind them. */
class Places implements CachedExperts {
  readonly held: number[];
  readonly expertBytes = 100;

  constructor(
    readonly experts: number,
    readonly places: number,
    readonly fixed = 0,
  ) {
    this.held = Array.from({ length: places }, (_, place) => place);
  }

  heldAt(place: number): number {
    return this.held[place] as number;
  }

  slotOf(expert: number): number {
    return this.held.indexOf(expert);
  }

  replace(place: number, expert: number): void {
    expect(this.held).not.toContain(expert);
    this.held[place] = expert;
  }
}

const options = { halfLife: 1e9, margin: 3, bytesAStep: 1000, settleSteps: 1000 };
const repeat = (n: number, ...ids: number[]): number[] => Array.from({ length: n }, () => ids).flat();

describe('expert cache', () => {
  it('puts the busiest expert in the place of the one chosen least, one a step', () => {
    const layer = new Places(6, 2);
    const cache = new ExpertCache([layer], options);
    const met = Int32Array.from(repeat(8, 0, 4, 5, 5)); // 5 leads, 4 and 0 follow, 1 is never chosen
    cache.note(met, 16, 16, 2);
    expect(layer.held).toEqual([0, 5]);
    cache.note(met, 16, 16, 2);
    expect(layer.held, '4 is no busier than 0').toEqual([0, 5]);
    expect(cache.replaced).toBe(1);
  });

  it.each([
    ['within the margin', [2, 2, -1, -1], 0],
    ['beyond it', [2, 2, 2, 2], 1],
    ['experts without a place that are chosen by nobody', [-1, -1, -1, -1], 0],
    ['less than half as many again', [...repeat(30, 0), ...repeat(30, 1), ...repeat(40, 2)], 0],
    ['half as many again', [...repeat(30, 0), ...repeat(30, 1), ...repeat(48, 2)], 1],
  ])('exchanges what is clearly busier: %s', (_, met, replaced) => {
    const cache = new ExpertCache([new Places(3, 2)], options);
    cache.note(Int32Array.from(met), met.length, met.length, 1);
    expect(cache.replaced).toBe(replaced);
  });

  it('counts real tokens of its own layer only', () => {
    const [first, second] = [new Places(4, 1), new Places(4, 1)];
    const cache = new ExpertCache([first, null, second], options);
    const [real, padding] = [4, 28];
    const layer = (expert: number): number[] => [...repeat(real, expert), ...repeat(padding, 3)];
    cache.note(Int32Array.from([...layer(1), ...layer(3), ...layer(2)]), 32, real, 1);
    expect([first.held, second.held]).toEqual([[1], [2]]);
  });

  it('copies no more bytes a step than it may, in turns', () => {
    const layers = Array.from({ length: 5 }, () => new Places(4, 1));
    const cache = new ExpertCache(layers, { ...options, bytesAStep: 250 });
    const step = (expert: number): void => cache.note(Int32Array.from(repeat(5 * 100, expert)), 100, 100, 1);
    step(1);
    expect(layers.map(({ held }) => held[0])).toEqual([1, 1, 0, 0, 0]);
    step(1);
    expect(layers.map(({ held }) => held[0])).toEqual([1, 1, 1, 1, 0]);
    step(1);
    expect(layers.map(({ held }) => held[0])).toEqual([1, 1, 1, 1, 1]);
    expect(cache.replaced).toBe(5);
  });

  it('copies an expert that is larger than that alone', () => {
    const layers = [new Places(4, 1), new Places(4, 1)];
    const cache = new ExpertCache(layers, { ...options, bytesAStep: 1 });
    cache.note(Int32Array.from(repeat(200, 1)), 100, 100, 1);
    expect(layers.map(({ held }) => held[0])).toEqual([1, 0]);
  });

  it('leaves fixed places alone once use is known', () => {
    const layer = new Places(6, 2, 1);
    const cache = new ExpertCache([layer], { ...options, settleSteps: 1 });
    const feed = (expert: number): void => cache.note(Int32Array.from(repeat(100, expert)), 100, 100, 1);
    feed(3);
    expect(layer.held).toEqual([3, 1]);
    for (const expert of [4, 5, 5, 5, 5]) feed(expert);
    expect(layer.held).toEqual([3, 5]);
  });

  it('forgets: a choice counts half after the half-life', () => {
    const layer = new Places(2, 1);
    const cache = new ExpertCache([layer], { ...options, halfLife: 100 });
    cache.note(Int32Array.from(repeat(100, 0)), 100, 100, 1);
    cache.note(Int32Array.from(repeat(70, 1)), 70, 70, 1); // against 100 · 2^-0.7 = 62 of the other
    expect(layer.held).toEqual([0]);
    cache.note(Int32Array.from(repeat(70, 1)), 70, 70, 1);
    expect(layer.held).toEqual([1]);
  });
});
