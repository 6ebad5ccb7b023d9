import { mkdirSync } from 'node:fs';
import type { HuggingFaceCheckpoint } from '../../src/checkpoint/folder.js';
import type { AnyFiles } from '../../src/models/family.js';
import type { StoredNames } from '../../src/models/read/names.js';
import { describeModel } from '../../src/models/registry.js';
import { generator } from './random.js';
import { normal, writeTinyFolder } from './tiny-model.js';

type Config = Readonly<Record<string, unknown>>;

/** What a config.json says of a model, without any weights. `has`: the tensors that decide about variants. */
export function describeConfig(config: Config, has: (tensor: string) => boolean = () => false): AnyFiles {
  const tensors = { has, source: 'config.json' };
  return describeModel({
    kind: 'huggingface',
    folder: '.',
    config,
    tensors,
  } as unknown as HuggingFaceCheckpoint);
}

/** Random weights for a config of any family, under the first of the names that its files may have. */
export function randomTensors(
  config: Config,
  { seed = 1, scale = 1.5, has }: { seed?: number; scale?: number; has?: (tensor: string) => boolean } = {},
) {
  const next = generator(seed);
  const { names, parts } = describeConfig(config, has);
  const shapes = new Map<string, readonly number[]>();
  for (const part of parts)
    for (const { tensor, shape } of (names as StoredNames).placesOf(part)) shapes.set(tensor, shape);
  return [...shapes].map(([name, shape]) => {
    const size = shape.reduce((a, b) => a * b, 1);
    const isNorm = /norm.*weight$/i.test(name);
    const values = normal(next, size, isNorm ? 0.1 : scale / Math.sqrt(shape.at(-1) as number));
    return { name, shape, data: isNorm ? values.map((v) => 1 + v) : values };
  });
}

/** A Hugging Face folder of a config's model with random weights, and a tokenizer of single bytes. */
export async function writeRandomFolder(
  folder: string,
  config: Config,
  options: Parameters<typeof randomTensors>[1] & {
    rename?: (tensor: string) => string;
  } = {},
): Promise<string> {
  mkdirSync(folder, { recursive: true });
  const { rename = (name: string) => name, ...rest } = options;
  const tensors = randomTensors(config, rest).map((t) => ({ ...t, name: rename(t.name) }));
  return writeTinyFolder(folder, {}, { config, tensors });
}
