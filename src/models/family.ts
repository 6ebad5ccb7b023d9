import type { Checkpoint } from '../checkpoint/folder.js';
import type { GgufMetadata } from '../checkpoint/gguf-metadata.js';
import type { DecoderConfig } from './decoder/config.js';
import type { Part } from './decoder/parameters.js';
import type { GgufValues } from './gguf/keys.js';
import type { ConfigReader } from './read/config-reader.js';
import type { NameTable, StoredNames } from './read/names.js';
import type { EncoderConfig, EncoderDecoderConfig } from './stacks/stack-config.js';

/** Everything that is particular to a family of models. A new family is one file in families/ and a line in registry.ts. */
export interface Family {
  /** model_type of config.json. */
  readonly modelType: string;
  /** general.architecture of GGUF files, where the format defines one. */
  readonly ggufArchitecture?: string;
  /** Keys of config.json that GGUF files of the architecture leave out because it implies them. */
  readonly ggufImplies?: Readonly<Record<string, unknown>>;
  /** What GGUF files of the architecture say in words of their own. */
  readonly ggufOwn?: OwnKeys;
  /** GGUF files of the architecture store rotary pairs side by side. Default: in halves. */
  readonly ggufInterleaved?: boolean;
  /** YaRN's ramp ends at whole dimensions in the architecture's models, which files do not say. Default true. */
  readonly ggufYarnTruncates?: boolean;
  fromHuggingFace(config: ConfigReader): DecoderConfig;
  /** Tensors of a Hugging Face folder. */
  huggingFaceNames(config: DecoderConfig): NameTable;
  /** Tensors of a GGUF file that the architecture calls by other names than the common ones. */
  readonly ggufNames?: NameTable;
  /** Whether a GGUF file of that architecture is this family: several families may share one. */
  ownsGguf?(metadata: GgufMetadata, has: (tensor: string) => boolean): boolean;
}

/** Keys that an architecture has besides those of all, or means in another way. */
export interface OwnKeys {
  /** In the vocabulary of config.json; undefined: not said. */
  read(metadata: GgufMetadata): Readonly<Record<string, unknown>>;
  write(config: DecoderConfig): GgufValues;
}

/** GGUF files of an encoder or encoder-decoder. */
export interface StackGguf<Config> {
  /** general.architecture */
  readonly architecture: string;
  /** The metadata in the vocabulary of config.json, so that one reader checks both. */
  keys(metadata: GgufMetadata, has: (tensor: string) => boolean): Readonly<Record<string, unknown>>;
  /** The metadata of a model's file; what it does not say is found by reading it back. */
  values(config: Config): GgufValues;
  /** Which tensor is what a tensor of a folder would be, where that decides about a variant. */
  readonly standsFor: Readonly<Record<string, string>>;
  readonly names: NameTable;
  /** Tensors without a part in the model. */
  readonly spare: RegExp;
}

/** A family of encoders or encoder-decoders. */
interface StackFamily<Kind, Config> {
  readonly kind: Kind;
  /** model_type of config.json. */
  readonly modelType: string;
  /** Whether a config with that model_type is this family, where several share it. */
  owns?(config: Readonly<Record<string, unknown>>): boolean;
  /** Where the format defines an architecture for the family. */
  readonly gguf?: StackGguf<Config>;
  fromHuggingFace(config: ConfigReader, has: (tensor: string) => boolean): Config;
  /** Tensors of a Hugging Face folder. */
  huggingFaceNames(config: Config): NameTable;
  /** Tensors that files of the family may hold without a part in the model: of other heads, copies of tied ones. */
  readonly spare: RegExp;
}
export type EncoderFamily = StackFamily<'encoder', EncoderConfig>;
export type EncoderDecoderFamily = StackFamily<'encoder-decoder', EncoderDecoderConfig>;

interface FilesOf<Kind, Config> {
  readonly kind: Kind;
  readonly checkpoint: Checkpoint;
  readonly config: Config;
  /** What the config says that the model consists of. */
  readonly parts: readonly Part[];
  /** Where the parts lie; null in packed files, which have our own names. */
  readonly names: StoredNames | null;
  /** Tensors that may stand in the files without a part in the model. */
  readonly spare?: RegExp;
}
/** A decoder's files. */
export type ModelFiles = FilesOf<'decoder', DecoderConfig>;
interface StackWords {
  /** What a file says of the model, in the vocabulary of config.json. */
  readonly words: Readonly<Record<string, unknown>>;
}
export type EncoderFiles = FilesOf<'encoder', EncoderConfig> & StackWords;
export type EncoderDecoderFiles = FilesOf<'encoder-decoder', EncoderDecoderConfig> & StackWords;
export type AnyFiles = ModelFiles | EncoderFiles | EncoderDecoderFiles;
