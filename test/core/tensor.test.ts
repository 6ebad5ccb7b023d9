import { describe, expect, it } from 'vitest';
import * as ops from '../../src/core/ops/index.js';
import { Tensor, tensor } from '../../src/core/tensor.js';
import '../../src/core/device.js';

describe('tensor', () => {
  it('takes numbers and nested arrays', async () => {
    const x = tensor([
      [1, 2, 3],
      [4, 5, 6],
    ]);
    expect([x.dtype, x.shape, x.size, x.rank, x.bytes]).toEqual(['f32', [2, 3], 6, 2, 24]);
    expect(await x.data()).toEqual(Float32Array.of(1, 2, 3, 4, 5, 6));
    expect(tensor(3).shape).toEqual([]);
    expect(await tensor(3).item()).toBe(3);
    expect(tensor([]).shape).toEqual([0]);
    expect(tensor([[], []]).shape).toEqual([2, 0]);
    expect(await tensor([1, 0, 2], [3], 'bool').data()).toEqual(Uint8Array.of(1, 0, 1));
    expect(tensor([1, 2, 3, 4], [2, 2], 'i32').toString()).toBe('Tensor(i32 [2, 2])');
  });

  it('takes typed arrays, copied', async () => {
    const source = Float32Array.of(1, 2);
    const x = tensor(source);
    source[0] = 9;
    const copy = await x.data();
    copy[1] = 9;
    expect(await x.data()).toEqual(Float32Array.of(1, 2));
    expect(tensor(Int32Array.of(1)).dtype).toBe('i32');
    expect(tensor(Uint32Array.of(1)).dtype).toBe('u32');
    expect(tensor(Uint8Array.of(1)).dtype).toBe('u8');
    expect(await tensor(Uint8Array.of(5, 0), [2], 'bool').data()).toEqual(Uint8Array.of(1, 0));
    expect(tensor(Uint16Array.of(0x3c00), [1], 'f16').dtype).toBe('f16');
    expect(await ops.cast(tensor(Uint16Array.of(0x3c00), [1], 'f16'), 'f32').item()).toBe(1);
    expect(await ops.cast(tensor(Uint16Array.of(0x4049), [1], 'bf16'), 'f32').item()).toBe(3.140625);
  });

  it.each<[string, () => unknown, string]>([
    ['uneven rows', () => tensor([[1, 2], [3]]), 'ERR_SHAPE'],
    ['numbers beside rows', () => tensor([[1], 2]), 'ERR_SHAPE'],
    ['deeper rows', () => tensor([1, [2]]), 'ERR_SHAPE'],
    ['another count', () => tensor([1, 2, 3], [2]), 'ERR_SHAPE'],
    ['a negative size', () => tensor([], [-1, 0]), 'ERR_SHAPE'],
    ['a broken size', () => tensor([1], [0.5]), 'ERR_SHAPE'],
    ['f16 from numbers', () => tensor([1], [1], 'f16'), 'ERR_DTYPE'],
    ['16 bits without a dtype', () => tensor(Uint16Array.of(1)), 'ERR_DTYPE'],
    ['an array of another dtype', () => tensor(Float32Array.of(1), [1], 'i32'), 'ERR_DTYPE'],
    ['doubles', () => tensor(Float64Array.of(1) as unknown as Float32Array), 'ERR_DTYPE'],
    ['a placeholder of rank 9', () => Tensor.placeholder('f32', new Array<number>(9).fill(1)), 'ERR_SHAPE'],
  ])('refuses %s', (_, work, code) => {
    expect(work).toThrowError(
      expect.objectContaining({ code, message: expect.stringMatching(/^\[\w+\] got .+, expected /) }),
    );
  });

  it('gives one number only of one element', async () => {
    await expect(tensor([1, 2]).item()).rejects.toMatchObject({ code: 'ERR_SHAPE' });
  });

  it('has no values while it is a placeholder', async () => {
    await expect(Tensor.placeholder('f32', [1]).data()).rejects.toMatchObject({ code: 'ERR_OPTION' });
  });
});
