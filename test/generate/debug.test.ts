import { describe, expect, it, vi } from 'vitest';
import { device } from '../../src/core/device.js';
import { add, mul } from '../../src/core/ops/elementwise.js';
import { evaluate } from '../../src/core/program/compile.js';
import { tensor } from '../../src/core/tensor.js';
import { routingLines, splitLine } from '../../src/generate/debug.js';
import { loadStatistics } from '../../src/moe/statistics.js';

describe('SWITCHYARD_DEBUG', () => {
  it('3 draws the load of each sparse layer', () => {
    const lines = routingLines([loadStatistics([0, 0, 1, 3, -1], 4), loadStatistics([2], 4)]).split('\n');
    expect(lines[0]).toBe('routing   0 █▄·▄ entropy 1.50 bits, cv 0.71, 3 of 4 experts used, 20.0 % dropped');
    expect(lines[1]).toContain('··█· entropy 0.00 bits');
  });

  it('1 tells how many experts lie on the GPU', () => {
    const split = (places: number) => ({ places, experts: 8, expertBytes: 2 ** 19 });
    expect(splitLine([split(3), split(2)])).toBe(
      'switchyard: 2 layers have 2 to 3 of 8 experts on the GPU, 2.5 MiB\n',
    );
    expect(splitLine([split(4)])).toContain('1 layers have 4 of 8 experts');
  });

  it('4 prints each program before and after fusion', async () => {
    vi.stubEnv('SWITCHYARD_DEBUG', '4');
    const written: string[] = [];
    const write = vi
      .spyOn(process.stderr, 'write')
      .mockImplementation((text) => written.push(String(text)) > 0);
    try {
      const x = tensor([1, 2, 3]);
      await evaluate([add(mul(x, x), 1)], device());
    } finally {
      write.mockRestore();
      vi.unstubAllEnvs();
    }
    const text = written.join('');
    expect(text).toMatch(/before fusion, program: 3 instructions/);
    expect(text).toMatch(/after, program: 1 instructions/);
  });
});
