// The decoders of tokenizer.json as a chain of stages that take one token at a time: what a stage cannot settle yet it
// keeps, so that the pieces, joined, are the text of all tokens. Semantics: the `tokenizers` library (decoders/*.rs).

/** A token on its way to text; `added` tokens stand for themselves, also in byte-level vocabularies. */
export interface TokenPiece {
  readonly text: string;
  readonly added: boolean;
}

/** One run through the tokens of one text. */
export interface DecodeChain {
  push(piece: TokenPiece): string;
  /** The rest, after the last token. */
  end(): string;
}

export interface DecodeOptionsOfFile {
  /** Take the blank before punctuation out of the finished text. */
  readonly cleanUp: boolean;
  /** Decodes all tokens at once; used for decoders that have no stage here. */
  readonly whole: (tokens: string[]) => string;
}

interface Sink {
  push(token: string, added: boolean): void;
  end(): void;
}

type Link = (next: Sink) => Sink;

/**
 * Reads the `decoder` part of a tokenizer.json and returns a maker of chains. Every stage keeps a bounded rest, with two
 * exceptions: a run of byte tokens is kept until it ends, because one invalid byte turns the whole run into U+FFFD, and a
 * decoder without a stage here (CTC, patterns other than a plain string) gives its text only at the end.
 */
export function decodeChains(decoder: unknown, options: DecodeOptionsOfFile): () => DecodeChain {
  const links = linksOf(decoder);
  if (links === undefined) return () => wholeChain(options);
  if (options.cleanUp) {
    for (const [from, to] of cleanUpRules) links.push((next) => new ReplaceStage(next, from, to));
  }
  return () => {
    let text = '';
    let sink: Sink = {
      push: (token) => {
        text += token;
      },
      end: () => {},
    };
    for (const link of links.toReversed()) sink = link(sink);
    const take = () => {
      const taken = text;
      text = '';
      return taken;
    };
    return {
      push: (piece) => {
        sink.push(piece.text, piece.added);
        return take();
      },
      end: () => {
        sink.end();
        return take();
      },
    };
  };
}

function wholeChain(options: DecodeOptionsOfFile): DecodeChain {
  const tokens: string[] = [];
  return {
    push: (piece) => {
      tokens.push(piece.text);
      return '';
    },
    end: () => {
      const text = tokens.length === 0 ? '' : options.whole(tokens);
      return options.cleanUp ? cleanUpText(text) : text;
    },
  };
}

interface DecoderConfig {
  type?: unknown;
  decoders?: unknown;
  pattern?: { String?: unknown };
  content?: unknown;
  start?: unknown;
  stop?: unknown;
  prefix?: unknown;
  cleanup?: unknown;
  replacement?: unknown;
  prepend_scheme?: unknown;
  suffix?: unknown;
}

/** The stages of a decoder, or undefined when one of them is not known here. */
function linksOf(decoder: unknown): Link[] | undefined {
  if (decoder === null || decoder === undefined) return [(next) => new SpacedStage(next)];
  const links: Link[] = [];
  // After a Fuse the pieces are parts of one long token, so a stage must look across their borders.
  let fused = false;
  const add = (config: DecoderConfig): boolean => {
    switch (config.type) {
      case 'Sequence':
        return Array.isArray(config.decoders) && config.decoders.every((each) => add(each as DecoderConfig));
      case 'Fuse':
        fused = true;
        return true;
      case 'ByteLevel':
        if (fused) return false;
        links.push((next) => new ByteLevelStage(next));
        fused = true;
        return true;
      case 'ByteFallback':
        links.push((next) => new ByteFallbackStage(next));
        return !fused;
      case 'Replace': {
        const from = config.pattern?.String;
        if (typeof from !== 'string' || from === '') return false;
        const to = String(config.content ?? '');
        if (fused) links.push((next) => new ReplaceStage(next, from, to));
        else links.push((next) => new MapStage(next, (token) => token.replaceAll(from, () => to)));
        return true;
      }
      case 'Strip': {
        const content = String(config.content ?? ' ');
        const start = Number(config.start ?? 0);
        const stop = Number(config.stop ?? 0);
        if (content.length !== 1) return false;
        if (fused) links.push((next) => new StripStage(next, content, start, stop));
        else links.push((next) => new MapStage(next, (token) => strip(token, content, start, stop)));
        return true;
      }
      case 'Metaspace': {
        const mark = String(config.replacement ?? '▁');
        links.push((next) => new MetaspaceStage(next, mark, config.prepend_scheme !== 'never'));
        return !fused;
      }
      case 'WordPiece':
        links.push(
          (next) => new WordPieceStage(next, String(config.prefix ?? '##'), config.cleanup !== false),
        );
        return !fused;
      case 'BPEDecoder': {
        const suffix = String(config.suffix ?? '</w>');
        links.push((next) => new SuffixStage(next, suffix));
        return !fused && suffix !== '';
      }
      default:
        return false;
    }
  };
  return add(decoder as DecoderConfig) ? links : undefined;
}

class MapStage implements Sink {
  constructor(
    private readonly next: Sink,
    private readonly map: (token: string) => string,
  ) {}

  push(token: string, added: boolean): void {
    this.next.push(this.map(token), added);
  }

  end(): void {
    this.next.end();
  }
}

/** Without a decoder, tokens are words. */
class SpacedStage implements Sink {
  private first = true;

  constructor(private readonly next: Sink) {}

  push(token: string, added: boolean): void {
    this.next.push(this.first ? token : ` ${token}`, added);
    this.first = false;
  }

  end(): void {
    this.next.end();
  }
}

const utf8 = new TextEncoder();

/** GPT-2's table: printable Latin-1 stands for its own byte, the other bytes for the code points from 256 on. */
const byteOfChar: Int16Array = (() => {
  const bytes = new Int16Array(512).fill(-1);
  let next = 256;
  for (let byte = 0; byte < 256; byte++) {
    const printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    bytes[printable ? byte : next++] = byte;
  }
  return bytes;
})();

function bytesOf(token: string): Uint8Array {
  const bytes = new Uint8Array(token.length);
  for (let i = 0; i < token.length; i++) {
    const byte = byteOfChar[token.charCodeAt(i)] ?? -1;
    if (byte < 0) return utf8.encode(token);
    bytes[i] = byte;
  }
  return bytes;
}

class ByteLevelStage implements Sink {
  private readonly decoder = new TextDecoder('utf-8', { ignoreBOM: true });

  constructor(private readonly next: Sink) {}

  push(token: string, added: boolean): void {
    const bytes = added ? utf8.encode(token) : bytesOf(token);
    this.emit(this.decoder.decode(bytes, { stream: true }));
  }

  end(): void {
    this.emit(this.decoder.decode());
    this.next.end();
  }

  private emit(text: string): void {
    if (text !== '') this.next.push(text, false);
  }
}

/** `<0xNN>` tokens: a run of them that is valid UTF-8 is text, any other run is one U+FFFD per byte. */
class ByteFallbackStage implements Sink {
  private readonly decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
  private run: number[] = [];

  constructor(private readonly next: Sink) {}

  push(token: string, added: boolean): void {
    if (/^<0x[0-9A-Fa-f]{2}>$/.test(token)) {
      this.run.push(Number.parseInt(token.slice(3, 5), 16));
      return;
    }
    this.flush();
    this.next.push(token, added);
  }

  end(): void {
    this.flush();
    this.next.end();
  }

  private flush(): void {
    if (this.run.length === 0) return;
    const bytes = Uint8Array.from(this.run);
    this.run = [];
    let text: string | undefined;
    try {
      text = this.decoder.decode(bytes);
    } catch {
      // Not UTF-8.
    }
    if (text !== undefined) this.next.push(text, false);
    else for (let i = 0; i < bytes.length; i++) this.next.push('\ufffd', false);
  }
}

/** Replaces a string in the running text; keeps the longest end that may begin a match. */
class ReplaceStage implements Sink {
  private rest = '';

  constructor(
    private readonly next: Sink,
    private readonly from: string,
    private readonly to: string,
  ) {}

  push(token: string): void {
    const text = this.rest + token;
    let out = '';
    let at = 0;
    for (let hit = text.indexOf(this.from); hit >= 0; hit = text.indexOf(this.from, at)) {
      out += text.slice(at, hit) + this.to;
      at = hit + this.from.length;
    }
    let keep = Math.min(this.from.length - 1, text.length - at);
    while (keep > 0 && !this.from.startsWith(text.slice(text.length - keep))) keep--;
    this.rest = text.slice(text.length - keep);
    out += text.slice(at, text.length - keep);
    if (out !== '') this.next.push(out, false);
  }

  end(): void {
    if (this.rest !== '') this.next.push(this.rest, false);
    this.next.end();
  }
}

function strip(token: string, content: string, start: number, stop: number): string {
  let left = 0;
  while (left < start && token[left] === content) left++;
  let right = token.length;
  while (right > left && token.length - right < stop && token[right - 1] === content) right--;
  return token.slice(left, right);
}

/** Takes up to `start` and `stop` characters `content` off the ends of the running text. */
class StripStage implements Sink {
  private left: number;
  private rest = '';

  constructor(
    private readonly next: Sink,
    private readonly content: string,
    start: number,
    private readonly stop: number,
  ) {
    this.left = start;
  }

  push(token: string): void {
    let from = 0;
    while (this.left > 0 && from < token.length) {
      if (token[from] === this.content) from++;
      else this.left = 1;
      this.left--;
    }
    const text = this.rest + token.slice(from);
    let end = text.length;
    while (text.length - end < this.stop && end > 0 && text[end - 1] === this.content) end--;
    this.rest = text.slice(end);
    if (end > 0) this.next.push(text.slice(0, end), false);
  }

  end(): void {
    this.next.end();
  }
}

/** '▁' is a blank, and nothing in the first token, where it only marks the start of a word. */
class MetaspaceStage implements Sink {
  private first: boolean;

  constructor(
    private readonly next: Sink,
    private readonly mark: string,
    prepends: boolean,
  ) {
    this.first = prepends;
  }

  push(token: string, added: boolean): void {
    this.next.push(token.replaceAll(this.mark, this.first ? '' : ' '), added);
    this.first = false;
  }

  end(): void {
    this.next.end();
  }
}

class WordPieceStage implements Sink {
  private first = true;

  constructor(
    private readonly next: Sink,
    private readonly prefix: string,
    private readonly cleanUp: boolean,
  ) {}

  push(token: string, added: boolean): void {
    let text = token;
    if (!this.first) text = text.startsWith(this.prefix) ? text.slice(this.prefix.length) : ` ${text}`;
    this.first = false;
    this.next.push(this.cleanUp ? cleanUpText(text) : text, added);
  }

  end(): void {
    this.next.end();
  }
}

/** A suffix ends a word: a blank, except after the last token. */
class SuffixStage implements Sink {
  private last: string | undefined;

  constructor(
    private readonly next: Sink,
    private readonly suffix: string,
  ) {}

  push(token: string): void {
    this.emit(' ');
    this.last = token;
  }

  end(): void {
    this.emit('');
    this.next.end();
  }

  private emit(blank: string): void {
    if (this.last !== undefined) this.next.push(this.last.replaceAll(this.suffix, blank), false);
    this.last = undefined;
  }
}

/** In this order; each works on what the one before it left. */
const cleanUpRules: readonly (readonly [string, string])[] = [
  [' .', '.'],
  [' ?', '?'],
  [' !', '!'],
  [' ,', ','],
  [" ' ", "'"],
  [" n't", "n't"],
  [" 'm", "'m"],
  [" 's", "'s"],
  [" 've", "'ve"],
  [" 're", "'re"],
];

function cleanUpText(text: string): string {
  return cleanUpRules.reduce((clean, [from, to]) => clean.replaceAll(from, to), text);
}
