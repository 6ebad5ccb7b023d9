/** One file from a hub to a blob of the cache: continues where it was broken off, and counts only with the right checksum. */
import { createHash, type Hash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, open, rename, rm, stat, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { mismatch, SwitchyardError } from '../core/errors.js';
import { type HubClient, type RemoteFile, Transient } from './client.js';

export interface Download {
  readonly id: string;
  readonly commit: string;
  readonly file: RemoteFile;
  /** Where the finished file goes; what there is of it lies beside, with '.incomplete' at its end. */
  readonly blob: string;
  /** Bytes that came or were there, negative where they had to be thrown away. */
  readonly onBytes: (count: number) => void;
  /** Milliseconds before the first new try; each further one waits twice as long. */
  readonly retryMs: number;
}

/** Tries in a row that come no further than those before. */
const MOST_TRIES = 5;
const LONGEST_WAIT_MS = 30_000;

/** @throws SwitchyardError ERR_IO where the connection keeps breaking, ERR_FORMAT for a wrong checksum */
export async function download(client: HubClient, job: Download): Promise<void> {
  const { file, blob, id } = job;
  await mkdir(dirname(blob), { recursive: true });
  if (await isWhole(blob, file.bytes)) {
    job.onBytes(file.bytes);
    return;
  }
  const part = `${blob}.incomplete`;
  const what = `${id}: ${file.name}`;
  let fresh = false;
  let furthest = await sizeOf(part);
  for (let tries = 0; ; ) {
    try {
      const digest = await attempt(client, job, part);
      if (digest === file.hash) break;
      job.onBytes(-file.bytes);
      await rm(part, { force: true });
      // What lay here from an earlier time may have been wrong: once more, from the start.
      if (fresh) {
        throw mismatch('ERR_FORMAT', what, `${file.algorithm} ${digest}`, file.hash, {
          hint: 'the hub, or something on the way, gave other bytes than it lists',
        });
      }
      fresh = true;
    } catch (error) {
      if (!(error instanceof Transient)) throw error;
      const there = await sizeOf(part);
      tries = there > furthest ? 1 : tries + 1;
      furthest = Math.max(furthest, there);
      if (tries >= MOST_TRIES) {
        throw mismatch('ERR_IO', what, error.message, 'a connection that holds', {
          cause: error,
          hint: 'the same command continues where it stopped',
        });
      }
      await wait(Math.min(job.retryMs * 2 ** (tries - 1), LONGEST_WAIT_MS), client.signal);
    }
  }
  await finish(part, blob, file.bytes);
}

async function wait(ms: number, signal: AbortSignal | undefined): Promise<void> {
  try {
    await sleep(ms, undefined, signal === undefined ? {} : { signal });
  } catch (cause) {
    throw new SwitchyardError('ERR_ABORTED', '[pull] got an abort, expected to finish', { cause });
  }
}

/** Downloads what is missing and returns the checksum of all. */
async function attempt(client: HubClient, job: Download, part: string): Promise<string> {
  const { id, commit, file, onBytes } = job;
  const hash = newHash(file);
  let at = await sizeOf(part);
  if (at > file.bytes) {
    await rm(part, { force: true });
    at = 0;
  }
  if (at > 0) for await (const chunk of createReadStream(part, { end: at - 1 })) hash.update(chunk as Buffer);
  let counted = at;
  onBytes(at);
  try {
    if (at === file.bytes) {
      if (at === 0) await writeFile(part, '');
      return hash.digest('hex');
    }
    const response = await client.open(id, commit, file.name, at);
    if (at > 0 && response.status !== 206) {
      // A server without ranges gives all of it again; 416 means that it knows another size.
      await response.body?.cancel().catch(() => undefined);
      await rm(part, { force: true });
      throw new Transient(`HTTP ${response.status} for a part of the file`);
    }
    checkRange(response, at);
    const handle = await open(part, at > 0 ? 'r+' : 'w');
    try {
      for await (const chunk of client.body(response)) {
        if (at + chunk.length > file.bytes) {
          await handle.truncate(0);
          throw mismatch(
            'ERR_FORMAT',
            `${id}: ${file.name}`,
            `more than ${file.bytes} bytes`,
            'as many as listed',
          );
        }
        hash.update(chunk);
        for (let done = 0; done < chunk.length; )
          done += (await handle.write(chunk, done, chunk.length - done, at + done)).bytesWritten;
        at += chunk.length;
        counted = at;
        onBytes(chunk.length);
      }
      await handle.sync();
    } finally {
      await handle.close();
    }
    if (at < file.bytes) throw new Transient(`${at} of ${file.bytes} bytes`);
    return hash.digest('hex');
  } catch (error) {
    // The next try counts what is there again.
    onBytes(-counted);
    throw error;
  }
}

/** A part that begins elsewhere than was asked for would only be found by its checksum, after all of it. */
function checkRange(response: Response, at: number): void {
  if (response.status !== 206) return;
  const [, start] = /^bytes (\d+)-/.exec(response.headers.get('content-range') ?? '') ?? [];
  if (start !== undefined && Number(start) !== at)
    throw new Transient(`bytes from ${start} instead of ${at}`);
}

/** Git hashes a small file behind its kind and length. */
function newHash({ algorithm, bytes }: RemoteFile): Hash {
  return algorithm === 'sha256' ? createHash('sha256') : createHash('sha1').update(`blob ${bytes}\0`);
}

async function finish(part: string, blob: string, bytes: number): Promise<void> {
  try {
    await rename(part, blob);
  } catch (error) {
    // Another process may have finished the same file in the meantime.
    if (!(await isWhole(blob, bytes))) throw error;
  }
}

const isWhole = async (blob: string, bytes: number): Promise<boolean> =>
  (await stat(blob).catch(() => undefined))?.size === bytes;

/** 0 for a file that is not there. */
async function sizeOf(path: string): Promise<number> {
  return (await stat(path).catch(() => undefined))?.size ?? 0;
}
