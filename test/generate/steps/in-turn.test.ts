import { expect, it } from 'vitest';
import { InTurn } from '../../../src/generate/steps/in-turn.js';

const later = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

it('runs tasks one after another, also behind one that fails', async () => {
  const tasks = new InTurn();
  const log: string[] = [];
  const task = (name: string, fails = false) =>
    tasks.run(async () => {
      log.push(`${name} begins`);
      await later();
      log.push(`${name} ends`);
      if (fails) throw new Error(name);
      return name;
    });
  const all = [task('a'), task('b', true), task('c')];
  expect(log).toEqual(['a begins']);
  expect(await Promise.allSettled(all)).toEqual([
    { status: 'fulfilled', value: 'a' },
    { status: 'rejected', reason: new Error('b') },
    { status: 'fulfilled', value: 'c' },
  ]);
  expect(log.join(', ')).toBe('a begins, a ends, b begins, b ends, c begins, c ends');
});

it('is idle when all have ended, and begins at once then', async () => {
  const tasks = new InTurn();
  let ended = 0;
  const fails = tasks.run(async () => {
    await later();
    ended++;
    throw new Error('no');
  });
  const caught = fails.catch(() => undefined);
  await tasks.idle();
  expect(ended).toBe(1);
  await caught;
  await tasks.idle();
  let begun = false;
  void tasks.run(async () => {
    begun = true;
  });
  expect(begun).toBe(true);
});
