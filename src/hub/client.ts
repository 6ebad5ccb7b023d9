/** The two requests that downloading takes: what a repository holds, and the bytes of a file. */
import { mismatch, SwitchyardError } from '../core/errors.js';
import { checkFileName, isCommit, type Repository } from './repository.js';

export interface RemoteFile {
  readonly name: string;
  readonly bytes: number;
  /** SHA-256 of the content for large files, git's SHA-1 of it for small ones. */
  readonly hash: string;
  readonly algorithm: 'sha256' | 'git-sha1';
}

export interface Listing {
  readonly commit: string;
  readonly files: readonly RemoteFile[];
}

export interface HubOptions {
  /** Address of the hub, without a path of its own. */
  endpoint: string;
  /** Goes to the endpoint only, not to where it redirects. */
  token?: string | undefined;
  signal?: AbortSignal | undefined;
  /** Milliseconds without a byte after which a connection counts as broken. */
  stallMs?: number;
}

/** A listing of this size has about 100,000 files. */
const MOST_LISTING_BYTES = 64 << 20;
const STALL_MS = 60_000;

/** A failure that another try may not have. */
export class Transient extends Error {}

export class HubClient {
  readonly #options: HubOptions;

  constructor(options: HubOptions) {
    if (!/^https?:\/\//.test(options.endpoint) || !URL.canParse(options.endpoint)) {
      throw mismatch('ERR_OPTION', 'pull', `endpoint '${options.endpoint}'`, 'an http or https address', {
        hint: 'it comes from HF_ENDPOINT',
      });
    }
    this.#options = { ...options, endpoint: options.endpoint.replace(/\/+$/, '') };
  }

  get signal(): AbortSignal | undefined {
    return this.#options.signal;
  }

  /** @throws SwitchyardError ERR_FORMAT for an answer that is no listing, or has names that are not safe */
  async list({ id, revision }: Repository): Promise<Listing> {
    const url = `${this.#options.endpoint}/api/models/${id}/revision/${encodeURIComponent(revision)}?blobs=true`;
    const response = await this.#fetch(url, id, {});
    let text = '';
    const decoder = new TextDecoder();
    for await (const chunk of this.body(response)) {
      text += decoder.decode(chunk, { stream: true });
      if (text.length > MOST_LISTING_BYTES)
        throw mismatch('ERR_FORMAT', url, 'a listing without an end', `at most ${MOST_LISTING_BYTES} bytes`);
    }
    try {
      return listingOf(url, JSON.parse(text));
    } catch (cause) {
      if (!(cause instanceof SyntaxError)) throw cause;
      throw mismatch('ERR_FORMAT', url, 'an answer that is no JSON', 'a listing', { cause });
    }
  }

  /**
   * Opens a file from byte `from` on. The answer's status tells whether the server did so: 206, or 200 from the start.
   * @throws Transient for failures that may pass
   */
  async open(id: string, commit: string, file: string, from: number): Promise<Response> {
    const path = file.split('/').map(encodeURIComponent).join('/');
    const url = `${this.#options.endpoint}/${id}/resolve/${commit}/${path}`;
    // Compressed bytes are not the file's: ranges and checksums are of the file.
    const headers: Record<string, string> = { 'accept-encoding': 'identity' };
    if (from > 0) headers.range = `bytes=${from}-`;
    return this.#fetch(url, id, headers);
  }

  /** The bytes of an answer; a connection that says nothing for long is broken. */
  async *body(response: Response): AsyncGenerator<Uint8Array> {
    const reader = (response.body as ReadableStream<Uint8Array>).getReader();
    try {
      for (;;) {
        const { done, value } = await this.#inTime(reader.read());
        if (done) return;
        yield value;
      }
    } finally {
      await reader.cancel().catch(() => undefined);
    }
  }

  async #fetch(url: string, id: string, headers: Record<string, string>): Promise<Response> {
    const { token, signal } = this.#options;
    signal?.throwIfAborted();
    // On the way to another origin fetch leaves the token behind (the Fetch standard, HTTP-redirect fetch).
    const late = new AbortController();
    const request = fetch(url, {
      headers: { ...headers, ...(token === undefined ? {} : { authorization: `Bearer ${token}` }) },
      redirect: 'follow',
      signal: signal === undefined ? late.signal : AbortSignal.any([signal, late.signal]),
    });
    const response = await this.#inTime(request, () => late.abort());
    if (response.ok || response.status === 416) return response;
    await response.body?.cancel().catch(() => undefined);
    throw refusal(url, id, response.status, token !== undefined);
  }

  async #inTime<T>(promise: Promise<T>, onLate?: () => void): Promise<T> {
    const { signal, stallMs = STALL_MS } = this.#options;
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        reject(new Transient(`nothing for ${stallMs / 1000} s`));
        onLate?.();
      }, stallMs);
    });
    try {
      return await Promise.race([promise, late]);
    } catch (cause) {
      if (signal?.aborted) {
        throw new SwitchyardError('ERR_ABORTED', '[pull] got an abort, expected to finish', {
          cause: signal.reason,
        });
      }
      if (cause instanceof Transient) throw cause;
      const inner = (cause as { cause?: unknown }).cause;
      throw new Transient(inner instanceof Error ? inner.message : String(cause), { cause });
    } finally {
      clearTimeout(timer);
    }
  }
}

function refusal(url: string, id: string, status: number, hasToken: boolean): Error {
  if (status >= 500 || status === 429 || status === 408) return new Transient(`HTTP ${status}`);
  const hints: Record<number, string> = {
    401: `${id} may be private or misspelt; ${hasToken ? 'the token was not accepted' : 'HF_TOKEN holds the token of an account that may read it'}`,
    403: `the account of the token may not read ${id}; some models ask to accept their terms on their page first`,
    404: 'check the name, the revision and HF_ENDPOINT',
  };
  const hint = hints[status];
  return mismatch(
    'ERR_IO',
    url,
    `HTTP ${status}`,
    'a repository that may be read',
    hint === undefined ? {} : { hint },
  );
}

function listingOf(where: string, json: unknown): Listing {
  const { sha, siblings } = (json ?? {}) as { sha?: unknown; siblings?: unknown };
  if (typeof sha !== 'string' || !isCommit(sha) || !Array.isArray(siblings)) {
    throw mismatch(
      'ERR_FORMAT',
      where,
      'an answer without a commit and its files',
      'a listing of a repository',
    );
  }
  const files = siblings.map((each) => remoteFile(where, each));
  const names = new Set<string>();
  for (const { name } of files) {
    // Also on systems where upper and small letters are the same.
    const plain = name.normalize('NFC').toLowerCase();
    if (names.has(plain))
      throw mismatch('ERR_FORMAT', where, `${JSON.stringify(name)} twice`, 'each name once');
    names.add(plain);
  }
  return { commit: sha, files };
}

function remoteFile(where: string, json: unknown): RemoteFile {
  const { rfilename, size, blobId, lfs } = (json ?? {}) as Record<string, unknown>;
  const name = checkFileName(where, rfilename);
  const large = lfs as { sha256?: unknown; size?: unknown } | null | undefined;
  const [hash, bytes, algorithm] = large
    ? ([large.sha256, large.size ?? size, 'sha256'] as const)
    : ([blobId, size, 'git-sha1'] as const);
  const digits = algorithm === 'sha256' ? 64 : 40;
  const good = typeof hash === 'string' && hash.length === digits && /^[0-9a-f]+$/.test(hash);
  if (!good || !Number.isSafeInteger(bytes) || (bytes as number) < 0) {
    throw mismatch('ERR_FORMAT', where, `no size and checksum of ${name}`, 'both');
  }
  return { name, bytes: bytes as number, hash, algorithm };
}
