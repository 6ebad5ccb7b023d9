/** What writers need of a loaded model. */
import type { JsonObject } from '../../checkpoint/json-file.js';
import type { Device } from '../../core/device.js';
import { SwitchyardError } from '../../core/errors.js';
import type { Tokenizer } from '../../text/tokenizer.js';
import type { DecoderConfig } from '../decoder/config.js';
import type { Decoder } from '../decoder/decoder.js';
import type { ParameterMap, Part } from '../decoder/parameters.js';
import type { EmbeddingConfig } from '../stacks/pooling.js';
import type { EncoderConfig, EncoderDecoderConfig } from '../stacks/stack-config.js';
import type { WriteOptions } from './options.js';

/** The text files that a model came with. Their texts are kept, as JSON numbers do not tell 1.0 from 1, and readers do. */
export interface ModelSource {
  readonly config: JsonObject;
  /** config.json as it stands. */
  readonly configText: string;
  /** generation_config.json as it stands, where there is one. */
  readonly generationText?: string;
  /** What sentence-transformers keeps beside them, by path in the folder. */
  readonly others: ReadonlyMap<string, string | Uint8Array>;
}

interface Written<Kind, Config> {
  readonly kind: Kind;
  readonly config: Config;
  readonly parts: readonly Part[];
  readonly parameters: ParameterMap;
  readonly tokenizer: Tokenizer;
  readonly device: Device;
  /** Null for models that did not come from a Hugging Face folder. */
  readonly source: ModelSource | null;
}
export type WrittenDecoder = Written<'decoder', DecoderConfig> & { readonly decoder: Decoder };
export type WrittenEncoder = Written<'encoder', EncoderConfig> & { readonly embedding: EmbeddingConfig };
export type WrittenEncoderDecoder = Written<'encoder-decoder', EncoderDecoderConfig>;
export type WrittenModel = WrittenDecoder | WrittenEncoder | WrittenEncoderDecoder;

/** What a kind of model says of itself. */
export type WrittenParts = Pick<WrittenModel, 'kind' | 'config' | 'parts'> & {
  readonly decoder?: Decoder;
  readonly embedding?: EmbeddingConfig;
};

/** Passes chunks on, counts them, and stops at an abort. */
export class WriteCount {
  #written = 0;

  constructor(
    readonly path: string,
    readonly total: number,
    readonly options: WriteOptions,
  ) {}

  async *counted(tensor: string, chunks: AsyncIterable<Uint8Array>): AsyncIterable<Uint8Array> {
    const { signal, onProgress } = this.options;
    for await (const chunk of chunks) {
      if (signal?.aborted)
        throw new SwitchyardError('ERR_ABORTED', `[${this.path}] got an abort, expected to write`, {
          cause: signal.reason,
        });
      yield chunk;
      this.#written += chunk.length;
      onProgress?.({ written: this.#written, total: this.total, tensor });
      // Reading packed weights is work of this thread: others get their turn.
      await new Promise(setImmediate);
    }
  }
}
