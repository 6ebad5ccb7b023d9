/**
 * The experts of a sparse layer on ordinary tensors, with a gradient that keeps the layer's input and the
 * pre-activations only (SonicMoE, arXiv 2512.14080): rows are gathered inside the products, the hidden activations are
 * computed anew, and the gradient of the combine weights is <dA', A> instead of <dY, expert output>.
 */
import { gradients } from '../autograd.js';
import { SwitchyardError } from '../errors.js';
import {
  type Attr,
  type Attrs,
  apply,
  checkDType,
  checkRank,
  checkSize,
  defineOp,
  type OpInput,
  type RuntimeInt,
  type TensorType,
  tensorInput,
} from '../op.js';
import { type Shape, sizeOf } from '../shape.js';
import type { Tensor } from '../tensor.js';
import { moeCombine } from './combine.js';
import { type Activation, add, less, mul, ones, where } from './elementwise.js';
import { biasProduct } from './expert-bias.js';
import { groupedMatmul, groupedMatmulGrad } from './grouped.js';
import { checkHidden, type GateClamp, HIDDEN_ATTRS, hiddenAttrs, hiddenOf } from './hidden.js';
import { scatterAddRows, takeRows } from './indexing.js';
import { checkIndex, checkWeights } from './moe-checks.js';
import { randomUniform } from './random.js';
import { sum } from './reduce.js';
import type { DispatchPlan } from './routing.js';
import { identity, reshape } from './shape.js';

/** The inputs of the op by name, in their order. */
const INPUTS = [
  'x',
  'expertOffsets',
  'rowToken',
  'slotRow',
  'combineWeights',
  'gate',
  'up',
  'down',
  'gateBias',
  'upBias',
  'downBias',
] as const;
type Required = 'x' | 'expertOffsets' | 'rowToken' | 'slotRow' | 'combineWeights' | 'down';
type Inputs = Record<Required, Tensor> & Record<Exclude<(typeof INPUTS)[number], Required>, Tensor | null>;

const byName = (inputs: readonly OpInput[]): Inputs =>
  Object.fromEntries(INPUTS.map((name, i) => [name, inputs[i] ?? null])) as unknown as Inputs;

type LayerAttrs = Attrs & {
  activation: number;
  limit: number;
  slope: number;
  dropout: number;
  seed: number | RuntimeInt;
  offset: number | RuntimeInt;
};

/** w [E, rows, columns] f32; null where the size is free. */
function checkMatrix(what: string, w: Tensor, sizes: readonly (number | null)[]): void {
  checkDType('expert_layer', what, w.dtype, 'f32');
  checkRank('expert_layer', what, w.shape, sizes.length);
  sizes.forEach((size, axis) => {
    if (size !== null) checkSize('expert_layer', `${what} on axis ${axis}`, w.shape[axis] as number, size);
  });
}

function inferLayer(inputs: readonly OpInput[], attrs: Attrs): TensorType[] {
  const needed = (name: Required): Tensor => tensorInput('expert_layer', name, inputs[INPUTS.indexOf(name)]);
  const optional = (name: (typeof INPUTS)[number]): Tensor | null => {
    const input = inputs[INPUTS.indexOf(name)];
    return input ? tensorInput('expert_layer', name, input) : null;
  };
  const [x, offsets, rowToken, slotRow] = [
    needed('x'),
    needed('expertOffsets'),
    needed('rowToken'),
    needed('slotRow'),
  ];
  checkDType('expert_layer', 'x', x.dtype, 'f32');
  checkRank('expert_layer', 'x', x.shape, 2);
  const [n, d] = x.shape as [number, number];
  checkIndex('expert_layer', 'slotRow', slotRow, 2);
  checkSize('expert_layer', 'rows of slotRow', slotRow.shape[0] as number, n);
  checkIndex('expert_layer', 'rowToken', rowToken, 1);
  checkWeights('expert_layer', needed('combineWeights'), slotRow);
  const [down, gate, up] = [needed('down'), optional('gate'), optional('up')];
  checkHidden('expert_layer', attrs, gate !== null);
  if (gate && !up)
    throw new SwitchyardError('ERR_OPTION', '[expert_layer] got gate without up, expected both or none');
  checkMatrix('down', down, [null, null, null]);
  const [e, dOut, f] = down.shape as [number, number, number];
  checkIndex('expert_layer', 'expertOffsets', offsets, 1);
  checkSize('expert_layer', 'expertOffsets of length', offsets.size, e + 1);
  if (up) checkMatrix('up', up, [e, f, d]);
  else checkSize('expert_layer', 'columns of down', f, d);
  if (gate) checkMatrix('gate', gate, [e, f, d]);
  for (const [name, of, width] of [
    ['gateBias', gate, f],
    ['upBias', up, f],
    ['downBias', down, dOut],
  ] as const) {
    const bias = optional(name);
    if (!bias) continue;
    if (!of)
      throw new SwitchyardError(
        'ERR_OPTION',
        `[expert_layer] got ${name} without ${name.slice(0, -4)}, expected both`,
      );
    checkMatrix(name, bias, [e, width]);
  }
  const hidden = { dtype: 'f32', shape: [rowToken.size, f] } as const;
  return [{ dtype: 'f32', shape: [n, dOut] }, ...(gate ? [hidden] : []), ...(up ? [hidden] : [])];
}

/** [R, 1] of ones: what a bias is multiplied with. */
const onesOf = (i: Inputs): Tensor => ones([i.rowToken.size, 1]);
/** A bias [E, N] as the second product of a sum. */
const biasOf = (i: Inputs, bias: Tensor | null): { x: Tensor; w: Tensor } | null =>
  bias && biasProduct(bias, i.rowToken.size);

/** The pre-activations [R, F] of gate and up, where there are any. */
const lift = (i: Inputs): (Tensor | null)[] =>
  (
    [
      [i.gate, i.gateBias],
      [i.up, i.upBias],
    ] as const
  ).map(([w, bias]) =>
    w ? groupedMatmul(i.x, w, i.expertOffsets, { rows: i.rowToken, plus: biasOf(i, bias) }) : null,
  );

/** 0 for a dropped activation, else 1 / (1 - rate): [R, F] or null. Drawn anew wherever it is needed. */
function dropoutMask({ dropout, seed, offset }: LayerAttrs, shape: Shape): Tensor | null {
  if (dropout === 0) return null;
  return where(less(randomUniform(shape, { seed, offset }), dropout), 0, 1 / (1 - dropout));
}

/** The hidden activations A [R, F] from the pre-activations. */
function droppedHidden(attrs: LayerAttrs, preGate: Tensor | null, preUp: Tensor): Tensor {
  const a = hiddenOf(attrs, preGate, preUp);
  const mask = dropoutMask(attrs, preUp.shape);
  return mask ? mul(a, mask) : a;
}

const expertLayerOp = defineOp({
  name: 'expert_layer',
  attrs: { ...HIDDEN_ATTRS, dropout: 'float', seed: 'int', offset: 'int' },
  infer: inferLayer,
  cost(inputs) {
    const i = byName(inputs);
    const weights = [i.gate, i.up, i.down].filter((w): w is Tensor => w !== null);
    const flops = weights.reduce((total, w) => total + 2 * i.rowToken.size * sizeOf(w.shape.slice(1)), 0);
    return { flops, bytes: weights.reduce((total, w) => total + w.bytes, i.x.bytes) };
  },
  twin(inputs, given) {
    const i = byName(inputs);
    const attrs = given as unknown as LayerAttrs;
    const [preGate, preUp] = lift(i) as [Tensor | null, Tensor | null];
    const plus = biasOf(i, i.downBias);
    const rows = preUp
      ? groupedMatmul(droppedHidden(attrs, preGate, preUp), i.down, i.expertOffsets, { plus })
      : groupedMatmul(i.x, i.down, i.expertOffsets, { rows: i.rowToken, plus }); // [R, Dout]
    const y = moeCombine(rows, i.slotRow, i.combineWeights);
    return [y, preGate, preUp].filter((t): t is Tensor => t !== null);
  },
  gradient({ inputs, outputs, attrs, grads }) {
    const i = byName(inputs);
    const pre = outputs.slice(1) as Tensor[]; // what is kept: [preGate?, preUp?]
    const flows = backward(i, attrs as unknown as LayerAttrs, pre, grads);
    return INPUTS.map((name) => flows[name] ?? null);
  },
});

type Flows = Partial<Record<(typeof INPUTS)[number], Tensor | null>>;

/**
 * With A the hidden activations of a row, s its combine weight and dA' = W_downᵀ dY of its token, not scaled by s:
 * ds = <dA', A> (+ <dY, b_down>), dW_down = Σ dY (s·A)ᵀ, dPre = act'(pre) · s·dA', dW = Σ dPre xᵀ, dX = Σ Wᵀ dPre.
 */
function backward(
  i: Inputs,
  attrs: LayerAttrs,
  pre: readonly Tensor[],
  [dy, ...dPreGiven]: readonly (Tensor | null)[],
): Flows {
  const [n, k] = i.slotRow.shape as [number, number];
  const [e, dOut] = i.down.shape as [number, number, number];
  const flows: Flows = {};
  const slots = reshape(i.slotRow, [n * k]);
  const rowsOf = { rows: i.rowToken };
  // every row belongs to at most one slot
  const scale = scatterAddRows(reshape(i.combineWeights, [n * k, 1]), slots, i.rowToken.size); // [R, 1]
  let dPre: (Tensor | null)[] = [...dPreGiven];
  let dRows: Tensor | null = null; // [R, D] of linear experts
  if (dy) {
    const raw = groupedMatmul(dy, i.down, i.expertOffsets, { ...rowsOf, transpose: true }); // dA' [R, F]
    const hidden = (): Tensor =>
      pre.length > 0
        ? droppedHidden(attrs, pre.length > 1 ? (pre[0] as Tensor) : null, pre.at(-1) as Tensor)
        : takeRows(i.x, i.rowToken);
    let dScale = sum(mul(raw, hidden()), -1, { keepDims: true }); // [R, 1]
    if (i.downBias) {
      const bias = reshape(i.downBias, [e, 1, dOut]);
      dScale = add(dScale, groupedMatmul(dy, bias, i.expertOffsets, rowsOf));
      const dBias = groupedMatmulGrad(scale, dy, i.expertOffsets, { xRows: i.rowToken }); // [E, 1, Dout]
      flows.downBias = reshape(dBias, [e, dOut]);
    }
    flows.combineWeights = reshape(takeRows(dScale, slots), [n, k]);
    flows.down = groupedMatmulGrad(dy, mul(scale, hidden()), i.expertOffsets, { dyRows: i.rowToken });
    if (pre.length === 0) dRows = mul(scale, raw);
    // One graph for each pre-activation, so that each becomes one pass over memory.
    dPre = pre.map((_, at) => {
      const own = pre.map((t) => identity(t));
      const a = droppedHidden(attrs, own.length > 1 ? (own[0] as Tensor) : null, own.at(-1) as Tensor);
      const [d] = gradients(a, [own[at] as Tensor], mul(raw, scale)) as [Tensor];
      const given = dPreGiven[at];
      return given ? add(given, d) : d;
    });
  }
  const weights = pre.length > 1 ? (['gate', 'up'] as const) : (['up'] as const);
  const pairs: { x: Tensor; w: Tensor }[] = [];
  pre.forEach((_, at) => {
    const d = dPre[at];
    const name = weights[at] as 'gate' | 'up';
    if (!d) return;
    flows[name] = groupedMatmulGrad(d, i.x, i.expertOffsets, { xRows: i.rowToken });
    const bias = i[`${name}Bias`];
    if (bias) flows[`${name}Bias`] = reshape(groupedMatmulGrad(onesOf(i), d, i.expertOffsets), bias.shape);
    pairs.push({ x: d, w: i[name] as Tensor });
  });
  const [first, second] = pairs;
  if (first) {
    const plus = second ?? null;
    dRows = groupedMatmul(first.x, first.w, i.expertOffsets, { transpose: true, plus }); // [R, D]
  }
  if (dRows) flows.x = moeCombine(dRows, i.slotRow, null);
  return flows;
}

export interface ExpertTensors {
  /** E × [F, D]; null for experts without a gate. */
  readonly gate: Tensor | null;
  /** E × [F, D]; null for linear experts, which are `down` alone. */
  readonly up: Tensor | null;
  /** E × [Dout, F] */
  readonly down: Tensor;
  /** [E, F] */
  readonly gateBias?: Tensor | null | undefined;
  /** [E, F] */
  readonly upBias?: Tensor | null | undefined;
  /** [E, Dout] */
  readonly downBias?: Tensor | null | undefined;
}

export interface ExpertDropout {
  /** Share of hidden activations that are dropped, below 1; the others grow by 1 / (1 - rate) (Fedus et al. 2021). */
  readonly rate: number;
  readonly seed: number | RuntimeInt;
  readonly offset?: number | RuntimeInt;
}

export interface ExpertLayerOptions {
  activation?: Activation;
  clamp?: GateClamp | null;
  dropout?: ExpertDropout | null;
}

export interface ExpertLayerOutput {
  /** [N, Dout] */
  readonly y: Tensor;
  /** [R, F]: what the activation is applied to; null where there is no gate. */
  readonly preGate: Tensor | null;
  /** [R, F]; null for linear experts. */
  readonly preUp: Tensor | null;
}

/** Dispatch, gate and up, activation, dropout, down, combine of x [N, D], on tensors that gradients reach. */
export function expertLayer(
  x: Tensor,
  plan: DispatchPlan,
  combineWeights: Tensor,
  experts: ExpertTensors,
  { activation = 'silu', clamp = null, dropout = null }: ExpertLayerOptions = {},
): ExpertLayerOutput {
  const rate = dropout?.rate ?? 0;
  if (!(rate >= 0 && rate < 1))
    throw new SwitchyardError(
      'ERR_OPTION',
      `[expert_layer] got dropout rate ${rate}, expected at least 0 and below 1`,
    );
  const named: Inputs = {
    x,
    expertOffsets: plan.expertOffsets,
    rowToken: plan.rowToken,
    slotRow: plan.slotRow,
    combineWeights,
    gate: experts.gate,
    up: experts.up,
    down: experts.down,
    gateBias: experts.gateBias ?? null,
    upBias: experts.upBias ?? null,
    downBias: experts.downBias ?? null,
  };
  const outputs = apply(
    expertLayerOp,
    INPUTS.map((name) => named[name]),
    {
      ...hiddenAttrs(activation, clamp),
      dropout: rate,
      seed: (dropout?.seed ?? 0) as Attr,
      offset: (dropout?.offset ?? 0) as Attr,
    },
  );
  return {
    y: outputs[0] as Tensor,
    preGate: experts.gate ? (outputs[1] as Tensor) : null,
    preUp: experts.up ? (outputs.at(-1) as Tensor) : null,
  };
}
