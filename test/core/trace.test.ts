import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { type Device, device } from '../../src/core/device.js';
import * as ops from '../../src/core/ops/index.js';
import { Executable } from '../../src/core/program/compile.js';
import { tensor } from '../../src/core/tensor.js';
import { weight } from '../helpers/op-case.js';
import { packWeight } from '../helpers/weights.js';

describe('the trace', () => {
  const folder = mkdtempSync(join(tmpdir(), 'switchyard-trace-'));
  const file = join(folder, 'trace.json');
  let on: Device;
  const printed: string[] = [];

  beforeAll(() => {
    vi.stubEnv('SWITCHYARD_TRACE', file);
    vi.stubEnv('SWITCHYARD_DEBUG', '2');
    vi.spyOn(process.stderr, 'write').mockImplementation((text) => {
      printed.push(String(text));
      return true;
    });
    on = device({ threads: 1 });
  });
  afterAll(() => {
    vi.unstubAllEnvs();
    vi.restoreAllMocks();
    rmSync(folder, { recursive: true, force: true });
  });

  it('has one event for each instruction of each program, with ops, shapes and rates', async () => {
    const x = tensor([
      [1, 2],
      [3, 4],
    ]);
    const first = Executable.build(on, [], [ops.softmax(x), ops.matmul(x, x)]);
    const second = Executable.build(on, [], [ops.silu(x)]);
    await Promise.all([first.run([]), second.run([]), first.run([])]);
    on.tracer?.write();
    const { traceEvents } = JSON.parse(readFileSync(file, 'utf8')) as {
      traceEvents: {
        name: string;
        ph: string;
        ts: number;
        dur: number;
        args: Record<string, number | string>;
      }[];
    };
    expect(traceEvents.map((e) => e.name).sort()).toEqual([
      'elementwise',
      'matmul',
      'matmul',
      'softmax',
      'softmax',
    ]);
    for (const e of traceEvents) {
      expect(e.ph).toBe('X');
      for (const n of [e.ts, e.dur, e.args.flops, e.args.bytes, e.args['GFLOP/s'], e.args['GB/s']])
        expect(n).toSatisfy((v) => Number.isFinite(v) && v >= 0);
    }
    const event = (name: string) => traceEvents.find((e) => e.name === name)?.args;
    expect(event('elementwise')).toMatchObject({ ops: 'sigmoid+mul', shapes: '[2, 2]', flops: 8, bytes: 32 });
    expect(event('matmul')).toMatchObject({
      ops: 'matmul',
      shapes: '[1, 2, 2] [1, 2, 2]',
      flops: 16,
      bytes: 48,
    });
    const lines = printed.filter((l) => /^(elementwise|matmul|softmax) .* ms .* GFLOP\/s .* GB\/s/.test(l));
    expect(lines).toHaveLength(5);
  });

  it('has the phases that a kernel names within its event', async () => {
    const x = tensor([[1, 2]]);
    const plan = ops.moePlan(tensor(new Int32Array([0]), [1, 1]), 1);
    const w = await packWeight(weight(2, 2));
    const weights = { gate: w, up: w, down: w };
    await Executable.build(on, [], [ops.moeExperts(x, plan, tensor([[1]]), weights)]).run([]);
    on.tracer?.write();
    const { traceEvents } = JSON.parse(readFileSync(file, 'utf8')) as {
      traceEvents: { name: string; ts: number; dur: number; args: Record<string, unknown> }[];
    };
    const whole = traceEvents.find((e) => e.name === 'moe_experts');
    const phases = traceEvents.filter((e) => e.args.kernel === 'moe_experts');
    expect(phases.map((e) => e.name)).toEqual(['gather', 'gate and up', 'down', 'combine']);
    let end = whole?.ts ?? Number.NaN;
    for (const { ts, dur } of phases) {
      expect(ts).toBeGreaterThan(end - 0.01); // a sum of two doubles
      end = ts + dur;
    }
    expect(end).toBeCloseTo((whole?.ts ?? 0) + (whole?.dur ?? 0), 1);
    expect(
      printed.filter((l) => /^ {2}(gather|gate and up|down|combine) +\d+\.\d{3} ms$/m.test(l)),
    ).toHaveLength(4);
  });
});
