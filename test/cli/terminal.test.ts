import { describe, expect, it } from 'vitest';
import { loadBars, loadLine } from '../../src/cli/routing-view.js';
import { bar } from '../../src/cli/terminal/bars.js';
import { bytesText, countText } from '../../src/cli/terminal/numbers.js';
import { styleFor, wantsColor } from '../../src/cli/terminal/style.js';
import { table } from '../../src/cli/terminal/tables.js';
import { harmless, tokenLabel } from '../../src/cli/terminal/text.js';
import { statisticsOfLoad } from '../../src/moe/statistics.js';

const plain = styleFor({ isTTY: false }, {});

describe('colours', () => {
  it.each([
    ['a terminal', { isTTY: true }, {}, true],
    ['a pipe', {}, {}, false],
    ['a terminal with NO_COLOR', { isTTY: true }, { NO_COLOR: '1' }, false],
    ['a terminal with an empty NO_COLOR', { isTTY: true }, { NO_COLOR: '' }, true],
    ['a dumb terminal', { isTTY: true }, { TERM: 'dumb' }, false],
  ])('%s', (_, stream, env, wanted) => {
    expect(wantsColor(stream, env)).toBe(wanted);
    expect(styleFor(stream, env).bad('x') !== 'x').toBe(wanted);
  });
});

describe('bars', () => {
  it.each([
    [0, 4, ''],
    [1, 4, '████'],
    [0.5, 3, '█▌'],
    [0.03, 4, '▏'],
    [7, 2, '██'],
    [-1, 2, ''],
  ])('%f of %i', (share, width, text) => expect(bar(share, width)).toBe(text));
});

describe('numbers', () => {
  it.each([
    [0, '0 B'],
    [1023, '1023 B'],
    [1536, '1.50 KiB'],
    [23.5 * 2 ** 30, '23.5 GiB'],
    [1010 * 1024, '1010 KiB'],
  ])('%d bytes', (n, text) => expect(bytesText(n)).toBe(text));
  it.each([
    [7, '7'],
    [134_515_008, '135 M'],
    [46_702_792_704, '46.7 B'],
  ])('%d', (n, text) => expect(countText(n)).toBe(text));
});

describe('text', () => {
  it('loses what would steer a terminal and keeps the rest', () => {
    expect(harmless('a\u001b[2Jb\u009b1mc\rd\n\té🙂')).toBe('a[2Jb1mcd\n\té🙂');
  });
  it('shows blanks of tokens', () => expect(tokenLabel(' a\n\u0007')).toBe('·a⏎'));
});

describe('tables', () => {
  it('aligns columns, without borders, colours or blanks at the ends', () => {
    const text = table(
      ['name', 'n'],
      [
        ['a', 1],
        ['bcdef', 100],
      ],
      { right: [1], style: plain },
    );
    expect(text.split('\n')).toEqual(['name     n', 'a        1', 'bcdef  100']);
  });
});

describe('loads', () => {
  const load = statisticsOfLoad([4, 0, 2, 2]);
  it('fit one line', () => {
    expect(loadLine(3, load, plain)).toBe('layer  3  █·▄▄  entropy 1.50 of 2.00 bits  cv 0.71');
  });
  it('have a bar for each expert, relative to the fullest', () => {
    const lines = loadBars(load, plain);
    expect(lines).toHaveLength(4);
    expect(lines[0]).toMatch(/^ {4}0 █{30} +4 +50\.0 %$/);
    expect(lines[1]).toMatch(/^ {4}1 +0 +0\.0 %$/);
    expect(lines[2]).toMatch(/^ {4}2 █{15} +2 +25\.0 %$/);
  });
  it('show the fullest of many experts', () => {
    const many = statisticsOfLoad(Array.from({ length: 64 }, (_, e) => e));
    const lines = loadBars(many, plain);
    expect(lines).toHaveLength(17);
    expect(lines[0]).toMatch(/^ {3}63 /);
    expect(lines[16]).toContain('48 experts');
  });
  it('of nothing are no division by zero', () => {
    expect(loadBars(statisticsOfLoad([0, 0]), plain).join()).not.toContain('NaN');
  });
});
