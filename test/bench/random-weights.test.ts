import { expect, it } from 'vitest';
import { randomWeight } from '../../bench/harness/random-weights.js';
import { Device } from '../../src/core/device.js';
import { WEIGHT_FORMATS } from '../../src/core/format.js';

const device = new Device({ threads: 2 });

it.each(WEIGHT_FORMATS)('random %s weights are finite, not zero, and of usual size', async (format) => {
  const weight = await randomWeight(device, format, 16, 256, 2);
  const values = device.addon.readWeight(weight.native, 1, 0, 16);
  expect(values.every(Number.isFinite)).toBe(true);
  expect(values.filter((v) => v !== 0).length).toBeGreaterThan(values.length / 2);
  expect(Math.max(...values.map(Math.abs))).toBeLessThan(100);
});
