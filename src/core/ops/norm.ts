/** Softmax, norms and cross-entropy: fused kernels, each with its twin of small ops. */
import { apply1, checkDType, checkRank, checkSize, defineOp, type OpInput, tensorInput } from '../op.js';
import { type Shape, sizeOf } from '../shape.js';
import type { Tensor } from '../tensor.js';
import {
  add,
  cast,
  div,
  equal,
  exp,
  maximum,
  mul,
  neg,
  notEqual,
  rsqrt,
  square,
  sub,
  where,
} from './elementwise.js';
import { oneHot, takeAlong } from './indexing.js';
import { logSumExp, max, mean, sum, sumTo } from './reduce.js';
import { broadcastTo, reshape } from './shape.js';

const rowsOf = (shape: Shape): Shape => [sizeOf(shape.slice(0, -1)), shape[shape.length - 1] as number];

function floatRows(name: string, input: OpInput | undefined): Tensor {
  const x = tensorInput(name, 'x', input);
  checkDType(name, 'x', x.dtype, 'f32');
  if (x.rank < 1) checkRank(name, 'x', x.shape, 1);
  return x;
}

const softmaxOp = defineOp({
  name: 'softmax',
  attrs: {},
  infer: (inputs) => [{ dtype: 'f32', shape: floatRows('softmax', inputs[0]).shape }],
  gradient({ outputs, grads }) {
    const [y, g] = [outputs[0] as Tensor, grads[0] as Tensor];
    return [mul(y, sub(g, sum(mul(y, g), -1, { keepDims: true })))];
  },
  twin([input]) {
    const x = input as Tensor;
    const top = max(x, -1, { keepDims: true });
    const e = exp(sub(x, where(equal(sub(top, top), 0), top, 0)));
    const total = sum(e, -1, { keepDims: true });
    return [where(equal(total, 0), 0, div(e, total))];
  },
  lower: rowKernel('softmax'),
});
/** eˣ / Σ eˣ over the last axis; a row of -∞ gives zeros. */
export const softmax = (x: Tensor): Tensor => apply1(softmaxOp, [x]);

const logSoftmaxOp = defineOp({
  name: 'log_softmax',
  attrs: {},
  infer: (inputs) => [{ dtype: 'f32', shape: floatRows('log_softmax', inputs[0]).shape }],
  gradient({ outputs, grads }) {
    const [y, g] = [outputs[0] as Tensor, grads[0] as Tensor];
    return [sub(g, mul(exp(y), sum(g, -1, { keepDims: true })))];
  },
  twin: ([x]) => {
    const lse = logSumExp(x as Tensor, -1, { keepDims: true });
    return [where(equal(sub(lse, lse), 0), sub(x as Tensor, lse), x as Tensor)];
  },
  lower: rowKernel('log_softmax'),
});
/** log softmax over the last axis. */
export const logSoftmax = (x: Tensor): Tensor => apply1(logSoftmaxOp, [x]);

function rowKernel(kernel: string) {
  return (node: { inputs: readonly OpInput[] }) => {
    const rows = rowsOf((node.inputs[0] as Tensor).shape);
    return { kernel, inputShapes: [rows], outputShapes: [rows], attrs: [] };
  };
}

function checkWeight(name: string, what: string, x: Tensor, input: OpInput | undefined): void {
  if (!input) return;
  const w = tensorInput(name, what, input);
  checkDType(name, what, w.dtype, 'f32');
  checkRank(name, what, w.shape, 1);
  checkSize(name, `${what} of size`, w.shape[0] as number, x.shape[x.rank - 1] as number);
}

const rmsNormOp = defineOp({
  name: 'rms_norm',
  attrs: { eps: 'float', weightOffset: 'float' },
  infer(inputs) {
    const x = floatRows('rms_norm', inputs[0]);
    checkWeight('rms_norm', 'weight', x, inputs[1]);
    return [{ dtype: 'f32', shape: x.shape }];
  },
  gradient({ inputs, attrs, grads }) {
    const [x, w] = inputs as [Tensor, Tensor | null];
    const g = grads[0] as Tensor;
    const n = x.shape[x.rank - 1] as number;
    const r = rsqrt(add(mean(square(x), -1, { keepDims: true }), attrs.eps as number));
    const gw = w ? mul(g, add(w, attrs.weightOffset as number)) : g;
    const dot = sum(mul(gw, x), -1, { keepDims: true });
    const gx = mul(r, sub(gw, mul(x, mul(dot, div(square(r), n)))));
    return [gx, w ? sumTo(mul(g, mul(x, r)), w.shape) : null];
  },
  twin([input, weight], attrs) {
    const x = input as Tensor;
    const y = mul(x, rsqrt(add(mean(square(x), -1, { keepDims: true }), attrs.eps as number)));
    return [weight ? mul(y, add(weight as Tensor, attrs.weightOffset as number)) : y];
  },
  lower(node) {
    const rows = rowsOf((node.inputs[0] as Tensor).shape);
    return {
      kernel: 'rms_norm',
      inputShapes: [rows, null],
      outputShapes: [rows],
      attrs: [
        { type: 'float', value: node.attrs.eps as number },
        { type: 'float', value: node.attrs.weightOffset as number },
      ],
    };
  },
});
/** x / √(mean(x²) + eps) · (weight + weightOffset) over the last axis (Zhang & Sennrich 2019, eq. 4). */
export const rmsNorm = (x: Tensor, weight: Tensor | null, { eps = 1e-6, weightOffset = 0 } = {}): Tensor =>
  apply1(rmsNormOp, [x, weight], { eps, weightOffset });

const layerNormOp = defineOp({
  name: 'layer_norm',
  attrs: { eps: 'float' },
  infer(inputs) {
    const x = floatRows('layer_norm', inputs[0]);
    checkWeight('layer_norm', 'weight', x, inputs[1]);
    checkWeight('layer_norm', 'bias', x, inputs[2]);
    return [{ dtype: 'f32', shape: x.shape }];
  },
  gradient({ inputs, attrs, grads }) {
    const [x, w, b] = inputs as [Tensor, Tensor | null, Tensor | null];
    const g = grads[0] as Tensor;
    const centred = sub(x, mean(x, -1, { keepDims: true }));
    const r = rsqrt(add(mean(square(centred), -1, { keepDims: true }), attrs.eps as number));
    const unit = mul(centred, r);
    const gw = w ? mul(g, w) : g;
    const gx = mul(
      r,
      sub(sub(gw, mean(gw, -1, { keepDims: true })), mul(unit, mean(mul(gw, unit), -1, { keepDims: true }))),
    );
    return [gx, w ? sumTo(mul(g, unit), w.shape) : null, b ? sumTo(g, b.shape) : null];
  },
  twin([input, weight, bias], attrs) {
    const x = input as Tensor;
    const centred = sub(x, mean(x, -1, { keepDims: true }));
    let y = mul(centred, rsqrt(add(mean(square(centred), -1, { keepDims: true }), attrs.eps as number)));
    if (weight) y = mul(y, weight as Tensor);
    return [bias ? add(y, bias as Tensor) : y];
  },
  lower(node) {
    const rows = rowsOf((node.inputs[0] as Tensor).shape);
    return {
      kernel: 'layer_norm',
      inputShapes: [rows, null, null],
      outputShapes: [rows],
      attrs: [{ type: 'float', value: node.attrs.eps as number }],
    };
  },
});
/** (x - mean) / √(var + eps) · weight + bias over the last axis (Ba et al. 2016). */
export const layerNorm = (
  x: Tensor,
  weight: Tensor | null,
  bias: Tensor | null,
  { eps = 1e-5 } = {},
): Tensor => apply1(layerNormOp, [x, weight, bias], { eps });

function crossEntropyInputs(name: string, inputs: readonly OpInput[]): Tensor {
  const logits = tensorInput(name, 'logits', inputs[0]); // [N, V]
  const targets = tensorInput(name, 'targets', inputs[1]); // [N]
  checkDType(name, 'logits', logits.dtype, 'f32');
  checkRank(name, 'logits', logits.shape, 2);
  checkDType(name, 'targets', targets.dtype, 'i32');
  checkRank(name, 'targets', targets.shape, 1);
  checkSize(name, 'targets of length', targets.shape[0] as number, logits.shape[0] as number);
  return logits;
}

const crossEntropyOp = defineOp({
  name: 'cross_entropy',
  attrs: {},
  infer: (inputs) => [
    { dtype: 'f32', shape: [crossEntropyInputs('cross_entropy', inputs).shape[0] as number] },
  ],
  gradient: ({ inputs, grads }) => [
    apply1(crossEntropyGradOp, [inputs[0] as Tensor, inputs[1] as Tensor, grads[0] as Tensor]),
    null,
  ],
  twin([logits, targets]) {
    const t = targets as Tensor;
    const ids = reshape(where(equal(t, -1), 0, t), [t.size, 1]);
    const picked = reshape(takeAlong(logSoftmax(logits as Tensor), ids), [t.size]);
    return [where(equal(t, -1), 0, neg(picked))];
  },
  lower: () => ({ kernel: 'cross_entropy', attrs: [] }),
});
/** -log softmax(logits [N, V])[target] → [N]; target -1 is ignored and gives 0. */
export const crossEntropy = (logits: Tensor, targets: Tensor): Tensor =>
  apply1(crossEntropyOp, [logits, targets]);

const crossEntropyGradOp = defineOp({
  name: 'cross_entropy_grad',
  attrs: {},
  infer(inputs) {
    const logits = crossEntropyInputs('cross_entropy_grad', inputs);
    const dy = tensorInput('cross_entropy_grad', 'dy', inputs[2]);
    checkDType('cross_entropy_grad', 'dy', dy.dtype, 'f32');
    checkRank('cross_entropy_grad', 'dy', dy.shape, 1);
    checkSize('cross_entropy_grad', 'dy of length', dy.shape[0] as number, logits.shape[0] as number);
    return [{ dtype: 'f32', shape: logits.shape }];
  },
  gradient: 'twin',
  twin([logits, targets, dy]) {
    const [x, t] = [logits as Tensor, targets as Tensor];
    const used = mul(dy as Tensor, cast(notEqual(t, -1), 'f32'));
    const spread = broadcastTo(reshape(used, [t.size, 1]), x.shape);
    return [mul(spread, sub(softmax(x), oneHot(maximum(t, 0), x.shape[1] as number)))];
  },
  lower: () => ({ kernel: 'cross_entropy_grad', attrs: [] }),
});
