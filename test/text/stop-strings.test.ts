import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { StopStrings } from '../../src/text/stop-strings.js';

/** Looks through the whole text: the match that ends first, of those the longest. */
function search(text: string, stops: readonly string[]) {
  for (let end = 1; end <= text.length; end++) {
    const hits = stops.filter((stop) => text.slice(0, end).endsWith(stop));
    if (hits.length === 0) continue;
    const stop = hits.reduce((a, b) => (b.length > a.length ? b : a));
    return { text: text.slice(0, end - stop.length), stop };
  }
  return { text, stop: undefined };
}

function run(parts: readonly string[], stops: readonly string[]) {
  const watcher = new StopStrings(stops);
  let text = '';
  for (const part of parts) {
    const step = watcher.push(part);
    text += step.text;
    if (step.stopped) return { text, stop: step.stop };
  }
  return { text: text + watcher.flush(), stop: undefined };
}

describe('StopStrings', () => {
  it.each<[string, string[], string[], string, string | undefined]>([
    ['no stops', ['ab', 'c'], [], 'abc', undefined],
    ['a stop over three parts', ['one <', '|', 'end> two'], ['<|end>'], 'one ', '<|end>'],
    ['a start that comes to nothing', ['a<', '|x'], ['<|end>'], 'a<|x', undefined],
    ['a start at the very end', ['a<|'], ['<|end>'], 'a<|', undefined],
    ['a stop inside another start', ['aab', 'aac'], ['aabaac'], '', 'aabaac'],
    ['a repeated start', ['aaab'], ['aab'], 'a', 'aab'],
    ['the one that ends first', ['abcd'], ['abcd', 'bc'], 'a', 'bc'],
    ['the longest of those that end together', ['xabc'], ['c', 'abc', 'bc'], 'x', 'abc'],
    ['a newline', ['a\n', '\nb'], ['\n\n'], 'a', '\n\n'],
    ['half of a surrogate pair', ['🚀', '!'], ['🚀!'], '', '🚀!'],
  ])('%s', (_name, parts, stops, text, stop) => {
    expect(run(parts, stops)).toEqual({ text, stop });
  });

  it('gives text as soon as no stop can claim it', () => {
    const watcher = new StopStrings(['abc', 'cd']);
    expect(watcher.push('xab')).toEqual({ text: 'x', stopped: false });
    expect(watcher.push('')).toEqual({ text: '', stopped: false });
    expect(watcher.push('x')).toEqual({ text: 'abx', stopped: false });
    expect(watcher.push('c')).toEqual({ text: '', stopped: false });
    expect(watcher.push('e')).toEqual({ text: 'ce', stopped: false });
    expect(watcher.push('abcd')).toEqual({ text: '', stopped: true, stop: 'abc' });
    expect(watcher.push('more')).toEqual({ text: '', stopped: true, stop: 'abc' });
    expect(watcher.flush()).toBe('');
    expect(watcher.push('again')).toEqual({ text: 'again', stopped: false });
  });

  it('finds what a search of the whole text finds, however the text is split', () => {
    const letters = (max: number) =>
      fc.array(fc.constantFrom('a', 'b', 'c'), { maxLength: max }).map((list) => list.join(''));
    fc.assert(
      fc.property(
        fc.array(letters(4), { maxLength: 12 }),
        fc.array(
          letters(4).filter((stop) => stop !== ''),
          { maxLength: 4 },
        ),
        (parts, stops) => {
          expect(run(parts, stops)).toEqual(search(parts.join(''), stops));
        },
      ),
      { seed: 1, numRuns: 3000 },
    );
  });

  it('refuses an empty stop', () => {
    expect(() => new StopStrings(['a', ''])).toThrow(expect.objectContaining({ code: 'ERR_OPTION' }));
  });
});
