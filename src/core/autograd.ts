/**
 * Reverse-mode differentiation of graphs. Gradient rules are made of ops, so gradients are graphs themselves and
 * derivatives of any order work.
 */
import { isFloat } from './dtype.js';
import { SwitchyardError } from './errors.js';
import type { Node } from './op.js';
import { add, ones, zeros } from './ops/elementwise.js';
import { sumTo } from './ops/reduce.js';
import { identity } from './ops/shape.js';
import { sameShape, shapeText } from './shape.js';
import { Tensor } from './tensor.js';
import { treeLeaves, treeMap } from './tree.js';

/** Nodes reachable from `outputs`, inputs before their users. */
export function topological(outputs: readonly Tensor[]): Node[] {
  const order: Node[] = [];
  const state = new Map<Node, number>(); // next input to visit; -1: done
  const stack: Node[] = [];
  const push = (t: unknown): void => {
    if (t instanceof Tensor && t.source.kind === 'node' && !state.has(t.source.node)) {
      state.set(t.source.node, 0);
      stack.push(t.source.node);
    }
  };
  for (const output of outputs) {
    push(output);
    while (stack.length > 0) {
      const node = stack[stack.length - 1] as Node;
      const next = state.get(node) as number;
      if (next < node.inputs.length) {
        state.set(node, next + 1);
        push(node.inputs[next]);
      } else {
        state.set(node, -1);
        order.push(node);
        stack.pop();
      }
    }
  }
  return order;
}

/**
 * Gradients of Σ output · seed for each tensor of `wrt`.
 * @param seed upstream gradient of `output`; default 1 for a scalar
 * @returns one tensor per `wrt`; zeros where the output does not depend on it
 */
export function gradients(output: Tensor, wrt: readonly Tensor[], seed?: Tensor): Tensor[] {
  if (!seed && output.size !== 1) {
    throw new SwitchyardError(
      'ERR_SHAPE',
      `[grad] got an output of shape ${shapeText(output.shape)}, expected a scalar`,
      {
        hint: 'sum the output, or pass the upstream gradient',
      },
    );
  }
  if (seed && !sameShape(seed.shape, output.shape)) {
    throw new SwitchyardError(
      'ERR_SHAPE',
      `[grad] got an upstream gradient of shape ${shapeText(seed.shape)}, expected ${shapeText(output.shape)}`,
    );
  }
  const order = topological([output]);
  const needed = dependents(order, wrt);
  const total = new Map<Tensor, Tensor>([[output, seed ?? ones(output.shape, output.dtype)]]);
  for (const node of order.reverse()) {
    if (!needed.has(node)) continue;
    const grads = node.outputs.map((y) => total.get(y) ?? null);
    if (grads.every((g) => g === null)) continue;
    const flows = backward(node, grads);
    node.inputs.forEach((input, i) => {
      const flow = flows[i];
      if (!flow || !(input instanceof Tensor) || !isFloat(input.dtype)) return;
      const g = sumTo(flow, input.shape); // an operand that was broadcast gets the sum over its copies
      const before = total.get(input);
      total.set(input, before ? add(before, g) : g);
    });
  }
  return wrt.map((t) => total.get(t) ?? zeros(t.shape, t.dtype));
}

/** Nodes on a path from `wrt` to the output. */
function dependents(order: readonly Node[], wrt: readonly Tensor[]): Set<Node> {
  const leaves = new Set<unknown>(wrt);
  const needed = new Set<Node>();
  for (const node of order) {
    const touched = node.inputs.some(
      (x) => leaves.has(x) || (x instanceof Tensor && x.source.kind === 'node' && needed.has(x.source.node)),
    );
    if (touched) needed.add(node);
  }
  return needed;
}

function backward(node: Node, grads: readonly (Tensor | null)[]): readonly (Tensor | null)[] {
  const { gradient, twin } = node.op;
  if (gradient === 'nondifferentiable') return node.inputs.map(() => null);
  if (typeof gradient === 'function') {
    return gradient({ inputs: node.inputs, outputs: node.outputs, attrs: node.attrs, grads });
  }
  // Differentiates the twin on fresh inputs, so that the walk stops at this node's own inputs.
  if (!twin)
    throw new SwitchyardError(
      'ERR_OPTION',
      `[grad] got op '${node.op.name}' without a twin, expected one beside gradient 'twin'`,
    );
  const tensors = node.inputs.map((x) => (x instanceof Tensor ? identity(x) : x));
  const wrt = tensors.filter((x): x is Tensor => x instanceof Tensor);
  const outputs = twin(tensors, node.attrs);
  let sum: Map<Tensor, Tensor> | null = null;
  outputs.forEach((y, i) => {
    const g = grads[i];
    if (!g) return;
    const flows = gradients(y, wrt, g);
    const next = new Map<Tensor, Tensor>();
    wrt.forEach((t, j) => {
      const before = sum?.get(t);
      next.set(t, before ? add(before, flows[j] as Tensor) : (flows[j] as Tensor));
    });
    sum = next;
  });
  const found = sum as Map<Tensor, Tensor> | null;
  return tensors.map((t) => (t instanceof Tensor ? (found?.get(t) ?? null) : null));
}

/**
 * The function that returns the value and the gradient of a scalar function for its first argument,
 * a tensor or a tree of tensors. Other arguments are constants.
 */
export function valueAndGrad<P, A extends unknown[]>(
  fn: (params: P, ...rest: A) => Tensor,
): (params: P, ...rest: A) => { value: Tensor; grad: P } {
  return (params, ...rest) => {
    const fresh = treeMap(params, identity); // the same tensor twice in the tree gets two gradients
    const value = fn(fresh, ...rest);
    const found = gradients(value, treeLeaves(fresh));
    let i = 0;
    return { value, grad: treeMap(params, () => found[i++] as Tensor) };
  };
}

/** Like `valueAndGrad`, the gradient alone. */
export function grad<P, A extends unknown[]>(
  fn: (params: P, ...rest: A) => Tensor,
): (params: P, ...rest: A) => P {
  const both = valueAndGrad(fn);
  return (params, ...rest) => both(params, ...rest).grad;
}
