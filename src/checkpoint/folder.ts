import { readdirSync, statSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { Place } from './checked.js';
import { ioCode, withReader } from './file-reader.js';
import { joinFloat8 } from './float8.js';
import { type GgufFile, ggufMagic, readGguf } from './gguf.js';
import { type JsonObject, readJsonFile } from './json-file.js';
import { joinMxfp4 } from './mxfp4.js';
import { packedMagic } from './packed-layout.js';
import { type PackedFile, readPacked } from './packed-read.js';
import { type Quantization, readQuantization } from './quantization.js';
import { maxSafetensorsHeaderBytes, readSafetensors, readShardedSafetensors } from './safetensors.js';
import { TensorTable } from './tensor-file.js';

const configLimits = { bytes: 16 << 20, depth: 64, values: 1 << 20 };
const singleFile = 'model.safetensors';
const indexFile = 'model.safetensors.index.json';

/** The text files of a Hugging Face folder, by what they are for. */
const textFileNames = {
  tokenizer: 'tokenizer.json',
  tokenizerConfig: 'tokenizer_config.json',
  specialTokensMap: 'special_tokens_map.json',
  chatTemplate: 'chat_template.jinja',
  sentencePiece: 'tokenizer.model',
} as const;

/** Paths of the text files that are there. */
export type TextFiles = { readonly [name in keyof typeof textFileNames]?: string };

export interface GgufCheckpoint extends GgufFile {
  readonly kind: 'gguf';
}

export interface HuggingFaceCheckpoint {
  readonly kind: 'huggingface';
  readonly folder: string;
  /** config.json as it stands (snake_case keys), without its quantization_config. */
  readonly config: JsonObject;
  /** How the weights are quantised; null: they are floats. */
  readonly quantization: Quantization | null;
  /** generation_config.json as it stands, where there is one. */
  readonly generationConfig: JsonObject | undefined;
  readonly textFiles: TextFiles;
  readonly tensors: TensorTable;
}

export interface PackedCheckpoint extends PackedFile {
  readonly kind: 'switchyard';
}

export type Checkpoint = GgufCheckpoint | HuggingFaceCheckpoint | PackedCheckpoint;

/**
 * Opens a model by what is there: a GGUF file, a packed file of our own, a safetensors file (with the folder around it), a Hugging Face folder,
 * or a folder that holds one GGUF file. A file is known by its first bytes, not by its name. Only headers are read.
 * @throws SwitchyardError ERR_FORMAT or ERR_IO, naming the file and the tensor or key.
 */
export function openCheckpoint(path: string): Checkpoint {
  const place = new Place(path);
  let isFolder: boolean;
  try {
    isFolder = statSync(path).isDirectory();
  } catch (cause) {
    const code = ioCode(cause);
    const got = code === 'ENOENT' ? 'no such file or folder (ENOENT)' : code;
    throw place.io(got, 'a model file or folder', { cause });
  }
  if (isFolder) return openFolder(path);
  const kind = fileKind(path);
  if (kind === 'gguf') return { kind, ...readGguf(path) };
  if (kind === 'switchyard') return { kind, ...readPacked(path) };
  if (kind === 'safetensors') return openHuggingFaceFolder(dirname(resolve(path)), basename(path));
  const hint = kind === undefined ? undefined : `this looks like ${kind}: convert it to safetensors or GGUF`;
  throw place.format(
    'a file of another kind',
    'a GGUF, .switchyard or safetensors file, or a model folder',
    hint,
  );
}

/** What a file is by its first bytes: a format that can be read, or the name of a known one that cannot. */
function fileKind(path: string): string | undefined {
  return withReader(path, (reader) => {
    if (reader.size < 9) return undefined;
    const head = reader.bytes(9, 'the first bytes');
    if (head.toString('latin1', 0, 4) === ggufMagic) return 'gguf';
    if (head.subarray(0, packedMagic.length).equals(packedMagic)) return 'switchyard';
    if (head.toString('latin1', 0, 4) === 'PK\x03\x04') return 'a PyTorch checkpoint';
    const isSafetensors = head.readBigUInt64LE() <= BigInt(maxSafetensorsHeaderBytes) && head[8] === 0x7b;
    if (isSafetensors) return 'safetensors';
    return head[0] === 0x80 ? 'a Python pickle' : undefined;
  });
}

function openFolder(folder: string): Checkpoint {
  const names = listFolder(folder);
  if (names.includes('config.json')) return openHuggingFaceFolder(folder);
  const candidates = names.filter((name) => name.endsWith('.gguf'));
  if (candidates.length === 1) return openCheckpoint(join(folder, candidates[0]));
  const hint =
    candidates.length > 1 ? `choose one of its files: ${candidates.slice(0, 8).join(', ')}` : undefined;
  throw new Place(folder).format(
    `a folder without config.json and with ${candidates.length} GGUF files`,
    'config.json or one GGUF file',
    hint,
  );
}

/** `openCheckpoint`, where a folder with config.json may have no weights: it then describes a model without tensors. */
export function openDescription(path: string): Checkpoint {
  const isFolder = statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false;
  if (!isFolder) return openCheckpoint(path);
  const names = listFolder(path);
  const hasWeights = names.some((name) => name.endsWith('.safetensors') || name === indexFile);
  if (!names.includes('config.json') || hasWeights) return openCheckpoint(path);
  const described = readConfig(path);
  const tensors = new TensorTable(path, []);
  return {
    kind: 'huggingface',
    folder: path,
    ...described,
    generationConfig: undefined,
    textFiles: {},
    tensors,
  };
}

/** How weights are quantised does not say what the model is: it stands apart from the rest of the config. */
function readConfig(folder: string): Pick<HuggingFaceCheckpoint, 'config' | 'quantization'> {
  const path = join(folder, 'config.json');
  const { quantization_config, ...config } = readJsonFile(path, configLimits);
  return { config, quantization: readQuantization({ quantization_config }, new Place(path)) };
}

/**
 * Opens a Hugging Face folder: config.json, generation_config.json where there is one, and the safetensors.
 * @param weights the safetensors file that was asked for. A shard of the index stands for the whole model; any other
 *   file holds all the tensors. Without it: model.safetensors, else model.safetensors.index.json.
 */
export function openHuggingFaceFolder(folder: string, weights?: string): HuggingFaceCheckpoint {
  const names = listFolder(folder);
  const { config, quantization } = readConfig(folder);
  const generation = 'generation_config.json';
  const generationConfig = names.includes(generation)
    ? readJsonFile(join(folder, generation), configLimits)
    : undefined;
  const textFiles: { -readonly [name in keyof TextFiles]: string } = {};
  for (const [key, name] of Object.entries(textFileNames)) {
    if (names.includes(name)) textFiles[key as keyof TextFiles] = join(folder, name);
  }
  const tensors = joinFloat8(joinMxfp4(openWeights(folder, names, weights)), quantization);
  return { kind: 'huggingface', folder, config, quantization, generationConfig, textFiles, tensors };
}

function openWeights(folder: string, names: readonly string[], weights: string | undefined): TensorTable {
  const hasIndex = names.includes(indexFile);
  if (weights !== undefined) {
    const sharded = hasIndex ? readShardedSafetensors(join(folder, indexFile)) : undefined;
    const path = join(folder, weights);
    const isShard = sharded !== undefined && [...sharded].some((entry) => entry.path === path);
    return isShard ? sharded : readSafetensors(path).tensors;
  }
  if (names.includes(singleFile)) return readSafetensors(join(folder, singleFile)).tensors;
  if (hasIndex) return readShardedSafetensors(join(folder, indexFile));
  const other = names.find((name) => /^(pytorch_model.*|.*\.(bin|pth?|h5|msgpack))$/.test(name));
  const hint = other === undefined ? undefined : `it holds ${other}: convert the model to safetensors`;
  throw new Place(folder).io('no weights', `${singleFile} or ${indexFile}`, { hint });
}

function listFolder(folder: string): string[] {
  try {
    return readdirSync(folder).sort();
  } catch (cause) {
    throw new Place(folder).io(ioCode(cause), 'a readable folder', { cause });
  }
}
