import { readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { describe, expect, it } from 'vitest';
import { readEnv, TIERS, VARIABLES } from '../../src/core/env.js';

const script = new URL('../../scripts/write-env-docs.mjs', import.meta.url).href;
const { envPage } = (await import(script)) as {
  envPage: (variables: Record<string, { name: string; about: string }>) => string;
};

describe('readEnv', () => {
  it('has defaults', () => {
    expect(readEnv({})).toEqual({
      isa: undefined,
      threads: availableParallelism(),
      device: undefined,
      model: undefined,
      dtype: undefined,
      context: 0,
      debug: 0,
      trace: undefined,
      noFuse: false,
      validate: false,
    });
    const empty = Object.fromEntries(Object.values(VARIABLES).map((v) => [v.name, '']));
    expect(readEnv(empty)).toEqual(readEnv({}));
  });

  it('reads values', () => {
    const env = readEnv({
      SWITCHYARD_ISA: 'avx2',
      SWITCHYARD_THREADS: '3',
      SWITCHYARD_DEVICE: 'cpu',
      SWITCHYARD_MODEL: 'model.gguf',
      SWITCHYARD_DTYPE: 'bf16',
      SWITCHYARD_CONTEXT: '512',
      SWITCHYARD_DEBUG: '4',
      SWITCHYARD_TRACE: 'out.json',
      SWITCHYARD_NO_FUSE: '1',
      SWITCHYARD_VALIDATE: '0',
    });
    expect(env).toEqual({
      isa: 'avx2',
      threads: 3,
      device: 'cpu',
      model: 'model.gguf',
      dtype: 'bf16',
      context: 512,
      debug: 4,
      trace: 'out.json',
      noFuse: true,
      validate: false,
    });
    for (const tier of TIERS) expect(readEnv({ SWITCHYARD_ISA: tier }).isa).toBe(tier);
  });

  it.each([
    ['SWITCHYARD_ISA', 'sse', 'scalar, avx2'],
    ['SWITCHYARD_THREADS', '0', 'a whole number from 1 to 1024'],
    ['SWITCHYARD_THREADS', '1.5', 'a whole number from 1 to 1024'],
    ['SWITCHYARD_THREADS', 'two', 'a whole number from 1 to 1024'],
    ['SWITCHYARD_DEVICE', 'gpu', 'auto, cpu'],
    ['SWITCHYARD_DEBUG', '9', 'a whole number from 0 to 4'],
    ['SWITCHYARD_NO_FUSE', 'yes', '0 or 1'],
    ['SWITCHYARD_VALIDATE', 'true', '0 or 1'],
  ])('refuses %s=%s', (name, value, expected) => {
    expect(() => readEnv({ [name]: value })).toThrowError(
      expect.objectContaining({
        code: 'ERR_OPTION',
        message: expect.stringContaining(`[env] got ${name}=${value}, expected ${expected}`),
      }),
    );
  });
});

describe('docs/env.md', () => {
  it('is what scripts/write-env-docs.mjs writes', () => {
    const page = readFileSync(new URL('../../docs/env.md', import.meta.url), 'utf8');
    expect(page, 'write it by `npm run build:ts && node scripts/write-env-docs.mjs`').toBe(
      envPage(VARIABLES),
    );
  });
  it('names every variable', () => {
    for (const { name, about } of Object.values(VARIABLES)) {
      expect(name).toMatch(/^(SWITCHYARD|HF|XDG)_[A-Z_]+$/);
      expect(envPage({ one: { name, about } })).toContain(`\`${name}\``);
    }
  });
});
