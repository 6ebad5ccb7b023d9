/** A folder of packed files: the first load of a model writes one, later loads map it. */
import { createHash } from 'node:crypto';
import { closeSync, openSync, readdirSync, readSync, realpathSync, statSync } from 'node:fs';
import { mkdir, readdir, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { ggufMagic } from '../../checkpoint/gguf.js';
import { packedFileVersion, packedMagic } from '../../checkpoint/packed-layout.js';
import type { Device } from '../../core/device.js';
import { SwitchyardError } from '../../core/errors.js';
import type { Tokenizer } from '../../text/tokenizer.js';
import type { Decoder } from '../decoder/decoder.js';
import type { ModelFiles } from '../family.js';
import { openModel } from '../read/load.js';
import { saveDecoder } from './save.js';

/** What a cached file may fail with because it is stale, cut or of another version: it is written anew then. */
const UNUSABLE = new Set(['ERR_FORMAT', 'ERR_IO', 'ERR_UNSUPPORTED', 'ERR_UNSUPPORTED_ARCH']);
export const isUnusable = (error: unknown): boolean =>
  error instanceof SwitchyardError && UNUSABLE.has(error.code);

/** The place of one model in the folder. */
export class PackedCache {
  private constructor(
    readonly path: string,
    readonly folder: string,
    /** Of all files that ever stood for this path. */
    readonly prefix: string,
    /** Changes with the model's files. */
    readonly state: string,
    readonly device: Device,
  ) {}

  /** Null for a model that needs none: a packed file, or nothing at all. */
  static of(path: string, folder: string, device: Device): PackedCache | null {
    try {
      const real = realpathSync(path);
      if (isPacked(real)) return null;
      const label = basename(real)
        .replace(/[^\w.-]/g, '_')
        .slice(0, 80);
      return new PackedCache(path, folder, `${label}-${hash(real)}-`, stateOf(real, device), device);
    } catch {
      return null; // opening the model says what is wrong
    }
  }

  get file(): string {
    return join(this.folder, `${this.prefix}${this.state}.switchyard`);
  }

  /** The cached file, or null where there is none that can be used. */
  open(): ModelFiles | null {
    try {
      return openModel(this.file);
    } catch (error) {
      if (isUnusable(error)) return null;
      throw error;
    }
  }

  /**
   * Writes the model that was loaded, and removes what stood for the path before. A folder that cannot be written costs
   * the next start its speed, not this one its model: it is a warning of the process.
   */
  async write(decoder: Decoder, tokenizer: Tokenizer, signal: AbortSignal | undefined): Promise<void> {
    // Files that changed while they were loaded belong under no key.
    if (PackedCache.of(this.path, this.folder, this.device)?.state !== this.state) return;
    try {
      await mkdir(this.folder, { recursive: true });
      await saveDecoder(decoder, tokenizer, this.device, this.file, signal ? { signal } : {});
      for (const name of await readdir(this.folder)) {
        const old = name.startsWith(this.prefix) && name.endsWith('.switchyard');
        if (old && name !== basename(this.file)) await rm(join(this.folder, name), { force: true });
      }
    } catch (error) {
      if (signal?.aborted) throw error;
      process.emitWarning(`[packedCache] could not write ${this.file}: ${String(error)}`);
    }
  }
}

const hash = (text: string): string => createHash('sha256').update(text).digest('hex').slice(0, 16);

/** Size and time of the files that make the model, and the versions of what is written. */
function stateOf(path: string, device: Device): string {
  const gguf = startsWith(path, Buffer.from(ggufMagic));
  const folder = gguf ? null : statSync(path).isDirectory() ? path : dirname(path);
  const names = folder === null ? [path] : readdirSync(folder).map((name) => join(folder, name));
  const facts = names.sort().map((name) => {
    const { size, mtimeNs } = statSync(name, { bigint: true });
    return [name, `${size}`, `${mtimeNs}`];
  });
  return hash(JSON.stringify([packedFileVersion, device.addon.packVersion, device.addon.version, facts]));
}

const isPacked = (path: string): boolean => startsWith(path, packedMagic);

function startsWith(path: string, magic: Buffer): boolean {
  if (!statSync(path).isFile()) return false;
  const file = openSync(path, 'r');
  try {
    const head = Buffer.alloc(magic.length);
    return readSync(file, head, 0, head.length, 0) === head.length && head.equals(magic);
  } finally {
    closeSync(file);
  }
}
