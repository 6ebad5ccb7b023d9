/** The bytes of a packed file, which its reader and its writer share (docs/packed-file.md). */
import type { WeightFormat } from '../core/format.js';

/** Ends of lines and a byte above 127 show at once where a file was sent as text (as in PNG). */
export const packedMagic = Buffer.from('\x89SWY\r\n\x1a\n', 'latin1');
/** Of this layout of the file; the layout of weights in memory has a version of its own (addon.packVersion). */
export const packedFileVersion = 2;
/** Little-endian, as everything in the file. */
export const byteOrderMark = 0x01020304;
export const preambleBytes = 48;
/** Of matrices: a page, so that each can be mapped by itself. */
export const matrixAlign = 4096;
/** Of vectors. */
export const vectorAlign = 64;

/** Rows of float32 that are no weights: norms and biases. */
export interface PackedVector {
  readonly name: string;
  readonly size: number;
  readonly offset: number;
}

export interface PackedMatrix {
  readonly name: string;
  readonly format: WeightFormat;
  readonly experts: number;
  readonly rows: number;
  readonly columns: number;
  /** All experts are one matrix, which is stored once. */
  readonly repeated: boolean;
  readonly offset: number;
  /** Of the packed weight; of one expert where it is repeated. */
  readonly bytes: number;
}
