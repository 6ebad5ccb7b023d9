import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { findLlamaBench, llamaBench, parseLlamaBench } from '../../bench/harness/llama-bench.js';

const line = (changes: Record<string, unknown> = {}): string =>
  JSON.stringify({ n_prompt: 512, n_gen: 0, avg_ts: 256, samples_ns: [2_000_000_000], ...changes });
const PREFILL = { prompt: 512, newTokens: 0 };

describe('parseLlamaBench', () => {
  it('gives the milliseconds of the one timing, past lines of other kinds', () => {
    expect(parseLlamaBench(`loading …\n${line()}\n`, PREFILL)).toBe(2000);
  });

  it.each([
    ['no JSON', 'error: no such model\n', /got no line of JSON/],
    ['another test', line({ n_gen: 64, n_prompt: 0 }), /0 prompt and 64 new tokens, expected 512 and 0/],
    ['no timings', line({ samples_ns: [] }), /got samples_ns \[\]/],
    ['a timing of nothing', line({ samples_ns: [0] }), /got samples_ns \[0\]/],
  ])('refuses %s', (_, output, message) => {
    expect(() => parseLlamaBench(output, PREFILL)).toThrow(message);
  });
});

const folder = mkdtempSync(path.join(tmpdir(), 'llama-bench-'));
afterAll(() => rmSync(folder, { recursive: true }));
const program = path.join(folder, 'llama-bench');

describe.skipIf(process.platform === 'win32')('llamaBench', () => {
  it('is found where the environment says, else on the path', () => {
    writeFileSync(program, '');
    expect(findLlamaBench({ PATH: folder })).toBeNull(); // not a program yet
    chmodSync(program, 0o755);
    expect(findLlamaBench({ PATH: `/nowhere${path.delimiter}${folder}` })).toBe(program);
    expect(findLlamaBench({ PATH: folder, LLAMA_BENCH: '/other' })).toBe('/other');
    expect(findLlamaBench({})).toBeNull();
  });

  it('asks for one timing of the right sizes', async () => {
    // A stand-in that takes as many nanoseconds as its arguments say: 1000 · prompt + 10 · new + depth.
    const text = `#!${process.execPath}
const arg = (name) => Number(process.argv[process.argv.indexOf(name) + 1]);
const ns = 1e6 * (1000 * arg('-p') + 10 * arg('-n') + arg('-d'));
console.log(JSON.stringify({ n_prompt: arg('-p'), n_gen: arg('-n'), samples_ns: Array(arg('-r')).fill(ns) }));
`;
    writeFileSync(program, text);
    chmodSync(program, 0o755);
    const peer = llamaBench(program, 'model.gguf', 2);
    expect(await peer.prefill([1, 2, 3])).toBe(3000);
    expect(await peer.decode([1, 2, 3, 4], 9)).toBe(84); // eight steps after four tokens
    await expect(llamaBench('/nowhere', 'model.gguf', 2).prefill([1])).rejects.toThrow(/ENOENT/);
  });
});
