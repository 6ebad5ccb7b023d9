/** What the headers of a model's files tell: parameters, formats, memory. Nothing is loaded. */
import type { TensorEntry } from '../checkpoint/tensor-file.js';
import { automaticKvType, isQuantized, isWeightFormat, type KvType } from '../core/format.js';
import {
  cacheBytesPerToken,
  estimateMemory,
  type MatrixSize,
  type MemoryEstimate,
} from '../inspect/memory.js';
import { countParameters, type ParameterCount, type Role, sumParameters } from '../inspect/parameters.js';
import type { LayerNames, MatrixSource, ModelFiles } from '../models/family.js';
import { KV_BLOCK } from '../nn/kv-blocks.js';

export interface FormatUse {
  readonly format: string;
  readonly tensors: number;
  readonly parameters: number;
  readonly bytes: number;
}

export interface ModelReport {
  /** By the formula of the config. */
  readonly parameters: ParameterCount;
  /** By the tensors of the file; must be the same numbers. */
  readonly counted: ParameterCount;
  readonly agree: boolean;
  /** Tensors that are no part of the model. */
  readonly extra: readonly string[];
  readonly formats: readonly FormatUse[];
  readonly fileBytes: number;
  /** How the cache stores keys and values. */
  readonly kvCache: KvType;
  readonly cacheBytesPerToken: number;
  readonly contextLength: number;
  /** Null where a tensor's format cannot be loaded. */
  readonly memory: MemoryEstimate | null;
}

interface Part {
  readonly role: Role;
  readonly names: readonly string[];
  /** Absent for vectors, which are not packed. */
  readonly size?: { readonly rows: number; readonly columns: number; readonly experts?: number };
}

const sourceNames = (source: MatrixSource): readonly string[] =>
  source.kind === 'per-expert' ? source.names : [source.name];

/** Every matrix and vector of the model, and the tensors that hold it. */
function* partsOf({ config: c, names }: ModelFiles): Generator<Part> {
  const [q, kv] = [c.nHeads * c.headDim, c.nKvHeads * c.headDim];
  yield { role: 'embedding', names: [names.embedding], size: { rows: c.vocabSize, columns: c.dModel } };
  for (let i = 0; i < c.nLayers; i++) {
    const layer = names.layer(i);
    yield { role: 'norm', names: [layer.attentionNorm, layer.feedForwardNorm] };
    if (c.qkNorm && layer.qNorm && layer.kNorm) yield { role: 'norm', names: [layer.qNorm, layer.kNorm] };
    const linear = (name: string, rows: number, columns: number): Part => ({
      role: 'attention',
      names: [name],
      size: { rows, columns },
    });
    yield linear(layer.q, q, c.dModel);
    yield linear(layer.k, kv, c.dModel);
    yield linear(layer.v, kv, c.dModel);
    yield linear(layer.o, c.dModel, q);
    if (c.attentionBias) {
      const biases = [layer.q, layer.k, layer.v, layer.o].map((n) => n.replace(/\.weight$/, '.bias'));
      yield { role: 'attention', names: biases };
    }
    yield* feedForwardParts(c, layer, c.moe?.layers.includes(i) ?? false);
  }
  yield { role: 'norm', names: [names.finalNorm] };
  if (!c.tiedEmbeddings)
    yield { role: 'head', names: [names.head], size: { rows: c.vocabSize, columns: c.dModel } };
}

function* feedForwardParts(c: ModelFiles['config'], layer: LayerNames, sparse: boolean): Generator<Part> {
  const { nExperts, dFf } = sparse && c.moe ? c.moe : { nExperts: 1, dFf: c.dFf };
  const role = sparse ? 'experts' : 'feedForward';
  const [wide, narrow] = [
    { rows: dFf, columns: c.dModel, experts: nExperts },
    { rows: c.dModel, columns: dFf, experts: nExperts },
  ];
  if (sparse && layer.router !== undefined)
    yield { role: 'router', names: [layer.router], size: { rows: nExperts, columns: c.dModel } };
  yield { role, names: sourceNames(layer.gate), size: wide };
  yield { role, names: sourceNames(layer.up), size: wide };
  yield { role, names: sourceNames(layer.down), size: narrow };
  if (!sparse && c.feedForwardBias) {
    const sources = [layer.gate, layer.up, layer.down].flatMap(sourceNames);
    yield { role, names: sources.map((n) => n.replace(/\.weight$/, '.bias')) };
  }
}

/**
 * @param contextLength tokens for the memory estimate
 * @param kind as the option `kvCache` of `loadModel`
 */
export function reportModel(
  files: ModelFiles,
  contextLength: number,
  kind: 'auto' | KvType = 'auto',
): ModelReport {
  const { config, checkpoint } = files;
  const { tensors } = checkpoint;
  const seen = new Map<string, Role>();
  const matrices: MatrixSize[] = [];
  let packable = true;
  for (const { role, names, size } of partsOf(files)) {
    for (const name of names) seen.set(tensors.get(name).name, role);
    if (!size) continue;
    const { format } = tensors.get(names[0] as string);
    if (isWeightFormat(format)) matrices.push({ format, ...size });
    else packable = false;
  }
  const used: { role: Role; shape: readonly number[] }[] = [];
  const extra: string[] = [];
  for (const entry of tensors) {
    const role = seen.get(entry.name);
    if (role) used.push({ role, shape: entry.shape });
    else extra.push(entry.name);
  }
  const compute = matrices.some((m) => isQuantized(m.format)) ? 'int8' : 'f32';
  const kvCache = kind === 'auto' ? automaticKvType(compute) : kind;
  const parameters = countParameters(config);
  const counted = sumParameters(used, config.moe ? config.moe.topK / config.moe.nExperts : 1);
  return {
    parameters,
    counted,
    agree: parameters.total === counted.total && parameters.active === counted.active,
    extra,
    formats: formatsOf(tensors),
    fileBytes: [...tensors].reduce((sum, entry) => sum + entry.bytes, 0),
    kvCache,
    cacheBytesPerToken: cacheBytesPerToken(config, kvCache),
    contextLength,
    memory: packable ? estimateMemory(matrices, config, kvCache, contextLength, KV_BLOCK) : null,
  };
}

function formatsOf(tensors: Iterable<TensorEntry>): FormatUse[] {
  const uses = new Map<string, { tensors: number; parameters: number; bytes: number }>();
  for (const { format, shape, bytes } of tensors) {
    const use = uses.get(format) ?? { tensors: 0, parameters: 0, bytes: 0 };
    use.tensors++;
    use.parameters += shape.reduce((n, size) => n * size, 1);
    use.bytes += bytes;
    uses.set(format, use);
  }
  return [...uses].map(([format, use]) => ({ format, ...use })).sort((a, b) => b.bytes - a.bytes);
}
