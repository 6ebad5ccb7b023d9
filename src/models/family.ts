import type { Checkpoint } from '../checkpoint/folder.js';
import type { GgufMetadata } from '../checkpoint/gguf-metadata.js';
import type { ConfigReader, DecoderConfig } from './config.js';

/** Where the values of one matrix of our model lie in a checkpoint. */
export type MatrixSource =
  /** One tensor; for stacked experts [E, N, K]. */
  | { readonly kind: 'whole'; readonly name: string }
  /** One tensor per expert. */
  | { readonly kind: 'per-expert'; readonly names: readonly string[] }
  /** Rows from … from + N of each expert of a stacked tensor with `of` rows per expert. */
  | { readonly kind: 'rows'; readonly name: string; readonly from: number; readonly of: number };

export interface LayerNames {
  readonly attentionNorm: string;
  readonly q: string;
  readonly k: string;
  readonly v: string;
  readonly o: string;
  /** Norms of queries and keys, in families that have them. */
  readonly qNorm?: string;
  readonly kNorm?: string;
  readonly feedForwardNorm: string;
  /** Name of the router's matrix; absent in dense layers. */
  readonly router?: string;
  readonly gate: MatrixSource;
  readonly up: MatrixSource;
  readonly down: MatrixSource;
}

/** Names of tensors in a checkpoint. A matrix's bias has the same name with .bias for .weight. */
export interface TensorNames {
  readonly embedding: string;
  readonly finalNorm: string;
  readonly head: string;
  layer(index: number): LayerNames;
}

/** Everything that is particular to a family of models. A new family is one file in families/ and a line in registry.ts. */
export interface Family {
  /** model_type of config.json. */
  readonly modelType: string;
  /** general.architecture of GGUF files, where the format defines one. */
  readonly ggufArchitecture?: string;
  /** Keys of config.json that GGUF files of the architecture leave out because it implies them. */
  readonly ggufImplies?: Readonly<Record<string, unknown>>;
  fromHuggingFace(config: ConfigReader): DecoderConfig;
  huggingFaceNames(config: DecoderConfig, has: (name: string) => boolean): TensorNames;
  /** Whether a GGUF file of that architecture is this family: several families may share one. */
  ownsGguf?(metadata: GgufMetadata): boolean;
}

export interface ModelFiles {
  readonly checkpoint: Checkpoint;
  readonly config: DecoderConfig;
  readonly names: TensorNames;
}

export const whole = (name: string): MatrixSource => ({ kind: 'whole', name });
