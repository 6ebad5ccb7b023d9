// Names of devices, and what is said where a device of a backend cannot be had.
import { fileURLToPath } from 'node:url';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { openCuda } from '../../src/core/backend.js';
import { Device } from '../../src/core/device.js';
import { parseDeviceName, readEnv } from '../../src/core/env.js';

const here = fileURLToPath(import.meta.url);

describe('names of devices', () => {
  it.each([
    ['cpu', { kind: 'cpu' }],
    ['auto', { kind: 'auto' }],
    ['cuda', { kind: 'cuda', ordinal: 0 }],
    ['cuda:3', { kind: 'cuda', ordinal: 3 }],
    ['', undefined],
    ['CUDA', undefined],
    ['cuda:', undefined],
    ['cuda:-1', undefined],
    ['cuda:1e3', undefined],
    ['cuda:12345', undefined],
    ['cpu:0', undefined],
  ])("'%s'", (name, parsed) => expect(parseDeviceName(name)).toEqual(parsed));

  it('are checked in SWITCHYARD_DEVICE', () => {
    expect(readEnv({ SWITCHYARD_DEVICE: 'cuda:1' }).device).toBe('cuda:1');
    expect(() => readEnv({ SWITCHYARD_DEVICE: 'gpu' })).toThrow(
      /got SWITCHYARD_DEVICE=gpu, expected auto, cpu/,
    );
  });
});

describe('a device that cannot be had', () => {
  afterEach(() => vi.unstubAllEnvs());

  it('says that its library is not there', () => {
    vi.stubEnv('SWITCHYARD_CUDA_LIBRARY', '/no/such/library.so');
    expect(() => openCuda(901)).toThrow(
      expect.objectContaining({
        code: 'ERR_DEVICE',
        message: "[device] got no CUDA backend at '/no/such/library.so', expected one",
        hint: expect.stringContaining('npm run build:cuda'),
      }),
    );
    expect(() => new Device({ name: 'cuda:901' })).toThrow(expect.objectContaining({ code: 'ERR_DEVICE' }));
  });

  it('says that its library is none', () => {
    vi.stubEnv('SWITCHYARD_CUDA_LIBRARY', here);
    expect(() => openCuda(902)).toThrow(
      expect.objectContaining({
        code: 'ERR_DEVICE',
        message: expect.stringMatching(/^\[device\] got no backend from/),
      }),
    );
  });
});
