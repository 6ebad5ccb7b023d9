/** What sentence-transformers folders do with a pooled vector: dense layers, length 1. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { readJsonFile } from '../../checkpoint/json-file.js';
import { readSafetensors } from '../../checkpoint/safetensors.js';
import type { Device } from '../../core/device.js';
import { mismatch } from '../../core/errors.js';
import type { ComputeMode } from '../../core/format.js';
import { ACTIVATIONS, div, maximum, sigmoid, sqrt, square, tanh } from '../../core/ops/elementwise.js';
import { sum } from '../../core/ops/reduce.js';
import type { Tensor } from '../../core/tensor.js';
import type { Weight } from '../../core/weight.js';
import { Linear } from '../../nn/linear.js';
import type { Part } from '../decoder/parameters.js';
import { LIMITS } from '../read/limits.js';
import { StoredNames } from '../read/names.js';
import { WeightLoader } from '../read/weights.js';

export type EmbeddingStep = { readonly kind: 'normalize' } | DenseStep;

export interface DenseStep {
  readonly kind: 'dense';
  /** Where its weights lie. */
  readonly folder: string;
  readonly inFeatures: number;
  readonly outFeatures: number;
  readonly bias: boolean;
  readonly activation: keyof typeof FUNCTIONS;
}

/** By the last word of the name that torch has. */
const FUNCTIONS = {
  Identity: (x: Tensor): Tensor => x,
  Tanh: tanh,
  Sigmoid: sigmoid,
  ReLU: ACTIVATIONS.relu,
  GELU: ACTIVATIONS.gelu,
  SiLU: ACTIVATIONS.silu,
} as const;

const CONFIG_LIMITS = { bytes: 1 << 16, depth: 8, values: 256 };
const KNOWN = ['in_features', 'out_features', 'bias', 'activation_function'];
/** Which of the values that modules hand on is changed, for models that have several. */
const SENTENCE = ['module_input_name', 'module_output_name'];

/** The Dense module of a folder, without its weights. @throws SwitchyardError ERR_FORMAT, ERR_UNSUPPORTED */
export function readDense(folder: string): DenseStep {
  const path = join(folder, 'config.json');
  const config = readJsonFile(path, CONFIG_LIMITS) as Record<string, unknown>;
  const width = (key: string): number => {
    const value = config[key];
    if (Number.isInteger(value) && (value as number) > 0 && (value as number) <= LIMITS.width)
      return value as number;
    throw mismatch(
      'ERR_FORMAT',
      path,
      `${key} ${JSON.stringify(value)}`,
      `a whole number to ${LIMITS.width}`,
    );
  };
  const strange = Object.keys(config).find(
    (key) =>
      !KNOWN.includes(key) &&
      !(SENTENCE.includes(key) && [null, 'sentence_embedding'].includes(config[key] as null)),
  );
  if (strange !== undefined)
    throw mismatch(
      'ERR_UNSUPPORTED',
      path,
      `${strange} ${JSON.stringify(config[strange])}`,
      KNOWN.join(', '),
    );
  const named = String(config.activation_function ?? 'Tanh')
    .split('.')
    .at(-1) as string;
  if (!Object.hasOwn(FUNCTIONS, named))
    throw mismatch(
      'ERR_UNSUPPORTED',
      path,
      `activation_function ${named}`,
      Object.keys(FUNCTIONS).join(', '),
    );
  return {
    kind: 'dense',
    folder,
    inFeatures: width('in_features'),
    outFeatures: width('out_features'),
    bias: config.bias !== false,
    activation: named as DenseStep['activation'],
  };
}

/** What a length is divided by at least: a vector of zeros stays one. */
const SHORTEST = 1e-12;

/** x [S, D] → rows of length 1. */
export const normalized = (x: Tensor): Tensor =>
  div(x, maximum(sqrt(sum(square(x), 1, { keepDims: true })), SHORTEST));

/** The steps with their weights. */
export class EmbeddingSteps {
  private constructor(
    readonly device: Device,
    readonly steps: readonly EmbeddingStep[],
    readonly layers: ReadonlyMap<DenseStep, Linear>,
  ) {}

  /** @throws SwitchyardError ERR_FORMAT, ERR_IO, ERR_UNSUPPORTED, naming the file and the tensor */
  static async load(
    steps: readonly EmbeddingStep[],
    device: Device,
    signal?: AbortSignal,
  ): Promise<EmbeddingSteps> {
    const layers = new Map<DenseStep, Linear>();
    const loaded = new EmbeddingSteps(device, steps, layers);
    try {
      for (const step of steps)
        if (step.kind === 'dense') layers.set(step, await loadDense(step, device, signal));
      return loaded;
    } catch (error) {
      loaded.dispose();
      throw error;
    }
  }

  /** Numbers of the pooled vector that the steps want; null: any. */
  get width(): number | null {
    return this.steps.find((step) => step.kind === 'dense')?.inFeatures ?? null;
  }

  /** x [S, D] → [S, D'], of length 1 */
  forward(x: Tensor, compute: ComputeMode): Tensor {
    let y = x;
    for (const step of this.steps) {
      const layer = step.kind === 'dense' ? this.layers.get(step) : undefined;
      y =
        step.kind === 'dense' && layer
          ? FUNCTIONS[step.activation](layer.forward(y, compute))
          : normalized(y);
    }
    return this.steps.at(-1)?.kind === 'normalize' ? y : normalized(y);
  }

  dispose(): void {
    for (const { weight } of this.layers.values()) this.device.disposeWeight((weight as Weight).native);
  }
}

const NAMES = [
  { tensor: 'linear.weight', parts: ['weight'] },
  { tensor: 'linear.bias', parts: ['bias'] },
];

async function loadDense(step: DenseStep, device: Device, signal?: AbortSignal): Promise<Linear> {
  const { folder, inFeatures, outFeatures, bias } = step;
  const path = join(folder, 'model.safetensors');
  if (!existsSync(path))
    throw mismatch('ERR_UNSUPPORTED', folder, 'no model.safetensors', 'the weights of its Dense module', {
      hint: 'load the model with sentence-transformers and save it with safe_serialization',
    });
  const { tensors } = readSafetensors(path);
  const matrix: Part = { name: 'weight', role: 'head', kind: 'matrix', shape: [outFeatures, inFeatures] };
  const vector: Part = { name: 'bias', role: 'head', kind: 'vector', shape: [outFeatures] };
  const names = new StoredNames(NAMES, [matrix, vector], (name) => tensors.has(name));
  const loader = new WeightLoader(device, tensors, names, 0, undefined, signal);
  try {
    const layer = new Linear(await loader.matrix(matrix), bias ? await loader.vector(vector) : null);
    const [unused] = loader.unused();
    if (unused === undefined) return layer;
    throw mismatch(
      'ERR_UNSUPPORTED',
      path,
      `a tensor ${unused}`,
      bias ? 'linear.weight and linear.bias' : 'linear.weight',
    );
  } catch (error) {
    loader.release();
    throw error;
  }
}
