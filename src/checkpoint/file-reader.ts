import { isUtf8 } from 'node:buffer';
import { closeSync, fstatSync, openSync, readSync, statSync } from 'node:fs';
import { Place } from './checked.js';

/** Bytes fetched at a time: large enough that the calls cost nothing, small beside any vocabulary. */
const chunkBytes = 1 << 20;

/** What went wrong in a file system call, in words: `ENOENT`. */
export function ioCode(error: unknown): string {
  if (error instanceof Error && 'code' in error && typeof error.code === 'string') return error.code;
  return String(error);
}

/** Size in bytes of a regular file; ERR_IO for anything else (a directory, a pipe, nothing at all). */
export function fileSize(path: string): number {
  const place = new Place(path);
  try {
    const stat = statSync(path);
    if (stat.isFile()) return stat.size;
  } catch (cause) {
    throw place.io(ioCode(cause), 'a readable file', { cause });
  }
  throw place.io('something that is not a file', 'a regular file');
}

/** Opens `path`, hands a reader to `use` and closes the file whatever happens. */
export function withReader<T>(path: string, use: (reader: FileReader) => T): T {
  fileSize(path);
  const place = new Place(path);
  let fd: number;
  try {
    fd = openSync(path, 'r');
  } catch (cause) {
    throw place.io(ioCode(cause), 'a readable file', { cause });
  }
  try {
    return use(new FileReader(path, fd, fstatSync(fd).size));
  } finally {
    closeSync(fd);
  }
}

/**
 * Reads little-endian values one after another through a window of the file. Every method throws ERR_FORMAT where
 * the file ends too early, before it allocates anything for the value.
 */
export class FileReader {
  readonly path: string;
  readonly size: number;
  /** What errors name; set it before reading a part. */
  place: Place;
  readonly #fd: number;
  #window = Buffer.alloc(0);
  #windowStart = 0; // absolute
  #at = 0; // in the window
  #limit = Number.POSITIVE_INFINITY;

  constructor(path: string, fd: number, size: number) {
    this.path = path;
    this.size = size;
    this.place = new Place(path);
    this.#fd = fd;
  }

  /** Absolute byte that is read next. */
  get offset(): number {
    return this.#windowStart + this.#at;
  }

  get remaining(): number {
    return this.size - this.offset;
  }

  /** Refuses from now on to fetch anything that ends beyond the first `bytes` bytes of the file. */
  limit(bytes: number): void {
    this.#limit = bytes;
  }

  /** The byte that is read next. */
  seek(offset: number): void {
    const at = offset - this.#windowStart;
    if (at >= 0 && at <= this.#window.length) {
      this.#at = at;
      return;
    }
    this.#window = Buffer.alloc(0);
    this.#windowStart = offset;
    this.#at = 0;
  }

  u8(what: string): number {
    return this.#window.readUInt8(this.#take(1, what));
  }

  u32(what: string): number {
    return this.#window.readUInt32LE(this.#take(4, what));
  }

  /** A count, length or offset: an unsigned 64-bit integer below 2^53. */
  u64(what: string): number {
    const at = this.#take(8, what);
    const high = this.#window.readUInt32LE(at + 4);
    const low = this.#window.readUInt32LE(at);
    if (high >= 1 << 21)
      throw this.place.format(`${what} ${this.#window.readBigUInt64LE(at)}`, 'less than 2^53');
    return high * 2 ** 32 + low;
  }

  /** `length` bytes; a view that is good until the next read. */
  bytes(length: number, what: string): Buffer {
    const at = this.#take(length, what);
    return this.#window.subarray(at, at + length);
  }

  /** Strict UTF-8 text of `length` bytes. */
  text(length: number, what: string): string {
    const at = this.#take(length, what);
    const text = this.#window.toString('utf8', at, at + length);
    // A bad byte decodes to U+FFFD, so only texts that hold one need the exact check.
    if (text.includes('\ufffd') && !isUtf8(this.#window.subarray(at, at + length))) {
      throw this.place.format(`${what} with bytes that are not UTF-8`, 'UTF-8 text');
    }
    return text;
  }

  /** Moves past `length` bytes that are in the window, and returns where they start in it. */
  #take(length: number, what: string): number {
    if (this.#at + length > this.#window.length) this.#fetch(length, what);
    const at = this.#at;
    this.#at += length;
    return at;
  }

  #fetch(length: number, what: string): void {
    const { offset, remaining } = this;
    if (length > remaining) {
      throw this.place.format(
        `a file that ends at byte ${this.size}`,
        `${what} of ${length} bytes at byte ${offset}`,
        'the file is truncated or damaged: fetch it again',
      );
    }
    if (offset + length > this.#limit) {
      throw this.place.format(`a header beyond byte ${this.#limit}`, 'a smaller header');
    }
    const window = Buffer.allocUnsafe(Math.max(length, Math.min(chunkBytes, remaining)));
    let filled = 0;
    while (filled < window.length) {
      let got: number;
      try {
        got = readSync(this.#fd, window, filled, window.length - filled, offset + filled);
      } catch (cause) {
        throw this.place.io(ioCode(cause), `bytes at ${offset + filled}`, { cause });
      }
      if (got === 0) throw this.place.io('a file that became shorter', `${this.size} bytes`);
      filled += got;
    }
    this.#window = window;
    this.#windowStart = offset;
    this.#at = 0;
  }
}
