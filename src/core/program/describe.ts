import { defaultCost, type Node } from '../op.js';
import { shapeText } from '../shape.js';
import type { Instruction, Lowering, Value } from './ir.js';

const valueText = (v: Value | null): string => {
  if (!v) return '–';
  const { kind, index, offset } = v.storage;
  return `${kind === 'arena' ? `@${offset}` : `${kind}${index}`}:${v.dtype}${shapeText(v.shape)}`;
};

/** One line per instruction: kernel, the ops in it, operands. Used by SWITCHYARD_DEBUG=4 and by tests that count kernels. */
export function describeProgram(program: Lowering): string {
  const lines = program.instructions.map((i, n) => {
    const ops = i.nodes.map((node) => node.op.name).join('+');
    return `${String(n).padStart(4)} ${i.kernel}${ops && ops !== i.kernel ? ` (${ops})` : ''} ${i.inputs.map(valueText).join(' ')} → ${i.outputs.map(valueText).join(' ')}`;
  });
  return [
    `program: ${program.instructions.length} instructions, arena ${program.arenaBytes} bytes`,
    ...lines,
  ].join('\n');
}

/** Work of an instruction: what its nodes cost; memory between fused nodes is not counted. */
export function instructionCost(i: Instruction): { flops: number; bytes: number } {
  const flops = i.nodes.reduce((sum, node) => sum + nodeCost(node).flops, 0);
  if (i.kernel !== 'elementwise')
    return { flops, bytes: i.nodes.reduce((sum, node) => sum + nodeCost(node).bytes, 0) };
  const values = [...i.inputs, ...i.outputs].filter((v): v is Value => v !== null);
  return { flops, bytes: values.reduce((sum, v) => sum + v.storage.bytes, 0) };
}

export function nodeCost(node: Node): { flops: number; bytes: number } {
  return node.op.cost
    ? node.op.cost(node.inputs, node.types, node.attrs)
    : defaultCost(node.inputs, node.types);
}
