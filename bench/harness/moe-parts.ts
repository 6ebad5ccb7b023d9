/** Where the time of a sparse layer goes, from the timings of its instructions. */
import { topological } from '../../src/core/autograd.js';
import type { Instruction, Value } from '../../src/core/program/ir.js';
import type { Tensor } from '../../src/core/tensor.js';
import type { Timing } from './kernel-clock.js';

/** `gather` brings token rows to their experts, `combine` brings expert rows back to their tokens. */
export const PARTS = ['route', 'plan', 'gather', 'experts', 'combine'] as const;
export type Part = (typeof PARTS)[number];
/** Milliseconds. */
export type PartTimes = Record<Part, number>;

/** Phases of fused kernels that are not the work of experts. */
const PHASES: Readonly<Record<string, Part>> = { gather: 'gather', combine: 'combine' };

/** The parts in one run; `rows` is N·K. */
export function partTimes(timings: Iterable<[Instruction, Timing]>, rows: number): PartTimes {
  const times = { route: 0, plan: 0, gather: 0, experts: 0, combine: 0 };
  for (const [i, { ms, calls, phases }] of timings) {
    const part = partOf(i, rows);
    times[part] += ms / calls;
    for (const [phase, of] of phases) {
      const other = PHASES[phase];
      if (part !== 'experts' || other === undefined) continue;
      times[other] += of / calls;
      times.experts -= of / calls;
    }
  }
  return times;
}

function partOf({ kernel, inputs, outputs }: Instruction, rows: number): Part {
  if (kernel.startsWith('moe_plan')) return 'plan';
  if (kernel.startsWith('moe_combine')) return 'combine';
  if (kernel.startsWith('moe_') || kernel.startsWith('grouped_')) return 'experts';
  // The rest are small kernels: those that meet rows of experts [R, …] work for these, the others for the router.
  const ofRows = (v: Value | null): boolean => v !== null && v.shape.length > 1 && v.shape[0] === rows;
  if (kernel === 'take_rows') return outputs.some(ofRows) ? 'gather' : 'route';
  if (kernel === 'scatter_add_rows') return inputs.some(ofRows) ? 'combine' : 'route';
  return [...inputs, ...outputs].some(ofRows) ? 'experts' : 'route';
}

/**
 * The timings of the instructions that compute `output`, and of the others: forward and backward of one program.
 * @param output as the program was lowered, where composites are expanded
 */
export function splitAt(
  output: Tensor,
  timings: ReadonlyMap<Instruction, Timing>,
): { forward: [Instruction, Timing][]; backward: [Instruction, Timing][] } {
  const nodes = new Set(topological([output]));
  const forward: [Instruction, Timing][] = [];
  const backward: [Instruction, Timing][] = [];
  for (const entry of timings) (entry[0].nodes.every((n) => nodes.has(n)) ? forward : backward).push(entry);
  return { forward, backward };
}
