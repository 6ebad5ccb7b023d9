import { topological } from '../autograd.js';
import { apply, type OpInput } from '../op.js';
import { Tensor } from '../tensor.js';

/** The same graph with every fused op replaced by its twin of small ops. */
export function expandTwins(outputs: readonly Tensor[]): Tensor[] {
  const replaced = new Map<Tensor, Tensor>();
  const see = <T extends OpInput>(x: T): T => (x instanceof Tensor ? ((replaced.get(x) ?? x) as T) : x);
  for (const node of topological(outputs)) {
    const inputs = node.inputs.map(see);
    const changed = inputs.some((x, i) => x !== node.inputs[i]);
    if (!node.op.twin && !changed) continue;
    const fresh = node.op.twin
      ? expandTwins(node.op.twin(inputs, node.attrs))
      : apply(node.op, inputs, node.attrs);
    for (const [i, t] of node.outputs.entries()) replaced.set(t, fresh[i] as Tensor);
  }
  return outputs.map(see);
}
