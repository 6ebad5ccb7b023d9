/** Sparse layers of published models, with random weights, and how their runs are timed. */
import type { NativeBuffer } from '../../src/core/addon.js';
import { type ComputeMode, isQuantized, type WeightFormat } from '../../src/core/format.js';
import type { Executable } from '../../src/core/program/compile.js';
import type { Bench, BenchOptions } from './case.js';
import { PARTS, type PartTimes } from './moe-parts.js';
import { randomValues } from './random-weights.js';

export interface Layer {
  readonly name: string;
  readonly dModel: number;
  readonly dFf: number;
  readonly nExperts: number;
  readonly topK: number;
}

/** Mixtral's is cut to half the width and half the inner width. */
const LAYERS: readonly Layer[] = [
  { name: 'OLMoE', dModel: 2048, dFf: 1024, nExperts: 64, topK: 8 },
  { name: 'Mixtral/4', dModel: 2048, dFf: 7168, nExperts: 8, topK: 2 },
  { name: 'Qwen3-30B', dModel: 2048, dFf: 768, nExperts: 128, topK: 8 },
];
const SMOKE: Layer = { name: 'smoke', dModel: 256, dFf: 256, nExperts: 4, topK: 2 };
const TOKENS = [1, 8, 64, 512, 2048];

/** The layers that the options name by a part of their names; all of them without. */
export function layersOf({ smoke, shapes }: BenchOptions): readonly Layer[] {
  if (smoke) return [SMOKE];
  const found = (shape: string): readonly Layer[] =>
    LAYERS.filter((l) => l.name.toLowerCase().includes(shape.toLowerCase()));
  const wrong = shapes.find((shape) => found(shape).length === 0);
  if (wrong !== undefined)
    throw new Error(`[bench] got shape '${wrong}', expected one of ${LAYERS.map((l) => l.name).join(', ')}`);
  return shapes.length === 0
    ? LAYERS
    : LAYERS.filter((l) => shapes.some((shape) => found(shape).includes(l)));
}

export const tokenCounts = ({ smoke, tokens }: BenchOptions, otherwise = TOKENS): readonly number[] =>
  smoke ? [1, 8] : tokens.length > 0 ? tokens : otherwise;

/** Float formats compute as the peers do in them. */
export const modeOf = (format: WeightFormat): ComputeMode =>
  isQuantized(format) ? 'int8' : format === 'bf16' ? 'bf16' : 'f32';

/** From so many tokens on, all that is not the experts' own products is to take this share of the layer at most. */
export const MANY_TOKENS = 512;
const MOST_PERCENT = 5;
/** Seconds of a figure at most, and runs of those that take a second each: there are many, paired with their peers'. */
const SECONDS = 1;
/** Rows of input that the runs of a figure go through, so that a cache does not keep the experts of one token. */
const INPUT_ROWS = 64;

export const withRuns = (options: BenchOptions, runs: number): BenchOptions => ({
  ...options,
  runs: Math.min(options.runs, runs),
  seconds: Math.min(options.seconds, SECONDS),
});

export const randomInputs = ({ options, device }: Bench, tokens: number, width: number): NativeBuffer[] =>
  Array.from({ length: options.smoke ? 1 : Math.max(2, Math.ceil(INPUT_ROWS / tokens)) }, (_, i) =>
    device.upload(randomValues(tokens * width, 101 + 2 * i)),
  );

/** Milliseconds of one run. */
export async function timed(program: Executable, inputs: readonly NativeBuffer[]): Promise<number> {
  const start = performance.now();
  const outputs = await program.run(inputs);
  const time = performance.now() - start;
  for (const y of outputs) program.device.addon.disposeBuffer(y);
  return time;
}

/** Each part of some runs, and the share of what is not the experts' own products. */
export function emitParts(
  { emit }: Bench,
  figure: { shape: string; format: string },
  tokens: number,
  direction: string,
  runs: readonly PartTimes[],
): void {
  for (const part of PARTS)
    emit({ ...figure, metric: `${direction} ${part}`, unit: 'ms', values: runs.map((times) => times[part]) });
  const shares = runs.map((times) => {
    const total = PARTS.reduce((sum, part) => sum + times[part], 0);
    return (100 * (total - times.experts)) / total;
  });
  const goal = tokens >= MANY_TOKENS ? { limit: MOST_PERCENT, goal: true } : {};
  emit({ ...figure, metric: `${direction} beside experts`, unit: '%', values: shares, ...goal });
}
