/** The walk of reverse mode; the rules of the ops are in gradients.test.ts. */
import { describe, expect, it } from 'vitest';
import { grad, gradients, topological, valueAndGrad } from '../../src/core/autograd.js';
import { apply, defineOp, opTable } from '../../src/core/op.js';
import * as ops from '../../src/core/ops/index.js';
import { type Tensor, tensor } from '../../src/core/tensor.js';
import { treeLeaves } from '../../src/core/tree.js';
import type { Value } from '../helpers/interpreter/value.js';
import { interpret } from '../helpers/interpreter.js';

const values = (t: Tensor): number[] => [...(interpret([t])[0] as Value).data];

describe('gradients', () => {
  it('adds up over every path', () => {
    const x = tensor([3]);
    const y = ops.mul(x, x);
    expect(gradients(ops.sum(ops.add(ops.mul(y, x), y)), [x]).map(values)).toEqual([[33]]); // 3x² + 2x
  });

  it('takes an upstream gradient for outputs that are no scalar', () => {
    const x = tensor([1, 2, 3]);
    expect(gradients(ops.mul(x, x), [x], tensor([1, 10, 100])).map(values)).toEqual([[2, 40, 600]]);
  });

  it('is zero where nothing depends, one at the output itself', () => {
    const [x, y] = [tensor([2]), tensor([[1, 1]])];
    const z = ops.neg(x);
    expect(gradients(z, [y, z, x]).map(values)).toEqual([[0, 0], [1], [-1]]);
    expect(gradients(z, [y])[0]?.shape).toEqual([1, 2]);
  });

  it('stops at intermediates that are asked for', () => {
    const x = tensor([2]);
    const y = ops.mul(x, 5);
    expect(gradients(ops.mul(y, y), [y, x]).map(values)).toEqual([[20], [100]]);
  });

  it('does not flow through whole numbers and ops that are not differentiable', () => {
    const x = tensor([1.5, -0.5]);
    const whole = ops.cast(ops.cast(x, 'i32'), 'f32');
    expect(gradients(ops.sum(ops.mul(whole, x)), [x]).map(values)).toEqual([[1, 0]]);
    expect(gradients(ops.sum(ops.mul(ops.floor(x), x)), [x]).map(values)).toEqual([[1, -1]]);
  });

  it('uses both outputs of a node', () => {
    const x = tensor([[3, 1, 2]]);
    const top = ops.topK(x, 2);
    const again = ops.takeAlong(x, top.indices);
    expect(gradients(ops.sum(ops.mul(top.values, again)), [x]).map(values)).toEqual([[6, 0, 4]]);
  });

  it('walks graphs deeper than the call stack', () => {
    let y = tensor([1]);
    const x = y;
    for (let i = 0; i < 20_000; i++) y = ops.add(y, 0);
    expect(topological([y]).filter((n) => n.op.name === 'add')).toHaveLength(20_000);
    expect(gradients(y, [x])[0]?.shape).toEqual([1]);
  });

  it('refuses an output that is no scalar, and an upstream gradient of another shape', () => {
    const x = tensor([1, 2]);
    expect(() => gradients(x, [x])).toThrowError(
      expect.objectContaining({
        code: 'ERR_SHAPE',
        message: expect.stringMatching(/^\[grad\] got an output of shape \[2\]/),
      }),
    );
    expect(() => gradients(x, [x], tensor([1]))).toThrowError(expect.objectContaining({ code: 'ERR_SHAPE' }));
  });
});

describe('grad and valueAndGrad', () => {
  it('keep the form of the parameters', () => {
    const params = { w: tensor([2, 3]), layers: [{ b: tensor([1]) }, { b: tensor([4]) }] };
    const loss = (p: typeof params, scale: number): Tensor =>
      ops.mul(ops.sum(ops.mul(p.w, ops.add(p.layers[0]?.b as Tensor, p.layers[1]?.b as Tensor))), scale);
    const { value, grad: g } = valueAndGrad(loss)(params, 2);
    expect(values(value)).toEqual([50]);
    expect(values(g.w)).toEqual([10, 10]);
    expect(g.layers.map((l) => values(l.b))).toEqual([[10], [10]]);
  });

  it('give one tensor at two places two gradients', () => {
    const x = tensor([3]);
    const g = grad(([a, b]: Tensor[]) => ops.mul(ops.mul(a as Tensor, a as Tensor), b as Tensor))([x, x]);
    expect(g.map(values)).toEqual([[18], [9]]);
    expect(treeLeaves(g)).toHaveLength(2);
  });

  it('nest', () => {
    const cube = (x: Tensor): Tensor => ops.mul(x, ops.mul(x, x));
    expect(values(grad(grad(grad(cube)))(tensor([5])))).toEqual([6]);
  });
});

describe('defineOp', () => {
  it('refuses a name twice', () => {
    expect(() =>
      defineOp({ name: 'add', attrs: {}, infer: () => [], gradient: 'nondifferentiable' }),
    ).toThrowError(/defined twice/);
    expect(opTable.get('add')?.emit).toBeDefined();
  });

  it("needs a twin beside gradient 'twin'", () => {
    const op = {
      name: 'lonely',
      attrs: {},
      infer: () => [{ dtype: 'f32' as const, shape: [1] }],
      gradient: 'twin' as const,
    };
    const x = tensor([1]);
    const [y] = apply(op, [x]) as [Tensor];
    expect(() => gradients(y, [x])).toThrowError(/'lonely' without a twin/);
  });
});
