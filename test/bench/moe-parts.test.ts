import { expect, it } from 'vitest';
import { ClockedDevice } from '../../bench/harness/kernel-clock.js';
import { PARTS, partTimes, splitAt } from '../../bench/harness/moe-parts.js';
import { gradients } from '../../src/core/autograd.js';
import { Executable } from '../../src/core/program/compile.js';
import { Tensor } from '../../src/core/tensor.js';
import { MoELayer } from '../../src/moe/layer.js';
import { Linear } from '../../src/nn/linear.js';
import { weight } from '../helpers/op-case.js';
import { packWeight } from '../helpers/weights.js';

const sizes = { dModel: 6, dFf: 7, nExperts: 4, topK: 2 };
const TOKENS = 5;

it('tells the phases of the fused experts from their products', async () => {
  const device = new ClockedDevice({ threads: 1 });
  const experts = {
    gate: await packWeight(weight(7, 6, 'f32', 4)),
    up: await packWeight(weight(7, 6, 'f32', 4)),
    down: await packWeight(weight(6, 7, 'f32', 4)),
  };
  const router = new Linear(await packWeight(weight(4, 6)));
  const x = Tensor.placeholder('f32', [TOKENS, 6]);
  const { output } = new MoELayer(sizes, { router, experts }).forward(x);
  const program = Executable.build(device, [x], [output]);
  await program.run([device.allocate(4 * TOKENS * 6)]);
  const times = partTimes(device.instructions, TOKENS * 2);
  for (const part of PARTS) expect(times[part]).toBeGreaterThan(0);
  expect(PARTS.reduce((sum, part) => sum + times[part], 0)).toBeCloseTo(device.total, 6);
});

it('tells forward from backward, and counts no instruction twice', async () => {
  const device = new ClockedDevice({ threads: 1 });
  const layer = new MoELayer(sizes);
  const x = Tensor.placeholder('f32', [TOKENS, 6]);
  const { output } = layer.forward(x);
  const program = Executable.build(device, [x], [output, ...gradients(output, [x], output)]);
  await program.run([device.allocate(4 * TOKENS * 6)]);
  const { forward, backward } = splitAt(output, device.instructions);
  expect(forward.length + backward.length).toBe(device.instructions.size);
  expect(forward.map(([i]) => i.kernel)).toContain('moe_plan');
  expect(backward.map(([i]) => i.kernel)).not.toContain('moe_plan');
  const times = partTimes(backward, TOKENS * 2);
  expect(times.plan).toBe(0);
  expect(times.experts).toBeGreaterThan(0);
  expect(times.route).toBeGreaterThan(0);
});
