// Workers and processes that end in the middle of runs.
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { afterAll, describe, expect, it } from 'vitest';
import { addonPath } from '../../src/core/addon.js';
import { copyProgram } from '../helpers/native.js';

const folder = mkdtempSync(join(tmpdir(), 'switchyard-'));
afterAll(() => rmSync(folder, { recursive: true }));

const elements = 2 ** 18;
/** Defines `native`, `runtime` and `start()`, which begins a run that would take minutes. */
const prelude = `
  const { workerData, parentPort } = require('node:worker_threads');
  const [path, binary] = workerData ?? [process.argv[1], require('node:fs').readFileSync(process.argv[2])];
  const native = require(path);
  const runtime = native.createRuntime({ threads: 2 });
  const start = () =>
    native.run(runtime, native.createProgram(binary, [], []), [native.createBuffer(${elements * 4})], []);
`;
const long = copyProgram(elements, 50_000);
const short = copyProgram(elements, 20);
const worker = (code: string, binary: Uint8Array) =>
  new Worker(prelude + code, { eval: true, workerData: [addonPath(), binary] });

/** Runs the code in a Node of its own; resolves to how it ended. */
function child(code: string, binary: Uint8Array, flags: string[] = []): Promise<string> {
  return new Promise((resolve) => {
    const file = join(folder, `${binary.length}.program`);
    writeFileSync(file, binary);
    const node = spawn(process.execPath, [...flags, '-e', prelude + code, addonPath(), file]);
    let text = '';
    node.stdout.on('data', (data) => (text += data));
    node.stderr.on('data', (data) => (text += data));
    node.on('close', (status, signal) =>
      resolve(`${signal ?? status}${text === '' ? '' : `: ${text.trim()}`}`),
    );
  });
}

describe('a worker', () => {
  it('runs beside the main thread and another worker', async () => {
    const code = `
      (async () => {
        for (let i = 0; i < 20; i++) await start();
        parentPort.postMessage('done');
      })();
    `;
    const workers = [worker(code, short), worker(code, short)];
    const ends = await Promise.all(
      workers.map(
        (w) =>
          new Promise((resolve, reject) => {
            w.on('message', resolve);
            w.on('error', reject);
          }),
      ),
    );
    expect(ends).toEqual(['done', 'done']);
    await Promise.all(workers.map((w) => w.terminate()));
  });

  it('may be ended in the middle of a run, 100 times', async () => {
    for (let round = 0; round < 100; round++) {
      const w = worker(`start(); start(); parentPort.postMessage('running');`, long);
      await new Promise((resolve, reject) => {
        w.on('message', resolve);
        w.on('error', reject);
      });
      if (round % 3 === 0) await new Promise((resolve) => setTimeout(resolve, round % 7));
      expect(await w.terminate()).toBe(1);
    }
  });

  it('may end by itself in the middle of a run', async () => {
    const w = worker(`start(); setTimeout(() => process.exit(3), 5);`, long);
    expect(await new Promise((resolve) => w.on('exit', resolve))).toBe(3);
  });
});

describe('a process', () => {
  it('may exit in the middle of a run', async () => {
    for (let round = 0; round < 20; round++) {
      const code = `start(); setTimeout(() => process.exit(7), ${round % 5});`;
      expect(await child(code, long)).toBe('7');
    }
  });

  it('may exit while a worker runs', async () => {
    const code = `
      const w = new (require('node:worker_threads').Worker)(${JSON.stringify(`${prelude} start(); parentPort.postMessage('running');`)},
        { eval: true, workerData: [path, binary] });
      start();
      w.on('message', () => process.exit(9));
    `;
    for (let round = 0; round < 5; round++) expect(await child(code, long)).toBe('9');
  });

  it('may die of an uncaught error in the middle of a run', async () => {
    const code = `start(); setTimeout(() => { throw new Error('mine'); }, 5);`;
    expect(await child(code, long)).toMatch(/^1: [\s\S]*mine/);
  });

  it('waits for a run that is awaited, and ends when nothing is left to do', async () => {
    const code = `start().then((outputs) => console.log(native.bufferBytes(outputs[0])));`;
    expect(await child(code, short)).toBe(`0: ${elements * 4}`);
  });

  it('collects garbage during runs, and its memory does not grow', async () => {
    const code = `
      (async () => {
        let first = 0;
        for (let i = 0; i < 600; i++) {
          const local = native.createRuntime({ threads: 2 });
          const runs = [1, 2].map(() =>
            native.run(local, native.createProgram(binary, [], []), [native.createBuffer(${elements * 4})], []));
          if (i % 10 === 0) gc();
          await Promise.all(runs);
          await new Promise(setImmediate);
          if (i === 200) { gc(); first = process.memoryUsage.rss(); }
        }
        for (let i = 0; i < 3; i++) {
          gc();
          await new Promise(setImmediate);
        }
        await start();
        const grown = process.memoryUsage.rss() - first;
        console.log(grown < 30 * 2 ** 20 ? 'steady' : 'grew by ' + grown, JSON.stringify(native.memoryUsage()));
      })();
    `;
    const text = await child(code, copyProgram(elements, 2), ['--expose-gc']);
    expect(text).toMatch(/^0: steady/);
    // What is left belongs to the last runs: inputs, outputs, an arena.
    const { buffers, arena } = JSON.parse(text.slice(text.indexOf('{'))) as Record<string, number>;
    expect(buffers).toBeLessThanOrEqual(8 * 4 * elements);
    expect(arena).toBeLessThanOrEqual(3 * 8 * elements);
  });
});
