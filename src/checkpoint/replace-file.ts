import { randomBytes } from 'node:crypto';
import { type FileHandle, open, rename, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { Place } from './checked.js';
import { ioCode } from './file-reader.js';

/**
 * Writes a file that appears whole or not at all: `write` fills a temporary file beside it, which is flushed and then
 * renamed. Whatever fails, nothing is left behind.
 * @throws SwitchyardError ERR_IO where the system refuses; whatever `write` throws
 */
export async function replaceFile(path: string, write: (file: FileHandle) => Promise<void>): Promise<void> {
  const temporary = join(dirname(path), `.${basename(path)}.${randomBytes(6).toString('hex')}.tmp`);
  try {
    const file = await open(temporary, 'wx');
    try {
      await write(file);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
  } catch (cause) {
    await rm(temporary, { force: true });
    if (!(cause instanceof Error) || !('syscall' in cause)) throw cause;
    throw new Place(path).io(ioCode(cause), 'a file that can be written', { cause });
  }
  await syncFolder(dirname(path));
}

export async function writeAll(file: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length; ) at += (await file.write(bytes, at)).bytesWritten;
}

/** Makes the rename last through a power loss; some systems cannot open folders, and need nothing here. */
async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r').catch(() => undefined);
  if (handle === undefined) return;
  await handle.sync().catch(() => undefined);
  await handle.close();
}
