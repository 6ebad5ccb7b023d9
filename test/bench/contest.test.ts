import { expect, it } from 'vitest';
import type { BenchOptions } from '../../bench/harness/case.js';
import { contest, converted } from '../../bench/harness/contest.js';
import { LimitBook } from '../../bench/harness/limits.js';
import { Device } from '../../src/core/device.js';
import { benchOptions } from '../helpers/bench-options.js';

const options = benchOptions({ runs: 2, peers: true });

const device = new Device({ threads: 1 });
const bench = (with_: BenchOptions, notes: string[] = []) => ({
  options: with_,
  note: (text: string) => notes.push(text),
  limits: new LimitBook(device, true),
});

it('runs us and all peers in turns, and tells us which turn it is', async () => {
  const order: string[] = [];
  const peer = (name: string, ms: number) => ({
    name,
    run: async () => {
      order.push(name);
      return ms;
    },
  });
  const ours = async (turn: number): Promise<number> => {
    order.push(`we ${turn}`);
    return 5;
  };
  const result = await contest(bench(options), ours, [peer('a', 1), peer('b', 2)]);
  expect(order).toEqual(['we 0', 'a', 'b', 'we 1', 'a', 'b', 'we 2', 'a', 'b']); // the first for warmth
  expect(result.ours).toEqual([5, 5]);
  expect(result.peers).toEqual([
    { name: 'a', values: [1, 1] },
    { name: 'b', values: [2, 2] },
  ]);
});

it.each([0, 1, 2])(
  'leaves out a peer that fails at its run %i, and asks it no more',
  async (at) => {
    let runs = 0;
    const notes: string[] = [];
    const broken = {
      name: 'broken',
      run: async () => {
        if (runs++ === at) throw new Error('it has ended');
        return 1;
      },
    };
    const well = { name: 'well', run: async () => 3 };
    const result = await contest(bench({ ...options, runs: 3 }, notes), async () => 2, [broken, well]);
    expect(result).toEqual({ ours: [2, 2, 2], peers: [{ name: 'well', values: [3, 3, 3] }] });
    expect(notes).toEqual(['broken failed: it has ended']);
    expect(runs).toBe(at + 1);
  },
  20_000,
);

it('samples limits in every turn, and those of the last contest count', async () => {
  const on = bench({ ...options, smoke: true });
  const samples: string[][] = [];
  const sample = on.limits.sample.bind(on.limits);
  on.limits.sample = async (rates) => {
    samples.push([...rates]);
    await sample(rates);
  };
  const twice = { ...on, options: { ...options, runs: 2 } };
  await contest(twice, async () => 1, [], ['read']);
  expect(samples).toEqual([['read'], ['read'], ['read']]);
  const rate = await on.limits.bandwidth();
  expect(rate).toBeGreaterThan(0);
  expect(await on.limits.bandwidth()).toBe(rate);
  on.limits.restart(['read']);
  await on.limits.sample(['read']);
  expect(await on.limits.bandwidth()).not.toBe(rate); // another measurement
}, 20_000);

it('converts every value of every peer', () => {
  expect(converted([{ name: 'p', values: [2, 4] }], (ms) => 8 / ms)).toEqual([{ name: 'p', values: [4, 2] }]);
});
