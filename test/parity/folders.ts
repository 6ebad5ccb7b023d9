import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { basename, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { readSafetensors } from '../../src/checkpoint/safetensors.js';
import { fixturesFolder } from '../helpers/fixtures.js';

export type FixtureKind = 'model' | 'gguf' | 'layers' | 'samplers' | 'blocks';

export interface FixtureFolder {
  readonly kind: FixtureKind;
  readonly path: string;
  /** For messages only: what a folder is never depends on its name. */
  readonly name: string;
}

export const readJson = (path: string) => JSON.parse(readFileSync(path, 'utf8'));

/** Every folder of the fixtures that holds references, recognised by its files. */
export const fixtureFolders: readonly FixtureFolder[] =
  fixturesFolder === undefined ? [] : walk(fixturesFolder);

/** Model folders of the project itself, written by scripts/reference. */
export const ownFolders: readonly FixtureFolder[] = walk(
  fileURLToPath(new URL('../fixtures', import.meta.url)),
).filter((f) => f.kind === 'model');

export const ofKind = (kind: FixtureKind): FixtureFolder[] => fixtureFolders.filter((f) => f.kind === kind);

function walk(folder: string): FixtureFolder[] {
  const found: FixtureFolder[] = [];
  const add = (kind: FixtureKind): void => {
    found.push({
      kind,
      path: folder,
      name: fixturesFolder === undefined ? basename(folder) : relative(fixturesFolder, folder) || '.',
    });
  };
  const has = (name: string): boolean => existsSync(join(folder, name));
  if (has('expected.json') && has('config.json')) add('model');
  if (has('expected.json') && has('model.gguf')) add('gguf');
  if (has('blocks.json')) add('blocks');
  if (has('cases.json')) add(kindOfCases(join(folder, 'cases.json')));
  for (const entry of readdirSync(folder, { withFileTypes: true }).sort((a, b) => (a.name < b.name ? -1 : 1)))
    if (entry.isDirectory()) found.push(...walk(join(folder, entry.name)));
  return found;
}

/** Layers name tensors and parameters, samplers name rules. */
function kindOfCases(path: string): FixtureKind {
  const { cases } = readJson(path) as { cases: Record<string, unknown>[] };
  if (cases.every((c) => Array.isArray(c.rules) && 'logits' in c)) return 'samplers';
  if (cases.every((c) => 'tensors' in c && 'parameters' in c)) return 'layers';
  throw new Error(`${path}: neither cases of layers nor of samplers`);
}

export interface Stored {
  readonly shape: readonly number[];
  readonly data: Float32Array | Int32Array | Uint8Array;
}

/** The tensors of a safetensors file of references; remembers which were asked for. */
export class StoredTensors {
  readonly #entries;
  readonly #used = new Set<string>();

  constructor(readonly path: string) {
    this.#entries = new Map([...readSafetensors(path).tensors].map((entry) => [entry.name, entry]));
  }

  names(): string[] {
    return [...this.#entries.keys()];
  }

  has(name: string): boolean {
    return this.#entries.has(name);
  }

  get(name: string): Stored {
    const entry = this.#entries.get(name);
    if (!entry) throw new Error(`${this.path} has no tensor ${name}`);
    this.#used.add(name);
    const { buffer } = Uint8Array.from(
      readFileSync(this.path).subarray(entry.offset, entry.offset + entry.bytes),
    );
    const make = { f32: Float32Array, i32: Int32Array, u8: Uint8Array }[entry.format as 'f32'];
    if (!make) throw new Error(`${this.path}: tensor ${name} of type ${entry.format}`);
    return { shape: entry.shape, data: new make(buffer) };
  }

  floats(name: string): { shape: readonly number[]; data: Float32Array } {
    const { shape, data } = this.get(name);
    if (!(data instanceof Float32Array)) throw new Error(`${this.path}: ${name} is not f32`);
    return { shape, data };
  }

  unused(): string[] {
    return this.names().filter((name) => !this.#used.has(name));
  }
}
