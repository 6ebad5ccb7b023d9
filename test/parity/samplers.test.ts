/** Processed logits against transformers: every case of every folder of samplers. */
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { defaultDevice } from '../../src/core/device.js';
import { processLogits } from '../../src/core/ops/sampling.js';
import { evaluate } from '../../src/core/program/compile.js';
import { tensor } from '../../src/core/tensor.js';
import { inverseCdf, probabilities } from '../helpers/reference-samplers.js';
import { ofKind, readJson, StoredTensors } from './folders.js';
import { chainsOf, type SamplerRule } from './sampler-cases.js';

interface SamplerCase {
  name: string;
  rules: SamplerRule[];
  logits: string;
  input_ids: number[][];
  kept: number[];
  tied_boundary?: boolean;
  close_boundary?: boolean;
}
interface SamplerFile {
  cases: SamplerCase[];
  inverse_cdf?: { u: number[][]; token: number[][] };
}

/** The distribution of a row, removed tokens 0. */
const TOLERANCE = 1e-6;
const falling = (values: readonly number[]): number[] => values.filter((x) => x > 0).sort((a, b) => b - a);

describe.each(ofKind('samplers'))('reference samplers of $name', ({ path }) => {
  const file = readJson(join(path, 'cases.json')) as SamplerFile;
  const stored = new StoredTensors(join(path, 'samplers.safetensors'));

  it.each(file.cases)('$name', async (c) => {
    const { shape, data } = stored.floats(c.logits);
    const [rows, v] = shape as [number, number];
    const want = stored.floats(`${c.name}.probs`).data;
    stored.floats(`${c.name}.scores`);
    const chains = chainsOf(c.rules, c.input_ids, v);
    const left = processLogits({
      logits: tensor(data, shape),
      rows: tensor(chains.rows.slice(), [rows, 6]),
      data: tensor(chains.data.slice()),
    });
    await evaluate([left], defaultDevice());
    const scores = await left.data();
    for (let r = 0; r < rows; r++) {
      const row = Array.from(scores.subarray(r * v, (r + 1) * v), Number);
      let got = probabilities(row);
      let expected = [...want.subarray(r * v, (r + 1) * v)];
      // rounding decides how many of these stay
      if (c.close_boundary) continue;
      // the library's top-p of 1 removes what has no float32 probability; `generate` does not apply it
      const whole = c.rules.some(({ rule, value }) => rule === 'top_p' && value === 1);
      if (!whole) expect(row.filter((s) => s > -Infinity).length, `kept of row ${r}`).toBe(c.kept[r]);
      // which of equal ones stay is a matter of the sorting routine
      if (c.tied_boundary) [got, expected] = [falling(got), falling(expected)];
      expect(got.length).toBe(expected.length);
      got.forEach((p, i) => {
        expect(Math.abs(p - (expected[i] as number)), `row ${r}, ${i}`).toBeLessThanOrEqual(TOLERANCE);
      });
    }
  });

  it('a token is where the running sum exceeds a uniform number', () => {
    if (!file.inverse_cdf) return;
    const { shape, data } = stored.floats('logits.random');
    const v = shape[1] as number;
    file.inverse_cdf.u.forEach((us, r) => {
      const p = probabilities([...data.subarray(r * v, (r + 1) * v)]);
      expect(us.map((u) => inverseCdf(p, u))).toEqual(file.inverse_cdf?.token[r]);
    });
  });
});
