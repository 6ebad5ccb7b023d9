// What written models are compared by.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { openCheckpoint } from '../../src/checkpoint/folder.js';
import type { AnyModel } from '../../src/generate/handles/load-model.js';
import { openFiles } from '../../src/models/read/load.js';
import { fixturesFolder } from './fixtures.js';

/** Fixtures of models that are built. */
export const modelFixtures = (fixturesFolder === undefined ? [] : readdirSync(fixturesFolder)).filter(
  (name) => {
    if (!existsSync(join(fixturesFolder!, name, 'config.json'))) return false;
    try {
      openFiles(join(fixturesFolder!, name));
      return true;
    } catch {
      return false;
    }
  },
);

/** Bytes of every tensor, by name. */
export function tensorsOf(
  path: string,
): Map<string, { format: string; shape: readonly number[]; bytes: Buffer }> {
  const { tensors } = openCheckpoint(path);
  return new Map(
    [...tensors].map(({ name, format, shape, path: file, offset, bytes }) => [
      name,
      { format, shape, bytes: readFileSync(file).subarray(offset, offset + bytes) },
    ]),
  );
}

const ids = [[1, 5, 9, 20, 33, 7]];
/** Logits, or the states of a model without a head, for a few fixed ids. */
export async function logitsOf(model: AnyModel): Promise<Float32Array> {
  const inputs =
    model.kind === 'encoder-decoder' ? { inputIds: ids, decoderInputIds: [[0, 4, 8]] } : { inputIds: ids };
  const output = (await model.forward(inputs as never)) as unknown as Record<
    string,
    { data(): Promise<unknown> }
  >;
  return (await (output.logits ?? output.lastHiddenState).data()) as Float32Array;
}

/** Last states of an encoder for the same ids. */
export async function statesOf(model: AnyModel): Promise<Float32Array> {
  const { lastHiddenState } = (await model.forward({ inputIds: ids } as never)) as unknown as {
    lastHiddenState: { data(): Promise<Float32Array> };
  };
  return lastHiddenState.data();
}
