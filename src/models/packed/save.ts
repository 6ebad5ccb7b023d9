/** Writes a decoder as a packed file. */
import { type MatrixToWrite, type PackedContent, writePacked } from '../../checkpoint/packed-write.js';
import type { Device } from '../../core/device.js';
import { checkOptions, SwitchyardError } from '../../core/errors.js';
import { Weight } from '../../core/weight.js';
import type { Matrix } from '../../nn/linear.js';
import type { Tokenizer } from '../../text/tokenizer.js';
import type { DecoderConfig } from '../decoder/config.js';
import type { Decoder } from '../decoder/decoder.js';
import { PartList, type VectorPart } from '../parts.js';
import { packValues } from '../read/weights.js';
import { plainConfig } from './plain-config.js';

export interface SaveProgress {
  /** Bytes of the file written so far, and in all. */
  readonly written: number;
  readonly total: number;
  readonly tensor: string;
}

export interface SaveOptions {
  onProgress?: (progress: SaveProgress) => void;
  signal?: AbortSignal;
}

/** @throws SwitchyardError ERR_IO where the system refuses, ERR_UNSUPPORTED for parts that the file has no place for */
export async function saveDecoder(
  decoder: Decoder,
  tokenizer: Tokenizer,
  device: Device,
  path: string,
  options: SaveOptions = {},
): Promise<void> {
  checkOptions('save', options, ['onProgress', 'signal']);
  const { addon } = device;
  const { matrices, vectors } = new PartList(decoder);
  const made: Weight[] = [];
  const weights = new Map<MatrixToWrite, Weight>();
  try {
    for (const { name, matrix } of matrices) {
      const weight = matrix instanceof Weight ? matrix : await packed(device, matrix);
      if (weight !== matrix) made.push(weight);
      const { format, experts, rows, columns, bytes } = weight;
      const { repeated } = addon.weightInfo(weight.native);
      weights.set({ name, format, experts, rows, columns, repeated, bytes }, weight);
    }
    const content: ModelContent = {
      config: decoder.config,
      tokenizer,
      vectors,
      matrices: [...weights.keys()],
      read: (matrix, offset, target) =>
        addon.copyWeight((weights.get(matrix) as Weight).native, offset, target),
    };
    await writeModel(path, content, options);
  } finally {
    for (const { native } of made) addon.disposeWeight(native);
  }
}

/** A model whose matrices are made or copied when their turn to be written comes. */
export interface ModelContent extends Pick<PackedContent, 'matrices' | 'read'> {
  readonly config: DecoderConfig;
  readonly tokenizer: Tokenizer;
  readonly vectors: readonly VectorPart[];
}

/** @throws SwitchyardError ERR_IO where the system refuses, ERR_ABORTED */
export async function writeModel(
  path: string,
  { config, tokenizer, vectors, matrices, read }: ModelContent,
  { onProgress, signal }: SaveOptions,
): Promise<void> {
  try {
    await writePacked(
      path,
      {
        config: plainConfig(config),
        endIds: tokenizer.endIds,
        tokenizer: tokenizer.files,
        vectors: await Promise.all(
          vectors.map(async ({ name, vector }) => ({
            name,
            values: Float32Array.from((await vector.data()) as Float32Array),
          })),
        ),
        matrices,
        read,
      },
      {
        signal,
        onProgress: onProgress && ((written, total, tensor) => onProgress({ written, total, tensor })),
      },
    );
  } catch (error) {
    if (!signal?.aborted) throw error;
    throw new SwitchyardError('ERR_ABORTED', `[${path}] got an abort, expected to write`, {
      cause: signal.reason,
    });
  }
}

/** An ordinary tensor [N, K] or [E, N, K] as a weight of float32. */
async function packed(device: Device, matrix: Exclude<Matrix, Weight>): Promise<Weight> {
  const [columns = 1, rows = 1, experts = 1] = [...matrix.shape].reverse();
  const values = await matrix.data();
  return packValues(device, Float32Array.from(values as Float32Array), rows, columns, experts);
}
