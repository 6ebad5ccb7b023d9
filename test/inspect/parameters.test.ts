import { describe, expect, it } from 'vitest';
import { sumParameters } from '../../src/inspect/parameters.js';

describe('sumParameters', () => {
  it('adds up by role and takes the active share of experts', () => {
    const parts = [
      { role: 'experts', shape: [8, 3, 4] },
      { role: 'experts', shape: [8, 4, 3] },
      { role: 'router', shape: [8, 4] },
      { role: 'norm', shape: [4] },
    ] as const;
    const { total, active, byRole } = sumParameters(parts, 2 / 8);
    expect([total, active, byRole.experts, byRole.head]).toEqual([228, 84, 192, 0]);
  });
});
