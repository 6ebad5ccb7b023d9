/** The parameters of a sparse layer: their form, their checks, and random ones to start from. */
import { SwitchyardError } from '../core/errors.js';
import { mul, zeros } from '../core/ops/elementwise.js';
import { randomNormal } from '../core/ops/random.js';
import { type Shape, sameShape, sizeOf } from '../core/shape.js';
import { Tensor } from '../core/tensor.js';
import type { Weight } from '../core/weight.js';
import type { Matrix } from '../nn/linear.js';
import type { ExpertParameters } from './experts.js';

/** y = x Wᵀ + b as a record that gradients can be taken for; an nn.Linear is one. */
export interface LinearParameters {
  /** [N, K] */
  readonly weight: Matrix;
  /** [N] */
  readonly bias?: Tensor | null;
}

/** The experts that every token meets, as one feed-forward of their widths together. */
export interface SharedParameters {
  /** [F', D]; null without a gate. */
  readonly gate: LinearParameters | null;
  readonly up: LinearParameters;
  /** [D, F'] */
  readonly down: LinearParameters;
  /** [1, D]: the output is multiplied by sigmoid(x · w) (Qwen2-MoE); absent: 1. */
  readonly outputGate?: LinearParameters | null;
}

export interface MoEParameters {
  /** W_r [E·outputsPerExpert, D]; null for policies without a router. */
  readonly router: LinearParameters | null;
  readonly experts: ExpertParameters;
  readonly shared?: SharedParameters | null;
  /** Of the gating policy, by name. */
  readonly gating?: Readonly<Record<string, Tensor>>;
  /** [E]: moves the choice, not the weights (DeepSeek-V3); null: none. */
  readonly selectionBias?: Tensor | null;
}

/** The sizes that decide the shapes of all parameters. */
export interface MoESizes {
  readonly dModel: number;
  readonly dFf: number;
  readonly nExperts: number;
  /** Rows of the router; 0: none. */
  readonly routerOutputs: number;
  /** Whether experts have a gate (SwiGLU, GEGLU). */
  readonly gated: boolean;
  readonly bias: boolean;
  /** Width of the shared experts together; 0: none. */
  readonly dFfShared: number;
  readonly sharedGate: boolean;
  readonly selectionBias: boolean;
  /** Shapes of the policy's own parameters. */
  readonly gating: Readonly<Record<string, Shape>>;
  readonly seed: number;
}

/** Deviation of initial weights, as most published models draw them. */
const INITIAL_STD = 0.02;

/** Normal weights of deviation 0.02, biases and the policy's own parameters zero. */
export function randomParameters(sizes: MoESizes): MoEParameters {
  const {
    dModel: d,
    dFf: f,
    nExperts: e,
    routerOutputs,
    gated,
    bias,
    dFfShared: s,
    sharedGate,
    seed,
  } = sizes;
  let offset = 0;
  const draw = (...shape: number[]): Tensor => {
    const t = mul(randomNormal(shape, { seed, offset }), INITIAL_STD);
    offset += sizeOf(shape);
    return t;
  };
  const linear = (rows: number, columns: number): LinearParameters => ({
    weight: draw(rows, columns),
    ...(bias ? { bias: zeros([rows]) } : {}),
  });
  return {
    router: routerOutputs > 0 ? { weight: draw(routerOutputs, d) } : null,
    experts: {
      gate: gated ? draw(e, f, d) : null,
      up: draw(e, f, d),
      down: draw(e, d, f),
      ...(bias && gated ? { gateBias: zeros([e, f]) } : {}),
      ...(bias ? { upBias: zeros([e, f]), downBias: zeros([e, d]) } : {}),
    },
    ...(s > 0
      ? {
          shared: {
            gate: gated ? linear(s, d) : null,
            up: linear(s, d),
            down: linear(d, s),
            ...(sharedGate ? { outputGate: { weight: draw(1, d) } } : {}),
          },
        }
      : {}),
    ...(sizes.selectionBias ? { selectionBias: zeros([e]) } : {}),
    gating: Object.fromEntries(Object.entries(sizes.gating).map(([name, shape]) => [name, zeros(shape)])),
  };
}

/** The shape as wanted of `rank` 2 or 3: one packed expert is a matrix. */
const shapeOf = (m: Weight | Tensor, rank: number): Shape => {
  if (m instanceof Tensor) return m.shape;
  return rank === 2 && m.experts === 1 ? [m.rows, m.columns] : [m.experts, m.rows, m.columns];
};

/** Refuses parameters that do not fit the sizes, by name. */
export function checkParameters(parameters: MoEParameters, sizes: MoESizes): void {
  const { dModel: d, dFf: f, nExperts: e, routerOutputs } = sizes;
  const expect = (name: string, m: Weight | Tensor | null | undefined, shape: Shape): void => {
    if (!m) return;
    const found = shapeOf(m, shape.length);
    if (sameShape(found, shape)) return;
    throw new SwitchyardError(
      'ERR_SHAPE',
      `[MoELayer] got ${name} of shape [${found.join(', ')}], expected [${shape.join(', ')}]`,
    );
  };
  const { router, experts, selectionBias, gating = {} } = parameters;
  if (routerOutputs > 0 && !router)
    throw new SwitchyardError('ERR_OPTION', '[MoELayer] got no router, expected parameters.router');
  if (routerOutputs > 0) expect('router.weight', router?.weight, [routerOutputs, d]);
  expect('router.bias', router?.bias, [routerOutputs]);
  expect('experts.gate', experts.gate, [e, f, d]);
  expect('experts.up', experts.up, [e, f, d]);
  expect('experts.down', experts.down, [e, d, f]);
  expect('experts.gateBias', experts.gateBias, [e, f]);
  expect('experts.upBias', experts.upBias, [e, f]);
  expect('experts.downBias', experts.downBias, [e, d]);
  expect('selectionBias', selectionBias, [e]);
  for (const [name, shape] of Object.entries(sizes.gating)) {
    if (!(gating[name] instanceof Tensor))
      throw new SwitchyardError(
        'ERR_OPTION',
        `[MoELayer] got no gating.${name}, expected a tensor [${shape}]`,
      );
    expect(`gating.${name}`, gating[name], shape);
  }
}
