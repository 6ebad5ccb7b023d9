import { type Command, Option } from 'commander';
import { SwitchyardError } from '../../core/errors.js';
import { POOLINGS, type Pooling } from '../../models/stacks/pooling.js';
import { newCommand, printJson, printLines } from '../command.js';
import { Interrupt } from '../interrupt.js';
import { addPlaceOptions, oneOf, type PlaceFlags } from '../options.js';
import { openAnyModelOf, requireModel } from '../session.js';
import { table } from '../terminal/tables.js';
import { harmless } from '../terminal/text.js';

interface Flags extends PlaceFlags {
  text?: string[];
  pooling?: Pooling;
}

/** Texts whose likeness to each other is printed. */
const MOST_COMPARED = 12;
/** Characters of a text in a table. */
const SHORT = 40;

export function embedCommand(): Command {
  const command = newCommand('embed', 'unit vectors of texts, and how alike they are')
    .option('--text <text...>', "texts; '-' reads one a line from stdin")
    .addOption(
      new Option('--pooling <how>', `${POOLINGS.join(', ')}; default: what the model says`).argParser(
        oneOf('--pooling', POOLINGS),
      ),
    );
  return addPlaceOptions(command).action(embed);
}

async function embed(flags: Flags): Promise<void> {
  requireModel('embed', flags.model);
  const texts = await textsOf(flags.text ?? []);
  using interrupt = new Interrupt();
  const { model } = await openAnyModelOf('embed', flags, interrupt);
  await using _ = model;
  if (model.kind !== 'encoder')
    throw new SwitchyardError(
      'ERR_UNSUPPORTED',
      `[embed] got ${model.kind === 'decoder' ? 'a' : 'an'} ${model.kind} model, expected an encoder`,
    );
  const { pooling = model.embedding.pooling } = flags;
  const vectors = await model.embed(texts, { pooling });
  if (flags.json)
    return printJson({
      pooling,
      vectors: texts.map((text, i) => ({ text, vector: [...(vectors[i] ?? [])] })),
    });
  printLines(
    `${texts.length} vectors of ${vectors[0]?.length} numbers, pooling ${[pooling].flat().join('+')}`,
    ...likeness(texts, vectors),
  );
}

/** The cosine of every text with every one before it. */
function likeness(texts: readonly string[], vectors: readonly Float32Array[]): string[] {
  if (texts.length < 2 || texts.length > MOST_COMPARED) return [];
  const cosine = (a: Float32Array, b: Float32Array): number =>
    a.reduce((sum, value, i) => sum + value * (b[i] as number), 0);
  const rows = texts.map((text, i) => [
    `${i + 1}`,
    ...texts.map((_, j) =>
      j > i ? '' : cosine(vectors[i] as Float32Array, vectors[j] as Float32Array).toFixed(3),
    ),
    harmless(text.length > SHORT ? `${text.slice(0, SHORT - 1)}…` : text),
  ]);
  const right = texts.map((_, i) => i + 1);
  return ['', table(['', ...texts.map((_, i) => `${i + 1}`), 'text'], rows, { right })];
}

async function textsOf(given: readonly string[]): Promise<string[]> {
  const texts: string[] = [];
  for (const text of given) texts.push(...(text === '-' ? await linesOfStdin() : [text]));
  if (texts.length > 0) return texts;
  throw new SwitchyardError('ERR_OPTION', '[embed] got no text, expected --text TEXT', {
    hint: "'--text -' reads one text a line from stdin",
  });
}

async function linesOfStdin(): Promise<string[]> {
  const chunks: Buffer[] = [];
  for await (const chunk of process.stdin) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks)
    .toString('utf8')
    .split('\n')
    .filter((line) => line.trim() !== '');
}
