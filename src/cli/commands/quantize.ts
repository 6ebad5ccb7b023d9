import { readFileSync, statSync } from 'node:fs';
import { resolve } from 'node:path';
import { type Command, Option } from 'commander';
import { ioCode } from '../../checkpoint/file-reader.js';
import { mismatch } from '../../core/errors.js';
import { COMPUTE_MODES, type ComputeMode } from '../../core/format.js';
import { loadLanguageModel } from '../../generate/handles/load-model.js';
import { type FormatRules, TARGET_FORMATS, type TargetFormat } from '../../quantize/formats.js';
import {
  type QuantizedTensor,
  type QuantizeProgress,
  type QuantizeReport,
  quantizeModel,
} from '../../quantize/index.js';
import { newCommand, printJson, printLines } from '../command.js';
import { Interrupt } from '../interrupt.js';
import { MODEL_PATH, numberOf, oneOf } from '../options.js';
import { bytesText, percentText } from '../terminal/numbers.js';
import { ByteBar } from '../terminal/progress.js';
import { styleFor } from '../terminal/style.js';
import { table } from '../terminal/tables.js';

interface Flags extends FormatRules {
  json?: true;
  text?: string;
  window?: number;
  dropExperts?: number;
  dtype: 'auto' | ComputeMode;
  threads?: number;
  tensors?: number;
}

const RULES: readonly (readonly [name: keyof FormatRules, flag: string, about: string])[] = [
  ['default', '--default', 'format of matrices without a rule of their own; default: keep'],
  ['experts', '--experts', 'format of experts'],
  ['attention', '--attention', 'format of attention matrices'],
  ['feedForward', '--feed-forward', 'format of dense feed-forward layers'],
  ['router', '--router', 'format of routers; default: keep'],
  ['embedding', '--embedding', 'format of the embedding, and of a head that is tied to it'],
  ['head', '--head', 'format of the head'],
];

export function quantizeCommand(): Command {
  const command = newCommand('quantize', 'writes a model in other formats, and measures what that costs')
    .argument('<in>', MODEL_PATH)
    .argument('<out>', 'the packed file to write');
  for (const [, flag, about] of RULES)
    command.addOption(
      new Option(`${flag} <format>`, about).argParser(oneOf<TargetFormat>(flag, TARGET_FORMATS)),
    );
  return command
    .option('--text <file>', 'text to measure perplexity, divergence and the use of experts on')
    .option(
      '--window <n>',
      'tokens of one window of the text; default: 512',
      numberOf('--window', { min: 2 }),
    )
    .option(
      '--drop-experts <n>',
      'drop so many experts of each layer, or a share below 1: those that the text needs least',
      numberOf('--drop-experts', { whole: false }),
    )
    .addOption(
      new Option(
        '--dtype <mode>',
        'how the written model computes while it is measured: auto, f32, bf16, int8',
      )
        .argParser(oneOf('--dtype', ['auto', ...COMPUTE_MODES]))
        .default('auto'),
    )
    .option(
      '--threads <n>',
      'threads; default: the cores this process may use',
      numberOf('--threads', { min: 1, max: 1024 }),
    )
    .option('--tensors <n>', 'tensors in the table, the worst first; default: 10', numberOf('--tensors'))
    .action(quantize);
}

async function quantize(from: string, to: string, flags: Flags): Promise<void> {
  const text = flags.text === undefined ? undefined : readText(flags.text);
  using interrupt = new Interrupt();
  const { signal } = interrupt;
  const loading = new ByteBar('loading');
  // The source computes exactly: what is measured is the other model.
  const model = await loadLanguageModel(from, {
    dtype: 'f32',
    signal,
    onProgress: (progress) => loading.update(progress),
    ...(flags.threads === undefined ? {} : { threads: flags.threads }),
  }).finally(() => loading.stop());
  await using _ = model;
  const bars = new StageBars();
  const formats = Object.fromEntries(
    RULES.flatMap(([name]) => (flags[name] === undefined ? [] : [[name, flags[name]]])),
  ) as FormatRules;
  const report = await quantizeModel(model, resolve(to), {
    formats,
    dtype: flags.dtype,
    signal,
    onProgress: (progress) => bars.update(progress),
    ...(text === undefined ? {} : { text }),
    ...(flags.window === undefined ? {} : { window: flags.window }),
    ...(flags.dropExperts === undefined ? {} : { dropExperts: flags.dropExperts }),
  }).finally(() => bars.stop());
  if (flags.json) printJson(report);
  else print(report, flags.tensors ?? 10);
}

function readText(path: string): string {
  try {
    if (statSync(path).isFile()) return readFileSync(path, 'utf8');
  } catch (cause) {
    throw mismatch('ERR_IO', path, ioCode(cause), 'a text file', { cause });
  }
  throw mismatch('ERR_IO', path, 'something that is not a file', 'a text file');
}

/** One bar after another, as the stages come. */
class StageBars {
  #stage: QuantizeProgress['stage'] | null = null;
  #bar: ByteBar | null = null;

  update({ stage, done, total }: QuantizeProgress): void {
    if (stage !== this.#stage) {
      this.stop();
      this.#stage = stage;
      this.#bar = new ByteBar(stage, stage === 'writing' ? bytesText : (n) => `${n} tokens`);
    }
    this.#bar?.update({ loaded: done, total });
  }

  stop(): void {
    this.#bar?.stop();
  }
}

const signed = (share: number): string => `${share >= 0 ? '+' : ''}${(100 * share).toFixed(3)} %`;

function print(report: QuantizeReport, shown: number): void {
  const style = styleFor(process.stdout);
  const head = (text: string): string => `\n${style.bold(style.accent(text))}`;
  const { bytesBefore, bytesAfter, fileBytes, quality, dropped, tensors } = report;
  printLines(
    style.bold(report.path),
    table(
      [],
      [
        ['packed weights before', bytesText(bytesBefore), ''],
        ['packed weights after', bytesText(bytesAfter), percentText(bytesAfter / bytesBefore)],
        ['file', bytesText(fileBytes), ''],
      ],
      { right: [1, 2] },
    ),
    head('Quality'),
    quality ? qualityTable(quality) : 'not measured: no text was given (--text FILE)',
  );
  if (dropped) {
    const rows = dropped.map(({ layer, weight, kept, lostWeight }) => {
      const gone = weight.map((_, e) => e).filter((e) => !kept.includes(e));
      return [layer, gone.join(' '), percentText(lostWeight)];
    });
    printLines(
      head('Dropped experts'),
      table(['layer', 'experts', 'share of the combine weight'], rows, { right: [0, 2] }),
    );
  }
  const worst = tensors.slice(0, shown);
  printLines(
    head(
      `Tensors, the worst${worst.length < tensors.length ? ` ${worst.length} of ${tensors.length}` : ' first'}`,
    ),
    table(['tensor', 'from', 'to', 'bytes', 'relative error'], worst.map(tensorRow), { right: [3, 4] }),
  );
  const notes = tensors.filter((t) => t.note !== null);
  if (notes.length > 0)
    printLines(head('Other formats than asked for'), ...notes.map((t) => `${t.name}: ${t.note}`));
}

const tensorRow = ({ name, from, to, bytesAfter, error }: QuantizedTensor): string[] => [
  name,
  from,
  to,
  bytesText(bytesAfter),
  error === 0 ? '0' : error.toExponential(2),
];

function qualityTable(q: NonNullable<QuantizeReport['quality']>): string {
  return table(
    [],
    [
      ['tokens scored', q.model.tokens],
      [`perplexity of the source (${q.compute[0]})`, q.reference.perplexity.toFixed(4)],
      [
        `perplexity of the result (${q.compute[1]})`,
        `${q.model.perplexity.toFixed(4)} (${signed(q.increase)})`,
      ],
      ['KL divergence, mean', q.kl.mean.toExponential(3)],
      ['KL divergence, 99th percentile', q.kl.p99.toExponential(3)],
      ['same likeliest token', percentText(q.sameTop)],
    ],
    { right: [1] },
  );
}
