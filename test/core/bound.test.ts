import { setImmediate as nextTurn } from 'node:timers';
import { afterEach, describe, expect, it, vi } from 'vitest';
import type { NativeBuffer } from '../../src/core/addon.js';
import { device } from '../../src/core/device.js';
import * as ops from '../../src/core/ops/index.js';
import { PackedTensors } from '../../src/core/packed-tensors.js';
import { BoundProgram } from '../../src/core/program/bound.js';
import type { Executable } from '../../src/core/program/compile.js';
import { Tensor } from '../../src/core/tensor.js';
import { codeOf, readFloats } from '../helpers/native.js';

const RUNS = 3000;

/** softmax of x, brought back, and x + 1, in a buffer of each run. */
async function softmaxProgram() {
  const on = device({ threads: 1 });
  const x = Tensor.placeholder('f32', [2, 3]);
  return { on, program: await BoundProgram.build(on, { x }, { y: ops.softmax(x) }, [ops.add(x, 1)]) };
}

describe('a bound program', () => {
  afterEach(() => vi.unstubAllEnvs());

  it('overwrites its outputs in each run, and gives the event loop its turns', async () => {
    const { on, program } = await softmaxProgram();
    const { x } = program.inputs.floats;
    const { y } = program.results.floats;
    let turns = 0;
    let over = false;
    const count = (): void => {
      turns++;
      if (!over) nextTurn(count);
    };
    count();
    for (let i = 0; i < RUNS; i++) {
      x.set([0, 0, 0, i, i, i + Math.LN2]);
      const [next] = await program.run();
      expect(y[0]).toBeCloseTo(1 / 3);
      expect(y[5]).toBeCloseTo(1 / 2);
      expect(readFloats(next as NativeBuffer)[3]).toBe(i + 1);
      on.addon.disposeBuffer(next as NativeBuffer);
    }
    over = true;
    expect(turns).toBeGreaterThan(RUNS / 100); // far fewer runs would be seconds
    program.dispose();
  });

  it('rejects with what a run throws, and runs again', async () => {
    const { on, program } = await softmaxProgram();
    const { x } = program.inputs.floats;
    const { y } = program.results.floats;
    const abort = on.addon.createAbort();
    on.addon.abort(abort);
    x.fill(0);
    for (let i = 0; i < 20; i++) {
      expect(await codeOf(() => program.run({ abort }))).toBe('ERR_ABORTED');
      expect(await program.run()).toHaveLength(1);
    }
    expect([...y]).toEqual(Array(6).fill(Math.fround(1 / 3)));
    program.dispose();
    expect(await codeOf(() => program.run())).toBe('ERR_DISPOSED');
  });

  it('is traced, and compared with its twin under SWITCHYARD_VALIDATE', async () => {
    vi.stubEnv('SWITCHYARD_VALIDATE', '1');
    vi.stubEnv('SWITCHYARD_DEBUG', '2');
    vi.stubEnv('SWITCHYARD_NO_FUSE', '');
    const printed = vi.spyOn(process.stderr, 'write').mockReturnValue(true);
    try {
      const { program } = await softmaxProgram();
      const compared = vi.spyOn(program.executable.twin as Executable, 'run');
      for (let i = 0; i < 3; i++) await program.run();
      expect(compared).toHaveBeenCalledTimes(3);
      expect(printed.mock.calls.filter(([line]) => String(line).startsWith('softmax '))).toHaveLength(3);
    } finally {
      printed.mockRestore();
    }
  });
});

describe('packed tensors', () => {
  const on = device();
  const [a, b, none] = [[17], [2, 2], [0]].map((shape) => Tensor.placeholder('i32', shape)) as [
    Tensor,
    Tensor,
    Tensor,
  ];
  const c = Tensor.placeholder('f32', [3]);

  it('go to buffers of their own, and come back', () => {
    const packed = new PackedTensors(on, { a, none, b, c });
    packed.ints.a.fill(7);
    packed.ints.b.set([1, 2, 3, 4]);
    packed.floats.c.set([0.5, 1.5, 2.5]);
    packed.write();
    for (const array of [packed.ints.a, packed.ints.b, packed.floats.c]) array.fill(0);
    const words = new Int32Array(4);
    on.addon.readBuffer(packed.buffers[2] as NativeBuffer, words);
    expect([...words]).toEqual([1, 2, 3, 4]);
    expect(readFloats(packed.buffers[3] as NativeBuffer)).toEqual([0.5, 1.5, 2.5]);
    expect(on.addon.bufferBytes(packed.buffers[1] as NativeBuffer)).toBe(0);
    packed.read();
    expect([...packed.ints.a]).toEqual(Array(17).fill(7));
    expect([...packed.floats.c]).toEqual([0.5, 1.5, 2.5]);
    packed.dispose();
  });

  it('keep what is spare at home', () => {
    const packed = new PackedTensors(on, { a, b });
    packed.ints.b.set([1, 2, 3, 4]);
    packed.write(14); // two of b, and what its memory is padded with
    packed.read();
    expect([...packed.ints.b]).toEqual([1, 2, 0, 0]);
  });

  it('are words', async () => {
    const bytes = Tensor.placeholder('u8', [3]);
    expect(await codeOf(() => new PackedTensors(on, { a, bytes }))).toBe('ERR_DTYPE');
  });
});
