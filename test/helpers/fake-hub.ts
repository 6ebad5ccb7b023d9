import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');
const gitSha1 = (bytes: Uint8Array): string =>
  createHash('sha1').update(`blob ${bytes.length}\0`).update(bytes).digest('hex');

export interface FakeFile {
  bytes: Buffer;
  /** Stored as a large file: its checksum is SHA-256. */
  large?: boolean;
  /** What the listing says instead of the truth. */
  listed?: Record<string, unknown>;
}

type Handler = (request: IncomingMessage, response: ServerResponse) => void;

/** A hub on 127.0.0.1 with one repository, org/tiny. What `before` handles, the hub does not see. */
export class FakeHub {
  readonly commit = 'c0ffee'.padEnd(40, '0');
  readonly files = new Map<string, FakeFile>();
  /** Method, path and the headers that matter of each request, in order. */
  readonly requests: { path: string; range?: string; authorization?: string }[] = [];
  /** Bytes after which an answer breaks off, once for each number. */
  readonly breaks: number[] = [];
  ranges = true;
  listing: unknown;
  before: ((path: string, response: ServerResponse) => boolean) | undefined;
  readonly #server: Server;

  private constructor() {
    this.#server = createServer((request, response) => this.#answer(request, response));
  }

  static async start(): Promise<FakeHub> {
    const hub = new FakeHub();
    await listen(hub.#server);
    return hub;
  }

  get endpoint(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  add(name: string, content: string | Buffer, options: Omit<FakeFile, 'bytes'> = {}): void {
    this.files.set(name, { bytes: Buffer.from(content), ...options });
  }

  hashOf(name: string): string {
    const { bytes, large } = this.files.get(name)!;
    return large ? sha256(bytes) : gitSha1(bytes);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await close(this.#server);
  }

  readonly #answer: Handler = (request, response) => {
    const path = decodeURIComponent(request.url ?? '');
    const { range, authorization } = request.headers;
    this.requests.push({ path, ...(range && { range }), ...(authorization && { authorization }) });
    if (this.before?.(path, response)) return;
    if (path.startsWith('/api/models/org/tiny/revision/')) {
      response.setHeader('content-type', 'application/json');
      response.end(JSON.stringify(this.listing ?? this.#list()));
      return;
    }
    const file = this.files.get(path.replace(`/org/tiny/resolve/${this.commit}/`, ''));
    if (file === undefined) {
      response.writeHead(404).end();
      return;
    }
    this.#send(file.bytes, this.ranges ? range : undefined, response);
  };

  #list(): unknown {
    const siblings = [...this.files].map(([rfilename, { bytes, large, listed }]) => ({
      rfilename,
      size: bytes.length,
      blobId: gitSha1(bytes),
      ...(large ? { lfs: { sha256: sha256(bytes), size: bytes.length, pointerSize: 134 } } : {}),
      ...listed,
    }));
    return { sha: this.commit, siblings };
  }

  #send(bytes: Buffer, range: string | undefined, response: ServerResponse): void {
    const from = Number(/bytes=(\d+)-/.exec(range ?? '')?.[1] ?? 0);
    if (range !== undefined) {
      if (from >= bytes.length) {
        response.writeHead(416).end();
        return;
      }
      response.writeHead(206, { 'content-range': `bytes ${from}-${bytes.length - 1}/${bytes.length}` });
    } else response.writeHead(200, { 'content-length': bytes.length });
    const rest = bytes.subarray(range === undefined ? 0 : from);
    const stop = this.breaks.shift();
    if (stop === undefined) response.end(rest);
    else response.write(rest.subarray(0, stop), () => response.destroy());
  }
}

/** Any other server on 127.0.0.1. */
export async function serve(handler: Handler): Promise<{ origin: string } & AsyncDisposable> {
  const server = createServer(handler);
  await listen(server);
  return {
    origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    [Symbol.asyncDispose]: () => close(server),
  };
}

const listen = (server: Server): Promise<void> =>
  new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));

function close(server: Server): Promise<void> {
  server.closeAllConnections();
  return new Promise((resolve) => server.close(() => resolve()));
}
