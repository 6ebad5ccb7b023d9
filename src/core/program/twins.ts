import { topological } from '../autograd.js';
import { apply, isComposite, type OpDef, type OpInput } from '../op.js';
import { Tensor } from '../tensor.js';

/** The same graph with every op that `which` picks, and that has one, replaced by its twin of small ops. */
export function expandTwins(
  outputs: readonly Tensor[],
  which: (op: OpDef) => boolean = () => true,
): Tensor[] {
  const replaced = new Map<Tensor, Tensor>();
  const see = <T extends OpInput>(x: T): T => (x instanceof Tensor ? ((replaced.get(x) ?? x) as T) : x);
  for (const node of topological(outputs)) {
    const inputs = node.inputs.map(see);
    const changed = inputs.some((x, i) => x !== node.inputs[i]);
    const twin = which(node.op) ? node.op.twin : undefined;
    if (!twin && !changed) continue;
    const fresh = twin ? expandTwins(twin(inputs, node.attrs), which) : apply(node.op, inputs, node.attrs);
    for (const [i, t] of node.outputs.entries()) replaced.set(t, fresh[i] as Tensor);
  }
  return outputs.map(see);
}

/** The same graph without composites. */
export const expandComposites = (outputs: readonly Tensor[]): Tensor[] => expandTwins(outputs, isComposite);
