import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { addon, type NativeBuffer, type NativeProgram, type NativeRuntime } from '../../src/core/addon.js';
import { codeOf, copyProgram, floats, readFloats } from '../helpers/native.js';
import { encodeProgram, type ProgramText } from '../helpers/program-builder.js';

const native = addon();
const runtime = native.createRuntime({ threads: 2 });
afterAll(() => native.disposeRuntime(runtime));

const add = native.elementwiseOpcodes().indexOf('add');
/** out [4] = x[slot 0 …] of a constant [8], then that plus the input, through a view of the arena. */
const small: ProgramText = {
  inputs: 1,
  constants: 1,
  outputs: 1,
  ints: 1,
  arenaBytes: 64,
  buffers: [
    { kind: 'input', dims: [4] },
    { kind: 'constant', dims: [8] },
    { kind: 'arena', dims: [2, 2] },
    { kind: 'arena', dims: [4] },
    { kind: 'output', dims: [4] },
  ],
  instructions: [
    { kernel: 'strided_copy', inputs: [1], outputs: [2], attributes: [{ ints: [2, 1] }, { slot: 0 }] },
    { kernel: 'elementwise', inputs: [3, 0], outputs: [4], attributes: [{ ints: [add, 0, 1, 0] }] },
  ],
};
const constant = floats([0, 1, 2, 3, 4, 5, 6, 7]);
const input = floats([100, 200, 300, 400]);
const load = (text: ProgramText) => native.createProgram(encodeProgram(text), [constant], []);

describe('run', () => {
  it('runs a program, with another integer each time', async () => {
    const program = load(small);
    for (const offset of [0, 3, 4, 0]) {
      const [output] = await native.run(runtime, program, [input], [offset]);
      expect(readFloats(output)).toEqual([0, 1, 2, 3].map((i) => offset + i + 100 * (i + 1)));
    }
    expect(native.programInfo(program)).toMatchObject({ instructions: 2, arenaBytes: 64 });
  });

  it('keeps the order of the calls, and what the runs hold', async () => {
    const runs = Array.from({ length: 200 }, (_, i) => {
      const program = load(small);
      const values = floats([i, i, i, i]);
      const result = native.run(runtime, program, [values], [i % 5], {
        threads: 1 + (i % 2),
        tier: 'scalar',
      });
      native.disposeBuffer(values);
      native.disposeProgram(program);
      return result;
    });
    const outputs = (await Promise.all(runs)).map(([output]) => readFloats(output)[0]);
    expect(outputs).toEqual(Array.from({ length: 200 }, (_, i) => i + (i % 5)));
  });

  it('gives one program to two runtimes', async () => {
    const other = native.createRuntime({ threads: 3 });
    const program = load(small);
    const results = await Promise.all(
      Array.from({ length: 100 }, (_, i) => native.run(i % 2 ? other : runtime, program, [input], [i % 5])),
    );
    for (const [i, [output]] of results.entries()) expect(readFloats(output)[0]).toBe(100 + (i % 5));
    native.disposeRuntime(other);
  });

  it('aborts between instructions, and goes on with the next run', async () => {
    const program = native.createProgram(copyProgram(2 ** 20, 100_000), [], []);
    const abort = native.createAbort();
    const running = native.run(runtime, program, [native.createBuffer(2 ** 22)], [], { abort });
    setTimeout(() => native.abort(abort), 30);
    await expect(running).rejects.toMatchObject({ code: 'ERR_ABORTED', name: 'SwitchyardError' });
    expect(
      await codeOf(() => native.run(runtime, program, [native.createBuffer(2 ** 22)], [], { abort })),
    ).toBe('ERR_ABORTED');
    const [output] = await native.run(runtime, load(small), [input], [0]);
    expect(readFloats(output)[3]).toBe(403);
  });

  it('records a trace when asked, and only then', async () => {
    const program = load(small);
    native.takeTrace(runtime);
    await native.run(runtime, program, [input], [0]);
    expect(native.takeTrace(runtime)).toEqual([]);
    const before = Number(process.hrtime.bigint()) / 1000;
    await native.run(runtime, program, [input], [0], { trace: true });
    const after = Number(process.hrtime.bigint()) / 1000;
    const events = native.takeTrace(runtime);
    const { id } = native.programInfo(program);
    expect(events).toMatchObject([
      { name: 'strided_copy', program: id, instruction: 0 },
      { name: 'elementwise', program: id, instruction: 1 },
    ]);
    for (const event of events) {
      expect(event.start).toBeGreaterThanOrEqual(before);
      expect(event.start + event.duration).toBeLessThanOrEqual(after);
    }
    expect(native.takeTrace(runtime)).toEqual([]);
  });

  const program = load(small);
  const gone = native.createBuffer(16);
  native.disposeBuffer(gone);
  const run = (inputs: unknown, ints: unknown, options?: unknown) => () =>
    native.run(runtime, program, inputs as NativeBuffer[], ints as number[], options as { threads: number });
  it.each([
    ['no input', run([], [0]), 'ERR_SHAPE'],
    ['two inputs', run([input, input], [0]), 'ERR_SHAPE'],
    ['a longer input', run([constant], [0]), 'ERR_SHAPE'],
    ['no integers', run([input], []), 'ERR_SHAPE'],
    ['an integer out of range', run([input], [5]), 'ERR_PROGRAM'],
    ['a negative integer', run([input], [-1]), 'ERR_PROGRAM'],
    ['an integer that would wrap', run([input], [Number.MAX_SAFE_INTEGER]), 'ERR_PROGRAM'],
    ['NaN as an integer', run([input], [NaN]), 'ERR_OPTION'],
    ['a fraction', run([input], [0.5]), 'ERR_OPTION'],
    ['integers that are none', run([input], ['0']), 'ERR_OPTION'],
    ['a disposed input', run([gone], [0]), 'ERR_DISPOSED'],
    ['a program as input', run([program], [0]), 'ERR_OPTION'],
    ['inputs that are no array', run(input, [0]), 'ERR_OPTION'],
    ['0 threads', run([input], [0], { threads: 0 }), 'ERR_OPTION'],
    ['2^31 threads', run([input], [0], { threads: 2 ** 31 }), 'ERR_OPTION'],
    ['a tier nobody has', run([input], [0], { tier: 'avx9' }), 'ERR_OPTION'],
    ['options that are none', run([input], [0], 3), 'ERR_OPTION'],
    ['an abort that is none', run([input], [0], { abort: {} }), 'ERR_OPTION'],
    ['a trace that is none', run([input], [0], { trace: 1 }), 'ERR_OPTION'],
    ['no runtime', () => native.run({} as NativeRuntime, program, [input], [0]), 'ERR_OPTION'],
    ['no program', () => native.run(runtime, {} as NativeProgram, [input], [0]), 'ERR_OPTION'],
  ])('rejects %s', async (_, work, code) => {
    // A promise that rejects, never a throw.
    const promise = work();
    expect(promise).toBeInstanceOf(Promise);
    expect(await codeOf(() => promise)).toBe(code);
  });

  it('passes on what a getter throws', async () => {
    const options = {
      get threads(): number {
        throw new RangeError('mine');
      },
    };
    await expect(native.run(runtime, program, [input], [0], options)).rejects.toThrow('mine');
  });

  it('rejects after the runtime is disposed', async () => {
    const other = native.createRuntime({ threads: 1 });
    const running = native.run(
      other,
      native.createProgram(copyProgram(2 ** 18, 100_000), [], []),
      [native.createBuffer(2 ** 20)],
      [],
    );
    const waiting = native.run(other, program, [input], [0]);
    native.disposeRuntime(other);
    native.disposeRuntime(other);
    expect(await codeOf(() => running)).toBe('ERR_ABORTED');
    expect(await codeOf(() => waiting)).toBe('ERR_ABORTED');
    expect(await codeOf(() => native.run(other, program, [input], [0]))).toBe('ERR_DISPOSED');
  });

  it.each([0, -1, NaN, 1025, 2 ** 31, undefined, '2'])('refuses a runtime of %s threads', async (threads) => {
    expect(await codeOf(() => native.createRuntime({ threads: threads as number }))).toBe('ERR_OPTION');
  });
});

/** out = a + b, of four numbers each. */
const sum: ProgramText = {
  inputs: 2,
  outputs: 2,
  buffers: [
    { kind: 'input', dims: [4] },
    { kind: 'input', index: 1, dims: [4] },
    { kind: 'output', dims: [4] },
    { kind: 'output', index: 1, dims: [4] },
  ],
  instructions: [2, 3].map((output) => ({
    kernel: 'elementwise',
    inputs: [0, 1],
    outputs: [output],
    attributes: [{ ints: [add, 0, 1, 0] }],
  })),
};

describe('a bound run', () => {
  const program = native.createProgram(encodeProgram(sum), [], []);
  const inputs = native.createBuffer(256);
  const [a, b] = [native.partOfBuffer(inputs, 0, 16), native.partOfBuffer(inputs, 64, 16)];
  const result = native.createBuffer(16);
  const bound = native.bindRun(runtime, program, [a, b], [null, result], { threads: 2 });

  it.each(['on the runtime thread', 'here'])(
    'reads parts of a buffer and overwrites its output, %s',
    async (where) => {
      await native.start(bound); // so that it is known how long a run takes
      for (let i = 0; i < 20; i++) {
        native.writeBuffer(inputs, Float32Array.of(i, 1, 2, 3), 0);
        native.writeBuffer(inputs, Float32Array.of(10, 20, 30, 40), 64);
        const fresh = where === 'here' ? native.runHere(bound) : await native.start(bound);
        if (!fresh) continue; // the machine took long for the run before
        expect(fresh).toHaveLength(1);
        expect(readFloats(fresh[0] as NativeBuffer)).toEqual([i + 10, 21, 32, 43]);
        expect(readFloats(result)).toEqual([i + 10, 21, 32, 43]);
      }
    },
  );

  it('is not run here before it has run, nor when it takes long, nor beside another', async () => {
    const copies = (steps: number) => {
      const copying = native.createProgram(copyProgram(2 ** 16, steps), [], []);
      return native.bindRun(runtime, copying, [native.createBuffer(2 ** 18)], [null]);
    };
    const long = copies(100);
    expect(native.runHere(long)).toBeNull();
    await native.start(long);
    expect(native.runHere(long)).toBeNull();
    const abort = native.createAbort();
    const running = native.start(copies(100_000), abort);
    expect(native.runHere(bound)).toBeNull();
    native.abort(abort);
    expect(await codeOf(() => running)).toBe('ERR_ABORTED');
  });

  it('is aborted as others are', async () => {
    const abort = native.createAbort();
    native.abort(abort);
    await native.start(bound);
    expect(await codeOf(() => native.start(bound, abort))).toBe('ERR_ABORTED');
    await native.start(bound);
    expect([undefined, 'ERR_ABORTED']).toContain(await codeOf(() => native.runHere(bound, abort)));
  });

  it('lives without its parts, until it is disposed of', async () => {
    const [one, two, out] = [floats([1, 2, 3, 4]), floats([5, 6, 7, 8]), native.createBuffer(16)];
    const owned = native.createProgram(encodeProgram(sum), [], []);
    const held = native.bindRun(runtime, owned, [one, two], [out, null]);
    native.disposeProgram(owned);
    for (const buffer of [one, two]) native.disposeBuffer(buffer);
    await native.start(held);
    expect(readFloats(out)).toEqual([6, 8, 10, 12]);
    native.disposeRun(held);
    native.disposeRun(held);
    expect(await codeOf(() => native.start(held))).toBe('ERR_DISPOSED');
    expect(await codeOf(() => native.runHere(held))).toBe('ERR_DISPOSED');
  });

  it.each([
    ['an input for an output', [a, b], [a, null], 'ERR_OPTION'],
    ['one output twice', [a, b], [result, result], 'ERR_OPTION'],
    ['an output over an input', [a, b], [native.partOfBuffer(inputs, 64, 16), null], 'ERR_OPTION'],
    ['an output of another size', [a, b], [native.createBuffer(20), null], 'ERR_SHAPE'],
    ['one output of two', [a, b], [null], 'ERR_SHAPE'],
    ['one input of two', [a], [null, null], 'ERR_SHAPE'],
    ['null for an input', [a, null as unknown as NativeBuffer], [null, null], 'ERR_OPTION'],
    ['a number for an output', [a, b], [1 as unknown as NativeBuffer, null], 'ERR_OPTION'],
  ] as const)('refuses %s', async (_, given, outputs, code) => {
    expect(await codeOf(() => native.bindRun(runtime, program, given, outputs))).toBe(code);
  });

  it('refuses a program with run-time integers', async () => {
    expect(await codeOf(() => native.bindRun(runtime, load(small), [input], [null]))).toBe('ERR_SHAPE');
  });
});

describe('createProgram', () => {
  it('refuses what is no program', async () => {
    for (const bytes of [0, 1, 47, 48, 1000]) {
      expect(await codeOf(() => native.createProgram(new Uint8Array(bytes), [], []))).toBe('ERR_PROGRAM');
    }
    for (const wrong of [undefined, 'SYP1', 5]) {
      expect(await codeOf(() => native.createProgram(wrong as unknown as Uint8Array, [], []))).toBe(
        'ERR_OPTION',
      );
    }
    expect(await codeOf(() => native.createProgram(encodeProgram(small), [], []))).toBe('ERR_PROGRAM');
    const self = encodeProgram({
      ...small,
      instructions: [{ kernel: 'constructor', inputs: [], outputs: [] }],
    });
    expect(() => native.createProgram(self, [constant], [])).toThrow("got kernel 'constructor'");
  });

  it('survives any damage: an error with a code, or a program that runs', async () => {
    const binary = encodeProgram(small);
    const special = [0, 1, 2, 3, 4, 7, 8, 63, 64, 0x7fffffff, 0x80000000, 0xffffffff];
    const edit = fc.record({
      at: fc.nat(binary.length / 4 - 1),
      value: fc.oneof(fc.constantFrom(...special), fc.nat(0xffffffff)),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(edit, { maxLength: 4 }), fc.nat(binary.length), async (edits, cut) => {
        const bytes = binary.slice();
        const view = new DataView(bytes.buffer);
        for (const { at, value } of edits) view.setUint32(at * 4, value, true);
        const damaged = edits.length === 0 ? bytes.subarray(0, cut) : bytes;
        let program: NativeProgram;
        try {
          program = native.createProgram(damaged, [constant], []);
        } catch (error) {
          expect((error as { code: string }).code).toMatch(/^ERR_(PROGRAM|SHAPE)$/);
          return;
        }
        if (native.programInfo(program).arenaBytes > 2 ** 24) return;
        const code = await codeOf(() => native.run(runtime, program, [input], [1]));
        expect(code ?? 'ERR_NONE').toMatch(/^ERR_(NONE|PROGRAM|SHAPE)$/);
      }),
      { numRuns: 3000, seed: 11 },
    );
  });
});
