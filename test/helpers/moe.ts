/** Small sparse layers with literal or seeded parameters. */
import { defaultDevice } from '../../src/core/device.js';
import { evaluate } from '../../src/core/program/compile.js';
import { type Tensor, tensor } from '../../src/core/tensor.js';
import * as moe from '../../src/moe/index.js';
import { randomTensor } from './differences.js';

export const SIZES = { dModel: 5, dFf: 3, nExperts: 4 } as const;

/** Parameters that are no node of a graph: values that tests may move. */
export function layerParameters(
  gating: moe.Gating,
  { gated = true, bias = true, shared = false, seed = 1 } = {},
): moe.MoEParameters {
  const { dModel: d, dFf: f, nExperts: e } = SIZES;
  let next = seed * 1000;
  const draw = (...shape: number[]): Tensor => randomTensor(shape, next++);
  const outputs = e * (gating.outputsPerExpert ?? 1);
  return {
    router: outputs > 0 ? { weight: draw(outputs, d) } : null,
    experts: {
      gate: gated ? draw(e, f, d) : null,
      up: draw(e, f, d),
      down: draw(e, d, f),
      ...(bias ? { upBias: draw(e, f), downBias: draw(e, d), gateBias: gated ? draw(e, f) : null } : {}),
    },
    ...(shared
      ? {
          shared: {
            gate: gated ? { weight: draw(6, d) } : null,
            up: { weight: draw(6, d) },
            down: { weight: draw(d, 6) },
            outputGate: { weight: draw(1, d) },
          },
        }
      : {}),
    gating: Object.fromEntries(
      Object.entries(gating.parameters?.({ dModel: d, nExperts: e }) ?? {}).map(([name, shape]) => [
        name,
        randomTensor(shape, next++),
      ]),
    ),
  };
}

/** The routing of literal logits [N, E]. */
export function routeLogits(
  gating: moe.Gating,
  logits: readonly (readonly number[])[],
  context: Partial<moe.GatingContext> = {},
): moe.Routing {
  const [n, e] = [logits.length, logits[0]?.length ?? 0];
  const nExperts = e / (gating.outputsPerExpert || 1);
  return gating.route(tensor(Float32Array.from(logits.flat()), [n, e]), {
    x: tensor(new Float32Array(n), [n, 1]),
    sequences: 1,
    nExperts,
    topK: gating.topK?.(nExperts) ?? 1,
    selectionBias: null,
    parameters: {},
    tokenIds: null,
    training: false,
    noise: moe.seededNoise(0),
    ...context,
  });
}

/** Values of tensors as nested lists of rows. */
export async function rowsOf(...tensors: Tensor[]): Promise<number[][][]> {
  await evaluate(tensors, defaultDevice());
  return Promise.all(
    tensors.map(async (t) => {
      const width = t.shape.at(-1) as number;
      const data = Array.from(await t.data());
      return Array.from({ length: data.length / width }, (_, i) => data.slice(i * width, (i + 1) * width));
    }),
  );
}
