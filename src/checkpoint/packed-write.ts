/** Writes a packed file: header, tokenizer, vectors, and the bytes of each matrix as they lie in memory. */
import type { FileHandle } from 'node:fs/promises';
import { addon } from '../core/addon.js';
import {
  byteOrderMark,
  matrixAlign,
  type PackedMatrix,
  type PackedVector,
  packedFileVersion,
  packedMagic,
  preambleBytes,
  vectorAlign,
} from './packed-layout.js';
import { replaceFile, writeAll } from './replace-file.js';

export interface VectorToWrite {
  readonly name: string;
  readonly values: Float32Array;
}

export type MatrixToWrite = Omit<PackedMatrix, 'offset'>;

export interface PackedContent {
  /** The model's config as plain data. */
  readonly config: object;
  readonly endIds: readonly number[];
  /** The content of the tokenizer's files. */
  readonly tokenizer: object;
  readonly vectors: readonly VectorToWrite[];
  readonly matrices: readonly MatrixToWrite[];
  /** Fills `target` with the packed bytes of a matrix from `offset` on. */
  read(matrix: MatrixToWrite, offset: number, target: Uint8Array): void | Promise<void>;
}

export interface WritePackedOptions {
  readonly onProgress?: ((written: number, total: number, tensor: string) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Bytes of one write, from multiples of it on: two huge pages. File systems with large pages in their cache (ext4 from
 * Linux 6.16, xfs) then keep the file in huge pages, and its mapping is as quick to read as memory of one's own.
 */
const STEP = 4 << 20;

/** The file appears whole or not at all. @throws SwitchyardError ERR_IO where the system refuses */
export async function writePacked(
  path: string,
  content: PackedContent,
  { onProgress, signal }: WritePackedOptions = {},
): Promise<void> {
  const { head, vectors, matrices, bytes } = layOut(content);
  await replaceFile(path, async (file) => {
    const out = new StepWriter(file);
    let name = '';
    const put = async (length: number, fill: (at: number, target: Uint8Array) => void | Promise<void>) => {
      for (let at = 0; at < length; ) {
        signal?.throwIfAborted();
        const target = out.room(length - at);
        await fill(at, target);
        at += target.length;
        if (await out.took(target.length)) onProgress?.(out.written, bytes, name);
      }
    };
    const padTo = (offset: number) => put(offset - out.offset, (_, target) => void target.fill(0));
    const putBytes = (data: Uint8Array) =>
      put(data.length, (at, target) => target.set(data.subarray(at, at + target.length)));
    await putBytes(head);
    for (const [i, { offset }] of vectors.entries()) {
      const { values } = content.vectors[i] as VectorToWrite;
      await padTo(offset);
      await putBytes(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
    }
    for (const [i, { offset, bytes: length }] of matrices.entries()) {
      const matrix = content.matrices[i] as MatrixToWrite;
      name = matrix.name;
      await padTo(offset);
      await put(length, (at, target) => content.read(matrix, at, target));
    }
    await padTo(bytes);
    await out.flush();
    onProgress?.(out.written, bytes, name);
  });
}

/** Collects bytes to writes of STEP at multiples of STEP. */
class StepWriter {
  readonly #buffer = new Uint8Array(STEP);
  #used = 0;
  written = 0;

  constructor(readonly file: FileHandle) {}

  get offset(): number {
    return this.written + this.#used;
  }

  /** Where the next bytes go: `wanted` of them at most. */
  room(wanted: number): Uint8Array {
    return this.#buffer.subarray(this.#used, Math.min(STEP, this.#used + wanted));
  }

  /** `length` bytes of room() are filled. Resolves to whether they were written. */
  async took(length: number): Promise<boolean> {
    this.#used += length;
    if (this.#used < STEP) return false;
    await this.flush();
    return true;
  }

  async flush(): Promise<void> {
    await writeAll(this.file, this.#buffer.subarray(0, this.#used));
    this.written += this.#used;
    this.#used = 0;
  }
}

interface Layout {
  /** Preamble, header and tokenizer. */
  readonly head: Buffer;
  readonly vectors: readonly PackedVector[];
  readonly matrices: readonly PackedMatrix[];
  /** Of the whole file. */
  readonly bytes: number;
}

const alignUp = (offset: number, align: number): number => Math.ceil(offset / align) * align;

function layOut(content: PackedContent): Layout {
  const tokenizer = Buffer.from(JSON.stringify(content.tokenizer));
  // Offsets stand in the header, whose length depends on them: so much room is kept for it that they fit.
  const upper = Buffer.byteLength(headerText(content, assign(content, Number.MAX_SAFE_INTEGER / 2)));
  const tables = assign(content, preambleBytes + upper + tokenizer.length);
  const header = Buffer.alloc(upper, ' ');
  header.write(headerText(content, tables));
  const bytes = alignUp(tables.end, matrixAlign);

  const preamble = Buffer.alloc(preambleBytes);
  packedMagic.copy(preamble);
  const words = [byteOrderMark, packedFileVersion, addon().packVersion, 0];
  for (const [i, word] of words.entries()) preamble.writeUInt32LE(word, 8 + 4 * i);
  for (const [i, length] of [header.length, tokenizer.length, bytes].entries())
    preamble.writeBigUInt64LE(BigInt(length), 24 + 8 * i);
  return { head: Buffer.concat([preamble, header, tokenizer]), ...tables, bytes };
}

type Tables = Pick<Layout, 'vectors' | 'matrices'> & { readonly end: number };

/** Offsets of all tensors from `start` on: vectors first, close together, so that they are read at once. */
function assign({ vectors, matrices }: PackedContent, start: number): Tables {
  let end = start;
  const next = (align: number, bytes: number): number => {
    const offset = alignUp(end, align);
    end = offset + bytes;
    return offset;
  };
  return {
    vectors: vectors.map(({ name, values }) => ({
      name,
      size: values.length,
      offset: next(vectorAlign, values.byteLength),
    })),
    matrices: matrices.map(({ name, format, experts, rows, columns, repeated, bytes }) => ({
      name,
      format,
      experts,
      rows,
      columns,
      repeated,
      offset: next(matrixAlign, bytes),
      bytes,
    })),
    end,
  };
}

function headerText({ config, endIds }: PackedContent, { vectors, matrices }: Tables): string {
  const tensors = [
    ...vectors,
    // Left out where it is false, as in nearly all files.
    ...matrices.map(({ repeated, ...rest }) => (repeated ? { ...rest, repeated } : rest)),
  ];
  return JSON.stringify({ producer: `switchyard ${addon().version}`, config, end_ids: endIds, tensors });
}
