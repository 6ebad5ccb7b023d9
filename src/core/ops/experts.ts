/** The experts of a sparse layer in one op. */
import { SwitchyardError } from '../errors.js';
import { type ComputeMode, computeCode } from '../format.js';
import {
  apply1,
  checkDType,
  checkRank,
  checkSize,
  defineOp,
  type OpInput,
  tensorInput,
  weightInput,
} from '../op.js';
import { type Shape, sizeOf } from '../shape.js';
import type { Tensor } from '../tensor.js';
import type { Weight } from '../weight.js';
import { moeCombine } from './combine.js';
import { type Activation, add } from './elementwise.js';
import { biasProduct } from './expert-bias.js';
import { groupedMatmul } from './grouped.js';
import { checkHidden, type GateClamp, HIDDEN_ATTRS, hiddenAttrs, hiddenOf } from './hidden.js';
import { takeRows } from './indexing.js';
import { groupedLinear } from './linear.js';
import { checkIndex, checkWeights } from './moe-checks.js';
import type { DispatchPlan } from './routing.js';

const expertsOp = defineOp({
  name: 'moe_experts',
  attrs: { ...HIDDEN_ATTRS, compute: 'int' },
  infer(inputs, attrs) {
    checkHidden('moe_experts', attrs, inputs[5] !== null);
    const x = tensorInput('moe_experts', 'x', inputs[0]); // [N, D]
    const [offsets, rowToken, slotRow, weights] = [
      'expert offsets',
      'row token',
      'slot row',
      'combine weights',
    ].map((what, i) => tensorInput('moe_experts', what, inputs[i + 1])) as [Tensor, Tensor, Tensor, Tensor];
    const up = weightInput('moe_experts', 'up weight', inputs[6]);
    const down = weightInput('moe_experts', 'down weight', inputs[7]);
    checkDType('moe_experts', 'x', x.dtype, 'f32');
    checkRank('moe_experts', 'x', x.shape, 2);
    checkIndex('moe_experts', 'expert offsets', offsets, 1);
    checkSize('moe_experts', 'expert offsets of length', offsets.shape[0] as number, up.experts + 1);
    checkIndex('moe_experts', 'slot row', slotRow, 2);
    checkSize('moe_experts', 'rows of slot row', slotRow.shape[0] as number, x.shape[0] as number);
    checkIndex('moe_experts', 'row token', rowToken, 1);
    checkWeights('moe_experts', weights, slotRow);
    checkSize('moe_experts', 'columns of x', x.shape[1] as number, up.columns);
    checkSize('moe_experts', 'columns of the down weight', down.columns, up.rows);
    checkSize('moe_experts', 'experts of the down weight', down.experts, up.experts);
    if (inputs[5]) {
      const gate = weightInput('moe_experts', 'gate weight', inputs[5]);
      const fits = gate.experts === up.experts && gate.rows === up.rows && gate.columns === up.columns;
      if (!fits)
        throw new SwitchyardError(
          'ERR_SHAPE',
          `[moe_experts] got gate ${gate} beside up ${up}, expected equal sizes`,
        );
    }
    for (const [i, what] of ['gate bias', 'up bias', 'down bias'].entries()) {
      const input = inputs[8 + i];
      if (!input) continue;
      const bias = tensorInput('moe_experts', what, input); // [E, F], [E, F], [E, D]
      checkDType('moe_experts', what, bias.dtype, 'f32');
      checkRank('moe_experts', what, bias.shape, 2);
      checkSize('moe_experts', `rows of the ${what}`, bias.shape[0] as number, up.experts);
      checkSize(
        'moe_experts',
        `columns of the ${what}`,
        bias.shape[1] as number,
        i < 2 ? up.rows : down.rows,
      );
    }
    if (inputs[8] && !inputs[5])
      throw new SwitchyardError('ERR_OPTION', '[moe_experts] got a gate bias without a gate, expected none');
    return [{ dtype: 'f32', shape: [x.shape[0] as number, down.rows] }];
  },
  gradient: 'twin',
  cost(inputs, [y]) {
    const rows = (inputs[3] as Tensor).size; // N·K
    const weights = inputs.slice(5, 8).filter((w): w is Weight => w !== null) as Weight[];
    const flops = weights.reduce((total, w) => total + 2 * rows * w.rows * w.columns, 0);
    const touched = weights.reduce((total, w) => total + w.bytes * Math.min(1, rows / w.experts), 0);
    return {
      flops,
      bytes: touched + (inputs[0] as Tensor).bytes + 4 * sizeOf((y as { shape: Shape }).shape),
    };
  },
  twin(inputs, attrs) {
    const [x, expertOffsets, rowToken, slotRow, weights] = inputs.slice(0, 5) as Tensor[] as [
      Tensor,
      Tensor,
      Tensor,
      Tensor,
      Tensor,
    ];
    const [gate, up, down] = inputs.slice(5, 8) as [Weight | null, Weight, Weight];
    const [gateBias, upBias, downBias] = inputs.slice(8) as (Tensor | null | undefined)[];
    const compute = (['f32', 'bf16', 'int8'] as const)[attrs.compute as number] as ComputeMode;
    const rows = takeRows(x, rowToken); // [R, D]
    const product = (of: Tensor, weight: Weight, bias: Tensor | null | undefined): Tensor => {
      const y = groupedLinear(of, expertOffsets, weight, compute);
      if (!bias) return y;
      const { x: ones, w } = biasProduct(bias, rowToken.size);
      return add(y, groupedMatmul(ones, w, expertOffsets));
    };
    const lifted = product(rows, up, upBias); // [R, F]
    const hidden = hiddenOf(attrs, gate && product(rows, gate, gateBias), lifted);
    return [moeCombine(product(hidden, down, downBias), slotRow, weights)];
  },
  lower: (node) => ({
    kernel: 'moe_experts',
    attrs: [
      { type: 'int', value: node.attrs.activation as number },
      { type: 'int', value: node.attrs.compute as number },
      { type: 'float', value: node.attrs.limit as number },
      { type: 'float', value: node.attrs.slope as number },
    ],
  }),
});

export interface ExpertWeights {
  /** E × [F, D]; null for experts without a gate. */
  gate: Weight | null;
  /** E × [F, D] */
  up: Weight;
  /** E × [D, F] */
  down: Weight;
  /** [E, F], f32; null or absent: none. So the two below. */
  gateBias?: Tensor | null;
  /** [E, F] */
  upBias?: Tensor | null;
  /** [E, D] */
  downBias?: Tensor | null;
}
export interface ExpertOptions {
  /** Default 'silu'. */
  activation?: Activation;
  /** Default 'f32'. */
  compute?: ComputeMode;
  /** Default: none. */
  clamp?: GateClamp | null;
}
/** The experts of a sparse layer on packed weights: dispatch, gate and up, activation, down, combine → [N, D]. */
export function moeExperts(
  x: Tensor,
  plan: DispatchPlan,
  combineWeights: Tensor,
  experts: ExpertWeights,
  { activation = 'silu', compute = 'f32', clamp = null }: ExpertOptions = {},
): Tensor {
  const inputs: OpInput[] = [
    x,
    plan.expertOffsets,
    plan.rowToken,
    plan.slotRow,
    combineWeights,
    experts.gate,
    experts.up,
    experts.down,
  ];
  const biases = [experts.gateBias, experts.upBias, experts.downBias].map((bias) => bias ?? null);
  if (biases.some((bias) => bias !== null)) inputs.push(...biases);
  return apply1(expertsOp, inputs, {
    ...hiddenAttrs(activation, clamp),
    compute: computeCode(compute),
  });
}
