import { expect, it } from 'vitest';
import { interleave, measure } from '../../bench/harness/measure.js';
import { benchOptions } from '../helpers/bench-options.js';

const options = benchOptions({ runs: 3 });

it('warms up, then runs in turns at least as often as asked', async () => {
  const order: string[] = [];
  const values = await interleave(options, [
    async () => order.push('a'),
    async () => {
      order.push('b');
      return 7;
    },
  ]);
  expect(order.join('')).toBe('abababab');
  expect(values.map((v) => v.length)).toEqual([3, 3]);
  expect(values[1]).toEqual([7, 7, 7]); // its own time
});

it('runs once and without warm-up in smoke runs', async () => {
  let calls = 0;
  const values = await measure({ ...options, smoke: true }, async () => {
    calls++;
  });
  expect([calls, values.length]).toEqual([1, 1]);
});

it('goes on until the time is over', async () => {
  const values = await measure({ ...options, runs: 1, seconds: 0.05 }, async () => {
    await new Promise((resolve) => setTimeout(resolve, 5));
  });
  expect(values.length).toBeGreaterThan(1);
});
