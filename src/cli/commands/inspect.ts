import type { Command } from 'commander';
import { readEnv } from '../../core/env.js';
import { SwitchyardError } from '../../core/errors.js';
import type { KvType } from '../../core/format.js';
import { ROLES } from '../../inspect/parameters.js';
import type { DecoderConfig } from '../../models/config.js';
import { openModel } from '../../models/load.js';
import { newCommand, printJson, printLines } from '../command.js';
import { type ModelReport, reportModel } from '../model-report.js';
import { contextOption, kvCacheOption } from '../options.js';
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
  return newCommand('inspect', 'tells what a model is, from the headers of its files')
    .argument('[path]', 'GGUF file, Hugging Face folder or packed file; default: SWITCHYARD_MODEL')
    .addOption(contextOption('length for the memory estimate; default: as loading takes it'))
    .addOption(kvCacheOption())
    .action(inspect);
}

function inspect(given: string | undefined, flags: Flags): void {
  const path = given ?? readEnv().model;
  if (path === undefined)
    throw new SwitchyardError('ERR_OPTION', '[inspect] got no model, expected the path of one', {
      hint: 'a GGUF file or a Hugging Face folder, as argument or in SWITCHYARD_MODEL',
    });
  const files = openModel(path);
  const { config, checkpoint } = files;
  const context = flags.context ?? Math.min(config.maxSeqLen, DEFAULT_CONTEXT);
  const report = reportModel(files, context, flags.kvCache);
  const facts = {
    path,
    kind: checkpoint.kind,
    config: plainConfig(config),
    moe: moeFacts(config, report),
    ...report,
  };
  if (flags.json) printJson(facts);
  else print(facts);
}

type Facts = { path: string; kind: string; config: PlainConfig; moe: MoEFacts | null } & ModelReport;
type PlainConfig = Omit<DecoderConfig, 'moe'>;

function plainConfig({ moe: _, ...rest }: DecoderConfig): PlainConfig {
  return rest;
}

interface MoEFacts {
  readonly nExperts: number;
  readonly topK: number;
  readonly dFf: number;
  readonly gating: string;
  readonly sparseLayers: readonly number[];
  readonly expertParameters: number;
  /** Of all parameters. */
  readonly expertShare: number;
  readonly activeShare: number;
}

function moeFacts({ moe }: DecoderConfig, { parameters }: ModelReport): MoEFacts | null {
  if (!moe) return null;
  return {
    nExperts: moe.nExperts,
    topK: moe.topK,
    dFf: moe.dFf,
    gating: typeof moe.gating === 'string' ? moe.gating : moe.gating.name,
    sparseLayers: moe.layers,
    expertParameters: parameters.byRole.experts / (moe.nExperts * moe.layers.length),
    expertShare: parameters.byRole.experts / parameters.total,
    activeShare: parameters.active / parameters.total,
  };
}

function print(facts: Facts): void {
  const style = styleFor(process.stdout);
  const { parameters, counted, memory } = facts;
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
      ],
      { right: [1, 2] },
    ),
    facts.agree
      ? style.good('config and tensors agree')
      : style.bad(
          `config and tensors do NOT agree: the file holds ${counted.total}, ${counted.active} active`,
        ),
    ...(facts.extra.length > 0
      ? [
          style.dim(
            `${facts.extra.length} tensors are no part of the model: ${harmless(facts.extra.slice(0, 3).join(', '))}${facts.extra.length > 3 ? ', …' : ''}`,
          ),
        ]
      : []),
    head('Formats'),
    table(
      ['format', 'tensors', 'parameters', 'bytes', 'share'],
      facts.formats.map((f) => [
        f.format,
        f.tensors,
        countText(f.parameters),
        bytesText(f.bytes),
        `${percentText(f.bytes / facts.fileBytes).padStart(7)} ${style.accent(bar(f.bytes / facts.fileBytes, BAR))}`,
      ]),
      { right: [1, 2, 3] },
    ),
    head('Memory'),
    table(
      [],
      [
        [`keys and values per token (${facts.kvCache})`, bytesText(facts.cacheBytesPerToken)],
        ...(memory
          ? [
              ['packed weights', bytesText(memory.weights)],
              [`keys and values of ${facts.contextLength} tokens`, bytesText(memory.cache)],
              ['together', bytesText(memory.total)],
            ]
          : [['packed weights', 'unknown: a format that cannot be loaded']]),
      ],
      { right: [1] },
    ),
    head('Mixture of experts'),
    facts.moe ? table([], moeRows(facts.moe, facts.config.nLayers)) : 'none: every layer is dense',
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
  return [
    ['family', c.family],
    ['layers', c.nLayers],
    ['width', c.dModel],
    ['feed-forward width', `${c.dFf}, ${c.activation}`],
    ['heads', `${c.nHeads} of ${c.headDim}, ${c.nKvHeads} for keys and values`],
    ['vocabulary', `${c.vocabSize}${c.tiedEmbeddings ? ', head tied to the embedding' : ''}`],
    ['context', `${c.maxSeqLen}${c.window > 0 ? `, window ${c.window}` : ''}`],
    ['positions', positionText(c)],
    ['end tokens', c.eosIds.join(', ') || 'none'],
  ];
}

function positionText({ rope, headDim, learnedPositions, alibi }: PlainConfig): string {
  if (rope) return `rope, theta ${rope.theta}, ${rope.dim} of ${headDim}, scaling ${rope.scaling.type}`;
  if (learnedPositions) return `learned, ${learnedPositions.rows}`;
  return alibi ? 'slopes (ALiBi)' : 'none';
}

function moeRows(m: MoEFacts, nLayers: number): (string | number)[][] {
  const layers = m.sparseLayers;
  return [
    ['experts', `${m.nExperts}, ${m.topK} for a token`],
    ['gating', m.gating],
    ['one expert', `width ${m.dFf}, ${countText(m.expertParameters)} parameters`],
    ['sparse layers', layers.length === nLayers ? `all ${nLayers}` : layers.join(', ')],
    ['share of all parameters', percentText(m.expertShare)],
    ['read for one token', percentText(m.activeShare)],
  ];
}
