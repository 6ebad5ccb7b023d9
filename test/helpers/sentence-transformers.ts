/** What sentence-transformers puts beside the files of an encoder. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { writeSafetensors } from '../../src/checkpoint/safetensors-write.js';
import { generator } from './random.js';
import { normal } from './tiny-model.js';

/** Its modules: a pooling, and those behind it. Returns the folder. */
export function sentenceTransformers(
  folder: string,
  pooling: object,
  length: number | null = null,
  behind: readonly string[] = ['Normalize'],
): string {
  const modules = ['Transformer', 'Pooling', ...behind].map((name, idx) => ({
    idx,
    name: String(idx),
    path: idx === 0 ? '' : `${idx}_${name}`,
    type: `sentence_transformers.models.${name}`,
  }));
  mkdirSync(join(folder, '1_Pooling'), { recursive: true });
  writeFileSync(join(folder, 'modules.json'), JSON.stringify(modules));
  writeFileSync(join(folder, '1_Pooling', 'config.json'), JSON.stringify(pooling));
  writeFileSync(
    join(folder, 'sentence_bert_config.json'),
    JSON.stringify({ max_seq_length: length, do_lower_case: false }),
  );
  return folder;
}

/** A Dense module [out, in] of random weights; returns its function of a vector. */
export async function writeDense(
  folder: string,
  [outs, ins]: readonly [number, number],
  { bias = true, torch = 'activation.Tanh' }: { bias?: boolean; torch?: string } = {},
) {
  mkdirSync(folder, { recursive: true });
  const next = generator(outs);
  const [w, b] = [normal(next, outs * ins, 0.5), normal(next, outs, 0.5)];
  const config = {
    in_features: ins,
    out_features: outs,
    bias,
    activation_function: `torch.nn.modules.${torch}`,
  };
  writeFileSync(join(folder, 'config.json'), JSON.stringify(config));
  await writeSafetensors(join(folder, 'model.safetensors'), [
    { name: 'linear.weight', shape: [outs, ins], data: w },
    ...(bias ? [{ name: 'linear.bias', shape: [outs], data: b }] : []),
  ]);
  const act = torch.endsWith('Tanh')
    ? Math.tanh
    : torch.endsWith('ReLU')
      ? (x: number) => Math.max(0, x)
      : Number;
  return (x: readonly number[]): number[] =>
    Array.from({ length: outs }, (_, o) =>
      act(x.reduce((sum, v, i) => sum + v * (w[o * ins + i] as number), bias ? (b[o] as number) : 0)),
    );
}
