import type { Command } from 'commander';
import { readEnv } from '../../core/env.js';
import { SwitchyardError } from '../../core/errors.js';
import type { KvType } from '../../core/format.js';
import { ROLES } from '../../inspect/parameters.js';
import type { DecoderConfig, LayersConfig } from '../../models/decoder/config.js';
import type { AnyFiles } from '../../models/family.js';
import { openDescribed } from '../../models/read/load.js';
import type { EncoderConfig, EncoderDecoderConfig, StackConfig } from '../../models/stacks/stack-config.js';
import { type AnyConfig, stacksOf } from '../../models/stacks.js';
import { newCommand, printJson, printLines } from '../command.js';
import { type ModelReport, reportModel } from '../model-report.js';
import { addContextOption, addKvCacheOption, MODEL_PATH } from '../options.js';
import { bar } from '../terminal/bars.js';
import { bytesText, countText, percentText } from '../terminal/numbers.js';
import { styleFor } from '../terminal/style.js';
import { table } from '../terminal/tables.js';
import { harmless } from '../terminal/text.js';

interface Flags {
  json?: true;
  context?: number;
  kvCache: 'auto' | KvType;
}

const DEFAULT_CONTEXT = 4096;
const BAR = 24;

export function inspectCommand(): Command {
  const command = newCommand('inspect', 'tells what a model is, from the headers of its files').argument(
    '[path]',
    `${MODEL_PATH}; of a folder config.json will do; default: SWITCHYARD_MODEL`,
  );
  addContextOption(command, 'length for the memory estimate; default: as loading takes it');
  return addKvCacheOption(command).action(inspect);
}

function inspect(given: string | undefined, flags: Flags): void {
  const path = given ?? readEnv().model;
  if (path === undefined)
    throw new SwitchyardError('ERR_OPTION', '[inspect] got no model, expected the path of one', {
      hint: 'a GGUF file or a Hugging Face folder, as argument or in SWITCHYARD_MODEL',
    });
  const files = openDescribed(path);
  const { config, checkpoint } = files;
  const context = flags.context ?? Math.min(config.maxSeqLen, DEFAULT_CONTEXT);
  const report = reportModel(files, context, flags.kvCache);
  const facts = {
    path,
    kind: checkpoint.kind,
    model: files.kind,
    config: plainConfig(config),
    moe: moeFacts(config, report),
    ...report,
  };
  if (flags.json) printJson(facts);
  else print(facts);
}

interface Facts extends ModelReport {
  readonly path: string;
  readonly kind: string;
  readonly model: AnyFiles['kind'];
  readonly config: PlainConfig;
  readonly moe: MoEFacts | null;
}

/** Without experts, which are told apart: a policy is no plain data. */
type Plain<C> = Omit<C, 'moe'>;
type PlainConfig =
  | Plain<DecoderConfig>
  | (Omit<EncoderConfig, 'stack'> & { stack: Plain<StackConfig> })
  | (Omit<EncoderDecoderConfig, 'encoder' | 'decoder'> & Record<'encoder' | 'decoder', Plain<StackConfig>>);

function plainConfig(config: AnyConfig): PlainConfig {
  const plain = <C extends { moe: unknown }>({ moe: _, ...rest }: C): Plain<C> => rest;
  if ('stack' in config) return { ...config, stack: plain(config.stack) };
  if (!('encoder' in config)) return plain(config);
  return { ...config, encoder: plain(config.encoder), decoder: plain(config.decoder) };
}

interface MoEFacts {
  readonly nExperts: number;
  readonly topK: number;
  readonly dFf: number;
  readonly gating: string;
  /** Of the first stack that has any. */
  readonly sparseLayers: readonly number[];
  /** The sparse layers of all stacks, in words. */
  readonly where: string;
  readonly expertParameters: number;
  /** Of all parameters. */
  readonly expertShare: number;
  readonly activeShare: number;
}

function moeFacts(config: AnyConfig, { parameters }: ModelReport): MoEFacts | null {
  const stacks = stacksOf(config);
  const sparse = stacks.flatMap(({ name, layers: { moe } }) => (moe ? [{ name, moe }] : []));
  const [first] = sparse;
  if (!first) return null;
  const { moe } = first;
  const count = sparse.reduce((n, s) => n + s.moe.layers.length, 0);
  const text = ({ name, moe: { layers } }: (typeof sparse)[number]): string =>
    `${stacks.length > 1 ? `${name} ` : ''}${layers.join(', ')}`;
  const all = count === stacks.reduce((n, { layers }) => n + layers.nLayers, 0);
  return {
    nExperts: moe.nExperts,
    topK: moe.topK,
    dFf: moe.dFf,
    gating: typeof moe.gating === 'string' ? moe.gating : moe.gating.name,
    sparseLayers: moe.layers,
    where: all ? `all ${count}` : sparse.map(text).join('; '),
    expertParameters: parameters.byRole.experts / (moe.nExperts * count),
    expertShare: parameters.byRole.experts / parameters.total,
    activeShare: parameters.active / parameters.total,
  };
}

function print(facts: Facts): void {
  const style = styleFor(process.stdout);
  const { parameters, memory } = facts;
  const head = (text: string): string => `\n${style.bold(style.accent(text))}`;
  printLines(
    `${style.bold(harmless(facts.path))} (${facts.kind})`,
    head('Config'),
    table([], configRows(facts.config)),
    head('Parameters'),
    table(
      ['part', 'parameters', 'share'],
      ROLES.filter((role) => parameters.byRole[role] > 0).map((role) => {
        const count = parameters.byRole[role];
        return [
          ROLE_NAMES[role],
          countText(count),
          `${percentText(count / parameters.total).padStart(7)} ${style.accent(bar(count / parameters.total, BAR))}`,
        ];
      }),
      { right: [1] },
    ),
    table(
      [],
      [
        ['total', countText(parameters.total), parameters.total],
        ['active per token', countText(parameters.active), parameters.active],
        [
          'active without embedding',
          countText(parameters.activeWithoutEmbedding),
          parameters.activeWithoutEmbedding,
        ],
      ],
      { right: [1, 2] },
    ),
    agreement(facts),
    ...(facts.extra.length > 0
      ? [
          style.dim(
            `${facts.extra.length} tensors are no part of the model: ${harmless(facts.extra.slice(0, 3).join(', '))}${facts.extra.length > 3 ? ', …' : ''}`,
          ),
        ]
      : []),
    ...(facts.formats.length > 0 ? [head('Formats'), formatTable(facts)] : []),
    head('Memory'),
    table(
      [],
      [
        ...(facts.model === 'encoder'
          ? []
          : [[`keys and values per token (${facts.kvCache})`, bytesText(facts.cacheBytesPerToken)]]),
        ...(facts.memoryBytesPerToken > 0
          ? [['and per token of the encoded text', bytesText(facts.memoryBytesPerToken)]]
          : []),
        ...(memory
          ? [
              ['packed weights', bytesText(memory.weights)],
              ...(facts.model === 'encoder'
                ? []
                : [
                    [`keys and values of ${facts.contextLength} tokens`, bytesText(memory.cache)],
                    ['together', bytesText(memory.total)],
                  ]),
            ]
          : [['packed weights', 'unknown: a format that cannot be loaded']]),
      ],
      { right: [1] },
    ),
    head('Mixture of experts'),
    facts.moe ? table([], moeRows(facts.moe)) : 'none: every layer is dense',
  );
}

function agreement({ agree, counted }: Facts): string {
  const style = styleFor(process.stdout);
  if (counted === null) return style.dim('there are no weights: counted by the config alone');
  if (agree) return style.good('config and tensors agree');
  return style.bad(
    `config and tensors do NOT agree: the file holds ${counted.total}, ${counted.active} active`,
  );
}

function formatTable({ formats, fileBytes }: Facts): string {
  const style = styleFor(process.stdout);
  return table(
    ['format', 'tensors', 'parameters', 'bytes', 'share'],
    formats.map((f) => [
      f.format,
      f.tensors,
      countText(f.parameters),
      bytesText(f.bytes),
      `${percentText(f.bytes / fileBytes).padStart(7)} ${style.accent(bar(f.bytes / fileBytes, BAR))}`,
    ]),
    { right: [1, 2, 3] },
  );
}

const ROLE_NAMES: Readonly<Record<(typeof ROLES)[number], string>> = {
  embedding: 'embedding',
  attention: 'attention',
  norm: 'norms',
  feedForward: 'feed-forward',
  router: 'routers',
  experts: 'experts',
  head: 'head',
};

function configRows(c: PlainConfig): (string | number)[][] {
  const stacks =
    'stack' in c
      ? [stackRows(c.stack)]
      : 'encoder' in c
        ? [stackRows(c.encoder, 'encoder '), stackRows(c.decoder, 'decoder ')]
        : [stackRows(c)];
  return [
    ['family', c.family],
    ...stacks.flat(),
    ['vocabulary', `${c.vocabSize}${c.tiedEmbeddings ? ', head tied to the embedding' : ''}`],
    ['context', c.maxSeqLen === ENDLESS ? 'no bound' : c.maxSeqLen],
    ['end tokens', c.eosIds.join(', ') || 'none'],
    ...('stack' in c ? [['head', `${c.head}${c.labels.length > 0 ? `: ${c.labels.join(', ')}` : ''}`]] : []),
  ];
}

/** The length of models whose positions have no end. */
const ENDLESS = 2 ** 31 - 1;

type PlainStack = Plain<LayersConfig> & Partial<Pick<StackConfig, 'relativeBias' | 'sinusoids'>>;

function stackRows(c: PlainStack, prefix = ''): (string | number)[][] {
  return [
    ['layers', c.nLayers],
    ['width', c.dModel],
    ['feed-forward width', `${c.dFf}, ${c.activation}`],
    ['heads', `${c.nHeads} of ${c.headDim}, ${c.nKvHeads} for keys and values`],
    ['positions', `${positionText(c)}${c.window > 0 ? `, window ${c.window}` : ''}`],
  ].map(([name, value]) => [`${prefix}${name}`, value as string | number]);
}

function positionText({
  rope,
  headDim,
  learnedPositions,
  alibi,
  relativeBias,
  sinusoids,
}: PlainStack): string {
  if (rope) return `rope, theta ${rope.theta}, ${rope.dim} of ${headDim}, scaling ${rope.scaling.type}`;
  if (learnedPositions) return `learned, ${learnedPositions.rows}`;
  if (relativeBias) return `bias by distance, ${relativeBias.buckets} buckets`;
  if (sinusoids) return 'sines and cosines';
  return alibi ? 'slopes (ALiBi)' : 'none';
}

function moeRows(m: MoEFacts): (string | number)[][] {
  return [
    ['experts', `${m.nExperts}, ${m.topK} for a token`],
    ['gating', m.gating],
    ['one expert', `width ${m.dFf}, ${countText(m.expertParameters)} parameters`],
    ['sparse layers', m.where],
    ['share of all parameters', percentText(m.expertShare)],
    ['read for one token', percentText(m.activeShare)],
  ];
}
