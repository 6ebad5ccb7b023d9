// What rounding costs in perplexity, on a text. For each format: the model with its weights in it, against the model as it is;
// and the same weights with activations rounded to 8 bits, against exact ones.
// Usage: npx tsx scripts/measure-quality.ts MODEL TEXT [--tokens=20000] [FORMAT…]
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { LanguageModel } from '../src/generate/handles/language-model.js';
import { loadLanguageModel } from '../src/generate/handles/load-model.js';
import { type Comparison, compareModels, quantizeModel, type TargetFormat } from '../src/quantize/index.js';

const args = process.argv.slice(2);
const tokens = Number(args.find((arg) => arg.startsWith('--tokens='))?.slice('--tokens='.length) ?? 20_000);
const [path, textFile, ...formats] = args.filter((arg) => !arg.startsWith('--'));
if (path === undefined || textFile === undefined)
  throw new Error('usage: measure-quality.ts MODEL TEXT [FORMAT…]');

const line = (title: string, { increase, kl, sameTop, model }: Comparison): string =>
  `  ${title.padEnd(44)} perplexity ${model.perplexity.toFixed(4)} (${increase >= 0 ? '+' : ''}${(100 * increase).toFixed(3)} %), ` +
  `KL ${kl.mean.toExponential(2)}, 99 %: ${kl.p99.toExponential(2)}, same token ${(100 * sameTop).toFixed(2)} %`;

const folder = mkdtempSync(join(tmpdir(), 'switchyard-quality-'));
try {
  await using source = await loadLanguageModel(path, { dtype: 'f32' });
  const ids = source.tokenizer.encode(readFileSync(textFile, 'utf8')).slice(0, tokens);
  console.log(`${path}, ${ids.length} tokens of ${textFile}`);
  for (const format of formats.length > 0 ? formats : ['int8', 'keep', 'q4_0', 'int4_g64', 'int4_g128']) {
    const file = join(folder, `${format}.switchyard`);
    const { bytesAfter } = await quantizeModel(source, file, {
      formats: { default: format as TargetFormat },
    });
    await using exact = await loadLanguageModel(file, { dtype: 'f32' });
    await using rounded = new LanguageModel(exact.decoder, exact.tokenizer, {
      ...exact.settings,
      compute: 'int8',
    });
    console.log(`${format}, ${(bytesAfter / 2 ** 20).toFixed(1)} MiB`);
    if (format !== 'keep')
      console.log(line('weights rounded, against the source', await compareModels(source, exact, ids)));
    console.log(line('activations rounded, against these weights', await compareModels(exact, rounded, ids)));
    rmSync(file);
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}
