import { type Command, Option } from 'commander';
import { SwitchyardError } from '../../core/errors.js';
import type { LanguageModel } from '../../generate/handles/language-model.js';
import { type LoadStatistics, loadStatistics } from '../../moe/statistics.js';
import { newCommand, printJson, printLines } from '../command.js';
import { Interrupt } from '../interrupt.js';
import { addModelOptions, type ModelFlags } from '../options.js';
import { evenEntropy, loadBars, loadLine } from '../routing-view.js';
import { openModelOf, requireModel } from '../session.js';
import { styleFor } from '../terminal/style.js';
import { table } from '../terminal/tables.js';
import { tokenLabel } from '../terminal/text.js';

interface Flags extends ModelFlags {
  text?: string;
  upcycle?: Upcycle;
  bars?: true;
}

interface Upcycle {
  readonly nExperts: number;
  readonly topK: number;
}

export function routesCommand(): Command {
  const command = newCommand('routes', 'shows which experts a text meets, layer by layer')
    .option('--text <text>', 'the text')
    .addOption(
      new Option(
        '--upcycle <e,k>',
        'first turn a dense model into one with e equal experts a layer, k for a token (random routers)',
      ).argParser(readUpcycle),
    )
    .option('--bars', 'also a bar for each expert of each layer');
  return addModelOptions(command).action(routes);
}

function readUpcycle(text: string): Upcycle {
  const [, e, k] = /^(\d+),(\d+)$/.exec(text) ?? [];
  const upcycle = { nExperts: Number(e), topK: Number(k) };
  if (!(upcycle.topK >= 1 && upcycle.nExperts >= upcycle.topK))
    throw new SwitchyardError(
      'ERR_OPTION',
      `[--upcycle] got '${text}', expected E,K with E ≥ K ≥ 1, such as 8,2`,
    );
  return upcycle;
}

interface LayerRoute extends LoadStatistics {
  readonly layer: number;
  /** [T][K], by falling weight; -1: dropped */
  readonly experts: readonly (readonly number[])[];
  /** [T][K] */
  readonly weights: readonly (readonly number[])[];
}

async function routes(flags: Flags): Promise<void> {
  requireModel('routes', flags.model);
  if (flags.text === undefined || flags.text === '')
    throw new SwitchyardError('ERR_OPTION', '[routes] got no text, expected --text TEXT');
  using interrupt = new Interrupt();
  const { model: loaded } = await openModelOf('routes', flags, interrupt);
  await using dense = loaded;
  if (!dense.config.moe && !flags.upcycle)
    throw new SwitchyardError(
      'ERR_OPTION',
      `[routes] got a dense model (${dense.config.family}), expected one with experts`,
      { hint: '--upcycle 8,2 makes one of it' },
    );
  await using model = flags.upcycle ? await dense.upcycle(flags.upcycle) : dense;
  const ids = model.tokenizer.encode(flags.text);
  const layers = await routeText(model, ids);
  const { nExperts, topK } = model.config.moe as Upcycle;
  const tokens = ids.map((id) => ({ id, text: model.tokenizer.decode([id]) }));
  if (flags.json) return printJson({ nExperts, topK, maxEntropy: evenEntropy(nExperts), tokens, layers });
  print(tokens, layers, { nExperts, topK, bars: flags.bars ?? false });
}

async function routeText(model: LanguageModel, ids: readonly number[]): Promise<LayerRoute[]> {
  const { moe } = model.config;
  const { routing = [] } = await model.forward({ inputIds: [ids], outputRouting: true });
  const layers: LayerRoute[] = [];
  for (const [i, { expertIds, combineWeights }] of routing.entries()) {
    const k = expertIds.shape[2] as number;
    const chosen = await expertIds.data();
    const weights = await combineWeights.data();
    const rows = (values: ArrayLike<number>): number[][] =>
      ids.map((_, t) => Array.from({ length: k }, (_, j) => values[t * k + j] as number));
    layers.push({
      layer: moe?.layers[i] ?? i,
      experts: rows(chosen),
      weights: rows(weights),
      ...loadStatistics(chosen, moe?.nExperts ?? 0),
    });
  }
  return layers;
}

/** Of a terminal; a pipe gets all layers side by side. */
const LABEL_WIDTH = 14;

function print(
  tokens: readonly { text: string }[],
  layers: readonly LayerRoute[],
  { nExperts, topK, bars }: Upcycle & { bars: boolean },
): void {
  const style = styleFor(process.stdout);
  printLines(
    `${tokens.length} tokens, ${layers.length} sparse layers, ${topK} of ${nExperts} experts for a token`,
    '',
  );
  for (const group of groupsThatFit(layers, nExperts, topK)) {
    const rows = tokens.map(({ text }, t) => [
      tokenLabel(text),
      ...group.map(({ experts }) =>
        (experts[t] as readonly number[]).map((e) => (e < 0 ? '–' : e)).join(' '),
      ),
    ]);
    printLines(table(['token', ...group.map(({ layer }) => `layer ${layer}`)], rows, { style }), '');
  }
  for (const layer of layers) {
    printLines(loadLine(layer.layer, layer, style));
    if (bars) printLines(...loadBars(layer, style));
  }
}

function groupsThatFit(layers: readonly LayerRoute[], nExperts: number, topK: number): LayerRoute[][] {
  const cell = Math.max('layer 00'.length, topK * (String(nExperts - 1).length + 1)) + 2;
  const width = process.stdout.columns ?? Number.POSITIVE_INFINITY;
  const perGroup = Math.max(1, Math.min(layers.length, Math.floor((width - LABEL_WIDTH) / cell)));
  const groups: LayerRoute[][] = [];
  for (let i = 0; i < layers.length; i += perGroup) groups.push(layers.slice(i, i + perGroup));
  return groups;
}
