/**
 * The cache of downloaded files, laid out as the huggingface_hub and transformers libraries have it, so that all share it:
 * models--ORG--NAME/{blobs/HASH, snapshots/COMMIT/PATH → a blob, refs/REVISION holding a commit}.
 */
import { existsSync, readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { readEnv } from '../core/env.js';
import { mismatch } from '../core/errors.js';
import { checkFileName, isCommit, parseRepository, type Repository } from './repository.js';

/** The folder of the cache: HF_HUB_CACHE, else HF_HOME/hub, else ~/.cache/huggingface/hub. */
export function hubCacheFolder(): string {
  const { hubCache, hubHome, cacheHome = '~/.cache' } = readEnv();
  const folder = hubCache ?? join(hubHome ?? join(cacheHome, 'huggingface'), 'hub');
  return folder.replace(/^~(?=\/|$)/, () => homedir());
}

/** Where the files of one repository lie. */
export class RepositoryCache {
  readonly folder: string;

  constructor(
    readonly repository: Repository,
    cacheFolder = hubCacheFolder(),
  ) {
    this.folder = join(cacheFolder, `models--${repository.id.replaceAll('/', '--')}`);
  }

  blob(hash: string): string {
    return join(this.folder, 'blobs', hash);
  }

  snapshot(commit: string): string {
    return join(this.folder, 'snapshots', commit);
  }

  get ref(): string {
    return join(this.folder, 'refs', ...this.repository.revision.split('/'));
  }

  /** The folder of the revision, where it was downloaded. */
  find(): string | undefined {
    const { revision } = this.repository;
    const commit = isCommit(revision) ? revision : this.#readRef();
    if (commit === undefined) return undefined;
    const folder = this.snapshot(commit);
    return existsSync(folder) ? folder : undefined;
  }

  #readRef(): string | undefined {
    if (!existsSync(this.ref)) return undefined;
    const commit = readFileSync(this.ref, 'utf8').trim();
    return isCommit(commit) ? commit : undefined;
  }
}

/**
 * The path of a model: as it stands where there is such a file or folder; else what `org/name`, `org/name@revision` or
 * `org/name/file` means in the cache. Nothing is downloaded.
 * @throws SwitchyardError ERR_IO for a name of a repository that the cache has not
 */
export function locateModel(path: string): string {
  if (existsSync(path) || (/\.(gguf|safetensors|switchyard)$/.test(path) && path.split('/').length < 3))
    return path;
  const [org = '', name, ...file] = path.split('/');
  const repository = name === undefined ? undefined : parseRepository(`${org}/${name}`);
  if (repository === undefined) return path;
  const cacheFolder = hubCacheFolder();
  const folder = new RepositoryCache(repository, cacheFolder).find();
  if (folder !== undefined)
    return file.length === 0 ? folder : join(folder, checkFileName(path, file.join('/')));
  throw mismatch('ERR_IO', path, 'no such file or folder, and no such repository in the cache', 'a model', {
    hint: `'switchyard pull ${org}/${name}' downloads it to ${cacheFolder}`,
  });
}
