/** Downloads a repository to the cache. */
import { copyFile, mkdir, rm, symlink, writeFile } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { readEnv } from '../core/env.js';
import { checkOptions, mismatch, SwitchyardError } from '../core/errors.js';
import { hubCacheFolder, RepositoryCache } from './cache.js';
import { HubClient, type Listing, Transient } from './client.js';
import { download } from './download.js';
import { DEFAULT_REVISION, isRevision, parseRepository, type Repository } from './repository.js';
import { selectFiles } from './select.js';

export interface PullProgress {
  /** Bytes that are there, and of all files together. */
  readonly loaded: number;
  readonly total: number;
}

export interface PullOptions {
  /** A branch, a tag or a commit. Default 'main'. */
  revision?: string;
  /** Patterns of files (`*` is anything, `?` one character). Default: what loading takes. */
  include?: readonly string[];
  /** Default: HF_TOKEN. */
  token?: string;
  /** Address of the hub. Default: HF_ENDPOINT, else https://huggingface.co. */
  endpoint?: string;
  /** Default: HF_HUB_CACHE, else HF_HOME/hub, else ~/.cache/huggingface/hub. */
  cacheFolder?: string;
  signal?: AbortSignal;
  onProgress?: (progress: PullProgress) => void;
  /** Milliseconds without a byte after which a connection counts as broken. Default 60,000. */
  stallMs?: number;
  /** Milliseconds before a broken connection is tried again, doubled each time. Default 1000. */
  retryMs?: number;
}

export interface PullResult {
  /** The folder with the files, which `loadModel` takes; so does the name of the repository. */
  readonly folder: string;
  readonly commit: string;
  readonly files: readonly { readonly name: string; readonly bytes: number }[];
}

const OPTIONS = [
  'revision',
  'include',
  'token',
  'endpoint',
  'cacheFolder',
  'signal',
  'onProgress',
  'stallMs',
  'retryMs',
];
const DEFAULT_ENDPOINT = 'https://huggingface.co';
/** Files at the same time. */
const LANES = 4;

/**
 * Downloads the files of a model from a hub into the cache that transformers shares. What is there already stays; what was
 * broken off continues. Every file is checked against the hub's checksum before it counts.
 * @param id 'org/name', or with '@revision'
 * @throws SwitchyardError ERR_OPTION for a name that can be none, ERR_IO for what the hub refuses or the connection breaks,
 *   ERR_FORMAT for wrong checksums and unsafe file names
 */
export async function pull(id: string, options: PullOptions = {}): Promise<PullResult> {
  checkOptions('pull', options, OPTIONS);
  const repository = repositoryOf(id, options.revision);
  const env = readEnv();
  const { signal, stallMs } = options;
  const client = new HubClient({
    endpoint: options.endpoint ?? env.hubEndpoint ?? DEFAULT_ENDPOINT,
    token: options.token ?? env.hubToken,
    signal,
    ...(stallMs === undefined ? {} : { stallMs }),
  });
  const { commit, files: all } = await listed(client, repository);
  const files = selectFiles(repository.id, all, options.include);
  const cache = new RepositoryCache(repository, options.cacheFolder ?? hubCacheFolder());
  const total = files.reduce((sum, { bytes }) => sum + bytes, 0);
  let loaded = 0;
  const onBytes = (count: number) => {
    loaded += count;
    options.onProgress?.({ loaded, total });
  };
  const retryMs = options.retryMs ?? 1000;
  const jobs = [...new Map(files.map((file) => [file.hash, file])).values()].map((file) => ({
    id: repository.id,
    commit,
    file,
    blob: cache.blob(file.hash),
    onBytes,
    retryMs,
  }));
  await inLanes(jobs, (job) => download(client, job));
  const folder = cache.snapshot(commit);
  for (const file of files) await link(cache.blob(file.hash), join(folder, ...file.name.split('/')));
  if (repository.revision !== commit) {
    await mkdir(dirname(cache.ref), { recursive: true });
    await writeFile(cache.ref, commit);
  }
  return { folder, commit, files: files.map(({ name, bytes }) => ({ name, bytes })) };
}

function repositoryOf(id: string, revision: string | undefined): Repository {
  const repository = parseRepository(id);
  if (repository === undefined) {
    throw mismatch('ERR_OPTION', 'pull', `'${id}'`, 'a repository, such as org/name');
  }
  if (revision === undefined) return repository;
  if (repository.revision !== DEFAULT_REVISION || !isRevision(revision)) {
    throw mismatch('ERR_OPTION', 'pull', `revision '${revision}' of '${id}'`, 'one branch, tag or commit');
  }
  return { ...repository, revision };
}

async function listed(client: HubClient, repository: Repository): Promise<Listing> {
  try {
    return await client.list(repository);
  } catch (cause) {
    if (!(cause instanceof Transient)) throw cause;
    throw new SwitchyardError(
      'ERR_IO',
      `[pull ${repository.id}] got ${cause.message}, expected a hub that answers`,
      {
        cause,
        hint: 'HF_ENDPOINT names the hub; default https://huggingface.co',
      },
    );
  }
}

/** Some jobs at a time; the first failure stops the others from beginning, and is thrown when all have ended. */
async function inLanes<T>(jobs: readonly T[], run: (job: T) => Promise<void>): Promise<void> {
  const queue = [...jobs];
  const failures: unknown[] = [];
  const lane = async () => {
    for (let job = queue.shift(); job !== undefined; job = queue.shift()) {
      await run(job).catch((error: unknown) => {
        failures.push(error);
        queue.length = 0;
      });
    }
  };
  await Promise.all(Array.from({ length: LANES }, lane));
  if (failures.length > 0) throw failures[0];
}

/** A relative link, as the other libraries write it; a copy where the system allows no links. */
async function link(blob: string, path: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  await rm(path, { force: true });
  try {
    await symlink(relative(dirname(path), blob), path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EPERM') throw error;
    await copyFile(blob, path);
  }
}
