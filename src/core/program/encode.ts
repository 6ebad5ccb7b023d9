/** Writes the binary program (docs/program-format.md). */
import { dtypeCode } from '../dtype.js';
import { type Attr, RuntimeInt } from '../op.js';
import { type Lowering, STORAGE_KINDS, type Value } from './ir.js';

const MAGIC = 0x31505953;
const VERSION = 1;
const ABSENT = 0xffffffff;
const ATTR = { int: 0, float: 1, ints: 2, runtime: 3 } as const;

export interface Encoded {
  readonly bytes: Uint8Array;
  /** Run-time integers in slot order. */
  readonly ints: readonly RuntimeInt[];
}

export function encode(program: Lowering): Encoded {
  const strings: string[] = [];
  const stringIndex = new Map<string, number>();
  const ints: RuntimeInt[] = [];
  const buffers = new Buffers();
  const body = new Writer();
  const name = (s: string): number => {
    let at = stringIndex.get(s);
    if (at === undefined) {
      at = strings.push(s) - 1;
      stringIndex.set(s, at);
    }
    return at;
  };
  for (const { kernel, inputs, outputs, attrs } of program.instructions) {
    body.u32(name(kernel), inputs.length, outputs.length, attrs.length);
    for (const v of inputs) body.u32(v ? buffers.index(v) : ABSENT);
    for (const v of outputs) body.u32(buffers.index(v));
    body.align();
    for (const { type, value } of attrs) writeAttr(body, type, value, ints);
  }
  const out = new Writer();
  out.u32(MAGIC, VERSION, strings.length, buffers.count, program.instructions.length);
  out.u32(
    program.inputs.length,
    program.constants.length,
    program.weights.length,
    program.outputs.length,
    ints.length,
  );
  out.i64(program.arenaBytes);
  for (const s of strings) {
    const bytes = new TextEncoder().encode(s);
    out.u32(bytes.length);
    out.raw(bytes);
  }
  out.align();
  out.append(buffers.writer);
  out.append(body);
  return { bytes: out.bytes(), ints };
}

function writeAttr(w: Writer, type: keyof typeof ATTR, value: Attr, ints: RuntimeInt[]): void {
  if (value instanceof RuntimeInt) {
    let slot = ints.indexOf(value);
    if (slot < 0) slot = ints.push(value) - 1;
    w.u32(ATTR.runtime, 1);
    w.i64(slot);
  } else if (typeof value === 'number') {
    w.u32(ATTR[type], 1);
    if (type === 'float') w.f64(value);
    else w.i64(value);
  } else {
    w.u32(ATTR.ints, value.length);
    for (const v of value) w.i64(v);
  }
}

/** The buffer table: one entry for each storage and shape. */
class Buffers {
  readonly writer = new Writer();
  count = 0;
  readonly #entries = new Map<Value['storage'], { value: Value; index: number }[]>();

  index(v: Value): number {
    const list = this.#entries.get(v.storage) ?? [];
    const same = list.find(
      (e) =>
        e.value.dtype === v.dtype &&
        e.value.shape.length === v.shape.length &&
        e.value.shape.every((d, i) => d === v.shape[i]),
    );
    if (same) return same.index;
    const { kind, index, offset } = v.storage;
    this.writer.u32(STORAGE_KINDS.indexOf(kind), dtypeCode(v.dtype), v.shape.length, index);
    this.writer.i64(offset);
    for (const d of v.shape) this.writer.i64(d);
    const entry = { value: v, index: this.count++ };
    list.push(entry);
    this.#entries.set(v.storage, list);
    return entry.index;
  }
}

/** A growing little-endian byte array. */
class Writer {
  #view = new DataView(new ArrayBuffer(4096));
  #at = 0;

  #room(n: number): number {
    const at = this.#at;
    if (at + n > this.#view.byteLength) {
      const grown = new Uint8Array(Math.max(2 * this.#view.byteLength, at + n));
      grown.set(this.bytes());
      this.#view = new DataView(grown.buffer);
    }
    this.#at = at + n;
    return at;
  }
  u32(...values: number[]): void {
    for (const v of values) {
      const at = this.#room(4);
      this.#view.setUint32(at, v, true);
    }
  }
  i64(v: number): void {
    const at = this.#room(8);
    this.#view.setUint32(at, v >>> 0, true);
    this.#view.setInt32(at + 4, Math.floor(v / 2 ** 32), true);
  }
  f64(v: number): void {
    const at = this.#room(8);
    this.#view.setFloat64(at, v, true);
  }
  /** Bytes, then zeros up to a multiple of 4. */
  raw(bytes: Uint8Array): void {
    const at = this.#room(Math.ceil(bytes.length / 4) * 4);
    new Uint8Array(this.#view.buffer).set(bytes, at);
  }
  align(): void {
    if (this.#at % 8 !== 0) this.u32(0);
  }
  append(other: Writer): void {
    const bytes = other.bytes();
    const at = this.#room(bytes.length);
    new Uint8Array(this.#view.buffer).set(bytes, at);
  }
  bytes(): Uint8Array {
    return new Uint8Array(this.#view.buffer, 0, this.#at);
  }
}
