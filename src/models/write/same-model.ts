/** Whether what a file says is the model that is written: compared as it will be read. */
import { mismatch } from '../../core/errors.js';
import type { DecoderConfig } from '../decoder/config.js';
import { plainConfig } from '../packed/plain-config.js';

/** Decided by the tokenizer's part of a file, or told by how weights are stored. */
const ELSEWHERE: ReadonlySet<string> = new Set(['bosId', 'eosIds', 'interleaved', 'weightOffset', 'family']);

/** @throws SwitchyardError ERR_UNSUPPORTED, naming what the file has no words for */
export function checkSameModel(where: string, ours: DecoderConfig, theirs: DecoderConfig): void {
  const words = (config: DecoderConfig) =>
    plainConfig({
      ...config,
      windowLayers: config.window > 0 ? config.windowLayers : null,
      // A config may promise layers that predict further ahead; files may come without them.
      nPredictionLayers: Math.min(config.nPredictionLayers, ours.nPredictionLayers),
    });
  checkSame(where, words(ours), words(theirs));
}

/** The same of any configs. */
export function checkSame(where: string, ours: object, theirs: object): void {
  const difference = differenceOf(ours, theirs, '');
  if (difference === undefined) return;
  const { key, got, expected } = difference;
  throw mismatch(
    'ERR_UNSUPPORTED',
    where,
    `a model with ${key} = ${short(got)}`,
    `${short(expected)}, as such a file says it`,
    {
      hint: 'a packed file (.switchyard) holds any model',
    },
  );
}

const short = (value: unknown): string => (JSON.stringify(value) ?? 'nothing').slice(0, 100);

/** Files hold float32, some of them a product with a constant. */
const isSame = (a: number, b: number): boolean =>
  a === b || (!Number.isInteger(a) && Math.abs(a - b) <= Math.abs(a) * 2 ** -22);

interface Difference {
  key: string;
  got: unknown;
  expected: unknown;
}

function differenceOf(got: unknown, expected: unknown, key: string): Difference | undefined {
  if (typeof got === 'number' && typeof expected === 'number')
    return isSame(got, expected) ? undefined : { key, got, expected };
  if (typeof got !== 'object' || got === null || typeof expected !== 'object' || expected === null)
    return got === expected ? undefined : { key, got, expected };
  if (Array.isArray(got) && Array.isArray(expected)) {
    const same =
      got.length === expected.length && got.every((each, i) => !differenceOf(each, expected[i], ''));
    return same ? undefined : { key, got, expected };
  }
  const names = new Set([...Object.keys(got), ...Object.keys(expected)]);
  for (const name of names) {
    if (ELSEWHERE.has(name)) continue;
    const [a, b] = [got, expected].map((each) => (each as Record<string, unknown>)[name]);
    const found = differenceOf(a, b, key === '' ? name : `${key}.${name}`);
    if (found) return found;
  }
  return undefined;
}
