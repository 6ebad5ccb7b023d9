/** The pictures of docs/moe.md are those that the code draws: run `npm run docs:gating` where this fails. */
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { pictures } from '../../scripts/draw-gating.js';

const folder = fileURLToPath(new URL('../../docs/images/', import.meta.url));
const drawn = await pictures();

describe('docs/images', () => {
  it.each(drawn)('%s is current', (file, svg) => {
    expect(readFileSync(folder + file, 'utf8')).toBe(svg);
  });

  it('holds no other pictures', () => {
    expect(readdirSync(folder).sort()).toEqual(drawn.map(([file]) => file).sort());
  });
});
