/** LongRoPE in GGUF files: two tensors of divisors, one of which counts by the length that there is room for. */
import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { openCheckpoint } from '../../../src/checkpoint/folder.js';
import { loadLanguageModel } from '../../../src/generate/handles/load-model.js';
import { temporaryFolder } from '../../helpers/checkpoint.js';
import { fixturesFolder } from '../../helpers/fixtures.js';

const folder = temporaryFolder();
const ORIGINAL = 16;
const IDS = Array.from({ length: ORIGINAL }, (_, i) => (i * 37 + 11) % 90);

/** With room for texts of the original length, or for longer ones. */
async function logitsOf(path: string, contextLength?: number): Promise<number[]> {
  await using model = await loadLanguageModel(path, {
    dtype: 'f32',
    ...(contextLength && { contextLength }),
  });
  return [...(await (await model.forward({ inputIds: [IDS] })).logits.data())] as number[];
}
const apart = (a: readonly number[], b: readonly number[]): number =>
  Math.max(...a.map((x, i) => Math.abs(x - (b[i] as number)))) / Math.max(...b.map(Math.abs));

describe.skipIf(fixturesFolder === undefined)('LongRoPE of Phi-3.5-MoE', () => {
  it('gives the same logits from GGUF as from a folder, with room for short texts and for long ones', async () => {
    const path = join(folder, 'phimoe');
    cpSync(join(fixturesFolder ?? '', 'phimoe'), path, { recursive: true });
    const { rope_scaling, rope_parameters, ...config } = JSON.parse(
      readFileSync(join(path, 'config.json'), 'utf8'),
    );
    const pairs = config.hidden_size / config.num_attention_heads / 2;
    const factors = (step: number): number[] => Array.from({ length: pairs }, (_, i) => 1 + step * i);
    const scaling = {
      type: 'longrope',
      short_factor: factors(0.25),
      long_factor: factors(2),
      original_max_position_embeddings: ORIGINAL,
      short_mscale: 1.243163121016122,
      long_mscale: 1.243163121016122,
    };
    const described = { ...config, max_position_embeddings: 64, rope_theta: 1e4, rope_scaling: scaling };
    writeFileSync(join(path, 'config.json'), JSON.stringify(described));
    await using model = await loadLanguageModel(path, { dtype: 'f32' });
    const gguf = join(folder, 'phimoe.gguf');
    await model.save(gguf);
    const written = openCheckpoint(gguf);
    expect(written.tensors.get('rope_factors_long.weight').shape).toEqual([pairs]);
    expect(written.tensors.get('rope_factors_short.weight').shape).toEqual([pairs]);
    const [short, long] = [await logitsOf(path, ORIGINAL), await logitsOf(path)];
    expect(apart(short, long)).toBeGreaterThan(1e-3);
    expect(apart(await logitsOf(gguf, ORIGINAL), short)).toBeLessThan(2e-6);
    expect(apart(await logitsOf(gguf), long)).toBeLessThan(2e-6);
  });
});
