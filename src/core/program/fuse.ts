/** Which elementwise nodes become one pass, and which linears share one instruction. */
import type { Node, OpInput } from '../op.js';
import { sameShape } from '../shape.js';
import { Tensor } from '../tensor.js';

/** Operands of one elementwise instruction (kMaxElementwiseInputs of the native kernel). */
export const MAX_FUSED_INPUTS = 8;
/** Longer code would fall out of the interpreter's tile registers in L1. */
const MAX_FUSED_NODES = 48;

export const nodeOf = (t: OpInput | undefined): Node | null =>
  t instanceof Tensor && t.source.kind === 'node' ? t.source.node : null;

/** A node whose result may stay in a lane: narrow dtypes must be rounded in memory. */
const staysInLane = (node: Node): boolean => ['f32', 'i32', 'bool'].includes(node.types[0]?.dtype ?? '');
const isConstant = (node: Node): boolean => node.inputs.length === 0;

/** The tensor whose elements an elementwise instruction reads for `t`: it broadcasts by itself. */
export function leafOf(t: Tensor): Tensor {
  const node = nodeOf(t);
  return node?.op.name === 'broadcast_to' ? (node.inputs[0] as Tensor) : t;
}

/**
 * Grows clusters of elementwise nodes from the last node of each backwards: a producer joins when it has the
 * cluster's shape and all its users are inside. Returns the root of every node that was joined to another's.
 */
export function clusterElementwise(order: readonly Node[], outputs: readonly Tensor[]): Map<Node, Node> {
  const users = new Map<Node, Set<Node>>();
  for (const node of order) {
    for (const x of node.inputs) {
      const producer = nodeOf(x);
      if (!producer) continue;
      const set = users.get(producer);
      if (set) set.add(node);
      else users.set(producer, new Set([node]));
    }
  }
  const kept = new Set(outputs.map((t) => nodeOf(t)).filter((n) => n !== null));
  const rootOf = new Map<Node, Node>();
  for (let i = order.length - 1; i >= 0; i--) {
    const root = order[i] as Node;
    if (!root.op.emit || rootOf.has(root) || isConstant(root)) continue;
    grow(root, users, kept, rootOf);
  }
  return rootOf;
}

function grow(root: Node, users: Map<Node, Set<Node>>, kept: Set<Node>, rootOf: Map<Node, Node>): void {
  const shape = root.types[0]?.shape ?? [];
  const members = new Set([root]);
  const leaves = new Set<Tensor>();
  const addLeaves = (node: Node): void => {
    for (const x of node.inputs) {
      const producer = nodeOf(x);
      if (producer && (members.has(producer) || (producer.op.emit && isConstant(producer)))) continue;
      leaves.add(leafOf(x as Tensor));
    }
  };
  addLeaves(root);
  for (let grew = true; grew; ) {
    grew = false;
    for (const leaf of leaves) {
      const node = nodeOf(leaf);
      const joins =
        node?.op.emit &&
        !isConstant(node) &&
        !rootOf.has(node) &&
        !kept.has(node) &&
        staysInLane(node) &&
        members.size < MAX_FUSED_NODES &&
        sameShape(node.types[0]?.shape ?? [], shape) &&
        [...(users.get(node) ?? [])].every((u) => members.has(u));
      if (!joins || leaves.size - 1 + node.inputs.length > MAX_FUSED_INPUTS) continue;
      members.add(node);
      rootOf.set(node, root);
      leaves.delete(leaf);
      addLeaves(node);
      grew = true;
      break;
    }
  }
}

/** Ops whose nodes of equal input and attributes are computed by one instruction with several weights. */
const JOINED = new Set(['linear', 'grouped_linear']);

/** Groups linears of the same input: the first node of a group stands for all. */
export function groupLinears(order: readonly Node[]): Map<Node, Node[]> {
  const found: { tensors: readonly OpInput[]; node: Node; group: Node[] }[] = [];
  const groups = new Map<Node, Node[]>();
  const byInput = new Map<OpInput, typeof found>();
  for (const node of order) {
    if (!JOINED.has(node.op.name)) continue;
    const tensors = node.inputs.slice(0, -1);
    const list = byInput.get(tensors[0] as OpInput) ?? [];
    const match = list.find(
      (e) =>
        e.node.op === node.op &&
        e.node.attrs.compute === node.attrs.compute &&
        e.tensors.every((t, i) => t === tensors[i]),
    );
    if (match) {
      match.group.push(node);
      groups.set(node, match.group);
    } else {
      const entry = { tensors, node, group: [node] };
      list.push(entry);
      byInput.set(tensors[0] as OpInput, list);
      groups.set(node, entry.group);
    }
  }
  return groups;
}
