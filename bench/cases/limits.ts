import { TIERS } from '../../src/core/env.js';
import { defineCase } from '../harness/case.js';
import { measureLimit } from '../harness/limits.js';

export default defineCase({
  about: 'what this machine can do: bytes it reads, multiply-adds of each instruction set',
  words: ['machine', 'bandwidth', 'flops'],
  async run({ device, options, emit }) {
    const threadCounts = [...new Set([1, device.threads])];
    for (const threads of threadCounts) {
      const rates = await measureLimit(device, 'read', threads, options.smoke);
      emit({ metric: 'read', unit: 'GB/s', threads, values: (rates as number[]).map((r) => r / 1e9) });
    }
    const { tiers } = device.addon.deviceInfo();
    const below = tiers.filter((t) => TIERS.indexOf(t as never) <= TIERS.indexOf(device.isa));
    for (const what of ['f32', 'bf16', 'int8'] as const) {
      for (const tier of below) {
        for (const threads of threadCounts) {
          const rates = await measureLimit(device, what, threads, options.smoke, tier);
          if (!rates) continue;
          const unit = what === 'int8' ? 'GOP/s' : 'GFLOP/s';
          emit({ metric: what, unit, threads, tier, values: rates.map((r) => r / 1e9) });
        }
      }
    }
  },
});
