/** The op table, the native kernels and the cases agree; and the check itself notices what is missing. */
import { beforeAll, describe, expect, it } from 'vitest';
import { defaultDevice } from '../../src/core/device.js';
import { apply, isComposite, type OpDef, type OpInput, opTable, type RuntimeInt } from '../../src/core/op.js';
import '../../src/core/ops/index.js';
import { nodeCost } from '../../src/core/program/describe.js';
import type { Instruction } from '../../src/core/program/ir.js';
import { lower } from '../../src/core/program/lower.js';
import { isGradientCase, type OpCase, realize } from '../helpers/op-case.js';
import { CASES } from './cases/index.js';

interface Tables {
  ops: readonly OpDef[];
  kernels: readonly { name: string; signature: string }[];
  opcodes: readonly string[];
  cases: readonly { readonly c: OpCase; readonly inputs: readonly OpInput[] }[];
}

/** Everything in which the tables disagree, one line each. */
function disagreements({ ops, kernels, opcodes, cases }: Tables): string[] {
  const found = new Set<string>();
  const usedKernels = new Set<string>();
  const usedOpcodes = new Set<string>();
  const names = new Map(opcodes.map((name, i) => [name, i]));
  for (const op of ops) {
    const own = cases.filter(({ c }) => c.op === op.name);
    if (own.length === 0) found.add(`${op.name} has no case`);
    const kinds = [op.lower, op.emit, op.view, isComposite(op)].filter(Boolean).length;
    if (kinds !== 1)
      found.add(`${op.name} is ${kinds} of kernel, elementwise code, view and composite, expected one`);
    const { gradient } = op;
    if (
      typeof gradient !== 'function' &&
      gradient !== 'nondifferentiable' &&
      !(gradient === 'twin' && op.twin)
    )
      found.add(`${op.name} has no gradient decision`);
    const takesFloats = own.some(({ c }) => c.inputs.some((x) => x?.kind === 'tensor' && x.dtype === 'f32'));
    const checked = own.some(({ c }) => isGradientCase(c)) || op.name === 'cast'; // narrowing has no differences
    if (gradient !== 'nondifferentiable' && takesFloats && !checked)
      found.add(`${op.name} has no gradient case`);
    for (const { c, inputs } of own) {
      try {
        checkCase(op, c, inputs);
      } catch (error) {
        found.add(`${op.name} cannot be lowered: ${(error as Error).message}`);
      }
    }
  }
  for (const { c } of cases)
    if (!ops.some((op) => op.name === c.op)) found.add(`${c.op} has cases and is no op`);
  for (const k of kernels) if (!usedKernels.has(k.name)) found.add(`kernel ${k.name} is used by no case`);
  for (const name of opcodes) if (!usedOpcodes.has(name)) found.add(`opcode ${name} is used by no case`);
  return [...found].sort();

  function checkCase(op: OpDef, c: OpCase, inputs: readonly OpInput[]): void {
    if (Object.keys(op.attrs).sort().join() !== Object.keys(c.attrs).sort().join())
      found.add(
        `${op.name} declares attributes ${Object.keys(op.attrs)}, its cases give ${Object.keys(c.attrs)}`,
      );
    const outputs = apply(op, inputs, c.attrs);
    const { source } = outputs[0] as (typeof outputs)[number];
    if (source.kind === 'node') {
      const cost = nodeCost(source.node);
      if (!(Number.isFinite(cost.flops) && cost.flops >= 0 && Number.isFinite(cost.bytes) && cost.bytes >= 0))
        found.add(`${op.name} has no cost`);
    }
    const { instructions } = lower({ inputs: [], outputs, opcodes: names, fuse: true });
    instructions.forEach(checkInstruction);
  }

  function checkInstruction(i: Instruction): void {
    usedKernels.add(i.kernel);
    const kernel = kernels.find((k) => k.name === i.kernel);
    if (!kernel) {
      found.add(`kernel ${i.kernel} is not native`);
      return;
    }
    const declared = kernel.signature === '' ? [] : kernel.signature.split(',').map((s) => s.split(':')[1]);
    const given = i.attrs.map(({ type }) => type);
    if (declared.join() !== given.join())
      found.add(`kernel ${i.kernel} takes (${kernel.signature}), lower gives (${given})`);
    if (i.kernel !== 'elementwise') return;
    const code = (i.attrs[0]?.value ?? []) as Exclude<number[], RuntimeInt>;
    for (let at = 0; at < code.length; at += 4) usedOpcodes.add(opcodes[code[at] as number] as string);
  }
}

describe('the op table', () => {
  let real: Tables;
  beforeAll(async () => {
    const { addon } = defaultDevice();
    real = {
      ops: [...opTable.values()],
      kernels: addon.kernels(),
      opcodes: addon.elementwiseOpcodes(),
      cases: await Promise.all(CASES.map(async (c) => ({ c, inputs: await realize(c) }))),
    };
  });

  it('agrees with the native kernels and the cases', () => {
    expect(disagreements(real)).toEqual([]);
  });

  it('has names that tell cases apart', () => {
    const names = CASES.map((c) => `${c.op}: ${c.name}`);
    expect(names.filter((n, i) => names.indexOf(n) !== i)).toEqual([]);
  });

  describe('the check notices', () => {
    const without = <T extends { name: string }>(list: readonly T[], name: string): T[] =>
      list.filter((x) => x.name !== name);
    const changed = (name: string, change: Partial<OpDef>): OpDef[] =>
      real.ops.map((op) => (op.name === name ? { ...op, ...change } : op));
    const doctored: [string, () => Partial<Tables>, RegExp][] = [
      [
        'an op without a case',
        () => ({ cases: real.cases.filter(({ c }) => c.op !== 'rope') }),
        /^rope has no case$/m,
      ],
      [
        'an op without a kernel',
        () => ({ kernels: without(real.kernels, 'softmax') }),
        /^kernel softmax is not native$/m,
      ],
      [
        'a kernel without an op',
        () => ({ kernels: [...real.kernels, { name: 'stray', signature: '' }] }),
        /^kernel stray is used by no case$/m,
      ],
      [
        'a kernel that nothing uses any more',
        () => ({ ops: without(real.ops, 'moe_plan') }),
        /^kernel moe_plan is used by no case\nmoe_plan has cases and is no op$/m,
      ],
      [
        'an opcode without a case',
        () => ({ opcodes: [...real.opcodes, 'tan'] }),
        /^opcode tan is used by no case$/m,
      ],
      [
        'an opcode without a native part',
        () => ({ opcodes: real.opcodes.filter((n) => n !== 'log1p') }),
        /^log1p cannot be lowered/m,
      ],
      [
        'another signature',
        () => ({
          kernels: real.kernels.map((k) => (k.name === 'rms_norm' ? { ...k, signature: 'eps:float' } : k)),
        }),
        /^kernel rms_norm takes \(eps:float\), lower gives \(float,float\)$/m,
      ],
      [
        'another attribute type',
        () => ({
          kernels: real.kernels.map((k) => (k.name === 'top_k' ? { ...k, signature: 'k:float' } : k)),
        }),
        /^kernel top_k takes/m,
      ],
      [
        'an op without a cost',
        () => ({ ops: changed('matmul', { cost: () => ({ flops: Number.NaN, bytes: 0 }) }) }),
        /^matmul has no cost$/m,
      ],
      [
        'an op without a gradient decision',
        () => ({ ops: changed('exp', { gradient: undefined as never }) }),
        /^exp has no gradient decision$/m,
      ],
      [
        "gradient 'twin' without a twin",
        () => ({ ops: changed('attention', { twin: undefined as never }) }),
        /^attention has no gradient decision$/m,
      ],
      [
        'a gradient without a case',
        () => ({ cases: real.cases.filter(({ c }) => c.op !== 'tanh' || !isGradientCase(c)) }),
        /^tanh has no gradient case$/m,
      ],
      [
        'an op that is nothing',
        () => ({ ops: changed('iota', { lower: undefined as never }) }),
        /^iota is 0 of kernel, elementwise code, view and composite, expected one$/m,
      ],
      [
        'a composite without a twin',
        () => ({ ops: changed('expert_layer', { twin: undefined as never }) }),
        /^expert_layer is 0 of kernel, elementwise code, view and composite, expected one$/m,
      ],
      [
        'a composite that differentiates its twin',
        () => ({ ops: changed('expert_layer', { gradient: 'twin' }) }),
        /^expert_layer is 0 of kernel, elementwise code, view and composite, expected one$/m,
      ],
      [
        'attributes that are not declared',
        () => ({ ops: changed('cumsum', { attrs: { axis: 'int' } }) }),
        /^cumsum declares attributes axis/m,
      ],
    ];
    it.each(doctored)('%s', (_, change, message) => {
      expect(disagreements({ ...real, ...change() }).join('\n')).toMatch(message);
    });
  });
});
