import { describe, expect, it } from 'vitest';
import { measureLimit } from '../../bench/harness/limits.js';
import { Device } from '../../src/core/device.js';

const device = new Device({ threads: 2 });
const { addon, native } = device;

describe('measureLimit', () => {
  it.each(addon.deviceInfo().tiers)('gives one rate a run on tier %s', async (tier) => {
    for (const what of ['read', 'f32'] as const) {
      const rates = await addon.measureLimit(native, what, {
        threads: 2,
        runs: 3,
        tier,
        bytes: 4 << 20,
        milliseconds: 1,
      });
      expect(rates).toHaveLength(3);
      for (const rate of rates) expect(rate).toBeGreaterThan(0);
    }
  });

  it('says null where a tier has no instruction for it', async () => {
    expect(await measureLimit(device, 'bf16', 1, true, 'scalar')).toBeNull();
  });

  it.each([
    ['an unknown limit', 'write', {}, 'ERR_OPTION'],
    ['no threads', 'f32', { threads: 0 }, 'ERR_OPTION'],
    ['no runs', 'f32', { runs: 0 }, 'ERR_OPTION'],
    ['an unknown tier', 'f32', { tier: 'mmx' }, 'ERR_OPTION'],
    ['an instruction that a tier lacks', 'int8', { tier: 'scalar' }, 'ERR_UNSUPPORTED'],
  ])('refuses %s', async (_, what, options, code) => {
    const measured = addon.measureLimit(native, what as 'f32', {
      threads: 1,
      runs: 1,
      milliseconds: 1,
      ...options,
    });
    await expect(measured).rejects.toMatchObject({ code });
  });

  it('leaves the event loop free', async () => {
    let turns = 0;
    const timer = setInterval(() => turns++, 1);
    await addon.measureLimit(native, 'f32', { threads: 1, runs: 2, milliseconds: 50 });
    clearInterval(timer);
    expect(turns).toBeGreaterThan(2);
  });
});
