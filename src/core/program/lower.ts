/** From the graph to instructions: dead code is never visited, views cost nothing, elementwise chains become one pass. */
import { topological } from '../autograd.js';
import { dtypeSize } from '../dtype.js';
import { SwitchyardError } from '../errors.js';
import type { Attr, AttrType, Emitter, Node } from '../op.js';
import { sizeOf } from '../shape.js';
import type { Tensor } from '../tensor.js';
import { Weight } from '../weight.js';
import { clusterElementwise, groupLinears, leafOf, nodeOf } from './fuse.js';
import type { Instruction, Lowering, Storage, StorageKind, Value } from './ir.js';
import { expandComposites } from './twins.js';

export interface LowerOptions {
  /** The placeholders, in the order in which inputs are given. */
  inputs: readonly Tensor[];
  outputs: readonly Tensor[];
  /** Opcodes of the elementwise kernel by name. */
  opcodes: ReadonlyMap<string, number>;
  /** Join elementwise chains and linears of one input. */
  fuse: boolean;
}

export function lower(options: LowerOptions): Lowering {
  const parts = lowerInParts(options);
  let part = parts.next();
  while (!part.done) part = parts.next();
  return part.value;
}

/** The same, cut in parts that take well under a millisecond of compiled code each. */
export function* lowerInParts(given: LowerOptions): Generator<void, Lowering> {
  const options = { ...given, outputs: expandComposites(given.outputs) };
  yield;
  const order = topological(options.outputs);
  checkMutation(order, options.outputs);
  yield;
  const rootOf = options.fuse ? clusterElementwise(order, options.outputs) : new Map<Node, Node>();
  yield;
  const groups = options.fuse ? groupLinears(order) : new Map<Node, Node[]>();
  yield;
  return yield* new Lowerer(options, order, rootOf, groups).run();
}

const NODES_PER_PART = 128;

class Lowerer {
  readonly #values = new Map<Tensor | Weight, Value>();
  readonly #instructions: Instruction[] = [];
  readonly #constants: Tensor[] = [];
  readonly #weights: Weight[] = [];

  constructor(
    readonly options: LowerOptions,
    readonly order: readonly Node[],
    /** The root of every elementwise node that was joined to another's code. */
    readonly rootOf: ReadonlyMap<Node, Node>,
    /** The nodes that one instruction computes. */
    readonly groups: ReadonlyMap<Node, Node[]>,
  ) {
    for (const [index, t] of options.inputs.entries()) {
      this.#values.set(t, { storage: storage('input', t.bytes, index), dtype: t.dtype, shape: t.shape });
    }
  }

  *run(): Generator<void, Lowering> {
    for (const [i, node] of this.order.entries()) {
      this.#lowerNode(node);
      if (i % NODES_PER_PART === NODES_PER_PART - 1) yield;
    }
    for (const [index, t] of this.options.outputs.entries()) this.#keep(t, index);
    return {
      instructions: this.#instructions,
      inputs: this.options.inputs,
      constants: this.#constants,
      weights: this.#weights,
      outputs: this.options.outputs,
      arenaBytes: 0,
    };
  }

  #lowerNode(node: Node): void {
    const { op } = node;
    const first = node.outputs[0] as Tensor;
    if (this.rootOf.has(node) || this.#values.has(first)) return;
    if (op.view || op.mutates) {
      const { storage } = this.#value(node.inputs[0] as Tensor);
      this.#values.set(first, { storage, dtype: first.dtype, shape: first.shape });
      if (op.view) return;
    }
    if (op.emit) {
      if (node.inputs.length > 0 || !this.options.fuse || this.options.outputs.includes(first))
        this.#elementwise(node);
      return;
    }
    if (op.name === 'broadcast_to' && this.#onlyFeedsElementwise(node)) return;
    const group = this.groups.get(node) ?? [node];
    this.#lowered(node, group);
  }

  /** Constants and broadcasts are read by elementwise code directly; they get memory when another op asks. */
  #onlyFeedsElementwise(node: Node): boolean {
    return this.options.fuse && !this.options.outputs.includes(node.outputs[0] as Tensor);
  }

  #lowered(node: Node, group: readonly Node[]): void {
    const { op } = node;
    if (!op.lower)
      throw new SwitchyardError(
        'ERR_OPTION',
        `[compile] got op '${op.name}' without a kernel, expected lower, emit or view`,
      );
    const form = op.lower(node);
    const see = (x: Tensor | Weight | null, shape?: readonly number[] | null): Value | null => {
      if (!x) return null;
      const value = this.#value(x);
      return shape ? { ...value, shape } : value;
    };
    const inputs = node.inputs.map((x, i) => see(x, form.inputShapes?.[i]));
    for (const other of group.slice(1)) inputs.push(see(other.inputs[other.inputs.length - 1] as Weight));
    const outputs = group.flatMap((n) =>
      n.outputs.map((t, i) => {
        const value = this.#values.get(t) ?? this.#define(t);
        const shape = form.outputShapes?.[i];
        return shape ? { ...value, shape } : value;
      }),
    );
    this.#instructions.push({ kernel: form.kernel, inputs, outputs, attrs: form.attrs, nodes: group });
  }

  #elementwise(root: Node): void {
    const code: number[] = [];
    const leaves: Tensor[] = [];
    const leafRegister = new Map<Tensor, number>();
    const nodes: Node[] = [];
    const collect = (node: Node, seen: Set<Node>): void => {
      if (seen.has(node)) return;
      seen.add(node);
      for (const x of node.inputs as readonly Tensor[]) {
        const inner = this.#inlined(x, root);
        if (inner) collect(inner, seen);
        else {
          const leaf = this.options.fuse ? leafOf(x) : x;
          if (!leafRegister.has(leaf)) {
            leafRegister.set(leaf, leaves.length);
            leaves.push(leaf);
          }
        }
      }
      nodes.push(node);
    };
    collect(root, new Set());
    const emit = this.#emitter(code, leaves.length);
    const registers = new Map<Node, number>();
    for (const node of nodes) {
      const inputs = node.inputs as readonly Tensor[];
      const from = inputs.map((x) => {
        const inner = this.#inlined(x, root);
        return inner
          ? (registers.get(inner) as number)
          : (leafRegister.get(this.options.fuse ? leafOf(x) : x) as number);
      });
      registers.set(node, node.op.emit?.(emit, from, inputs, node.attrs) as number);
    }
    // The root is emitted last, so the last register is its result, also where a cast changes nothing.
    const inputs = leaves.map((t) => this.#value(t));
    const output = this.#define(root.outputs[0] as Tensor);
    this.#instructions.push({
      kernel: 'elementwise',
      inputs,
      outputs: [output],
      attrs: [{ type: 'ints' as AttrType, value: code as Attr }],
      nodes,
    });
  }

  /** The node behind an operand, if its code belongs into this root's instruction. */
  #inlined(x: Tensor, root: Node): Node | null {
    const node = nodeOf(x);
    if (!node?.op.emit) return null;
    if (this.rootOf.get(node) === root) return node;
    return this.options.fuse && node.inputs.length === 0 ? node : null;
  }

  #emitter(code: number[], leaves: number): Emitter {
    const push = (name: string, a: number, b: number, c: number): number => {
      const opcode = this.options.opcodes.get(name);
      if (opcode === undefined)
        throw new SwitchyardError(
          'ERR_NATIVE',
          `[compile] got elementwise opcode '${name}', expected one the addon knows`,
        );
      code.push(opcode, a, b, c);
      return leaves + code.length / 4 - 1;
    };
    return {
      op: (name, a = 0, b = 0, c = 0) => push(name, a, b, c),
      float: (value) => push('const', bitsOf(value), 0, 0),
      int: (value) => push('const_i32', value | 0, 0, 0),
    };
  }

  #define(t: Tensor): Value {
    const value = { storage: storage('arena', t.bytes, 0), dtype: t.dtype, shape: t.shape };
    this.#values.set(t, value);
    return value;
  }

  #value(x: Tensor | Weight): Value {
    const known = this.#values.get(x);
    if (known) return known;
    if (x instanceof Weight) {
      const value: Value = {
        storage: storage('weight', 0, this.#weights.length),
        dtype: 'f32',
        shape: [x.experts, x.rows, x.columns],
      };
      this.#weights.push(x);
      this.#values.set(x, value);
      return value;
    }
    const { source } = x;
    if (source.kind === 'placeholder') {
      throw new SwitchyardError(
        'ERR_OPTION',
        `[compile] got a placeholder ${x} that is no argument, expected only the function's own arguments`,
      );
    }
    if (source.kind === 'node') {
      // a constant or a broadcast that another kernel needs in memory
      if (source.node.op.emit) this.#elementwise(source.node);
      else this.#lowered(source.node, [source.node]);
      return this.#values.get(x) as Value;
    }
    const value = {
      storage: storage('constant', x.bytes, this.#constants.length),
      dtype: x.dtype,
      shape: x.shape,
    };
    this.#constants.push(x);
    this.#values.set(x, value);
    return value;
  }

  /** Makes the memory of `t` an output of the program, copying where it is something else already. */
  #keep(t: Tensor, index: number): void {
    const value = this.#value(t);
    if (value.storage.kind === 'arena') {
      value.storage.kind = 'output';
      value.storage.index = index;
      return;
    }
    const n = sizeOf(t.shape);
    const copy: Value = { storage: storage('output', t.bytes, index), dtype: t.dtype, shape: [n] };
    const attrs = [
      { type: 'ints' as const, value: [1] },
      { type: 'int' as const, value: 0 },
    ];
    this.#instructions.push({
      kernel: 'strided_copy',
      inputs: [{ ...value, shape: [n] }],
      outputs: [copy],
      attrs,
      nodes: [],
    });
  }
}

function storage(kind: StorageKind, bytes: number, index: number): Storage {
  return { kind, bytes, index, offset: 0, first: -1, last: -1 };
}

const floatBits = new DataView(new ArrayBuffer(4));
function bitsOf(value: number): number {
  floatBits.setFloat32(0, value);
  return floatBits.getInt32(0);
}

/** What a kernel changes in place may have no other reader: it could see the state before or after. */
function checkMutation(order: readonly Node[], outputs: readonly Tensor[]): void {
  const writes = order.filter((n) => n.op.mutates);
  if (writes.length === 0) return;
  const written = new Map(writes.map((n) => [viewed(n.inputs[0] as Tensor), n]));
  const check = (reader: string, x: Tensor, node: Node | null): void => {
    const writer = written.get(viewed(x));
    if (!writer || writer === node) return;
    throw new SwitchyardError(
      'ERR_OPTION',
      `[compile] got ${reader} beside ${writer.op.name} on one cache, expected reads to use the tensor that ${writer.op.name} returns`,
    );
  };
  for (const node of order) {
    if (node.op.view) continue; // reads nothing itself
    for (const x of node.inputs) if (x && !(x instanceof Weight)) check(node.op.name, x, node);
  }
  for (const t of outputs) check('an output', t, null);
}

/** The tensor whose memory a chain of views shows. */
function viewed(t: Tensor): Tensor {
  let x = t;
  for (let node = nodeOf(x); node?.op.view; node = nodeOf(x)) x = node.inputs[0] as Tensor;
  return x;
}

/** Bytes of a value as the graph sees it. */
export const valueBytes = (v: Value): number => sizeOf(v.shape) * dtypeSize(v.dtype);
