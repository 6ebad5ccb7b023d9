import { describe, expect, it } from 'vitest';
import { add } from '../../src/core/ops/index.js';
import { tensor } from '../../src/core/tensor.js';
import { treeForm, treeLeaves, treeMap } from '../../src/core/tree.js';
import { packWeight } from '../helpers/weights.js';

const [a, b, c] = [tensor([1]), tensor([2]), tensor([3])];
const TREE = { a, list: [b, null], deep: { c, nothing: undefined } };

describe('trees of tensors', () => {
  it('have leaves in order', () => {
    expect(treeLeaves(TREE)).toEqual([a, b, c]);
    expect(treeLeaves(a)).toEqual([a]);
    expect(treeLeaves(null)).toEqual([]);
  });

  it('are mapped to the same form, what is absent stays', async () => {
    const doubled = treeMap(TREE, (t) => add(t, t));
    expect(doubled.list[1]).toBeNull();
    expect('nothing' in doubled.deep).toBe(true);
    expect(await Promise.all(treeLeaves(doubled).map((t) => t.item()))).toEqual([2, 4, 6]);
  });

  it('are mapped beside others', async () => {
    const sum = treeMap({ x: [a], y: b }, (p, q, r) => add(add(p, q), r), { x: [b], y: c }, { x: [c], y: c });
    expect(await Promise.all(treeLeaves(sum).map((t) => t.item()))).toEqual([6, 8]);
    expect(() => treeMap({ x: a, y: b }, (p) => p, { x: a })).toThrow(
      /\[tree\] got no tensor at y of another tree/,
    );
  });

  it('have a form that tells them apart', () => {
    const forms = [a, [a], [a, a], [[a], a], { a }, { b: a }, { a: null }, { a: [] }, null, []].map((t) =>
      treeForm(t),
    );
    expect(new Set(forms).size).toBe(forms.length);
    expect(treeForm(TREE)).toBe(treeForm({ a: c, list: [c, null], deep: { c, nothing: undefined } }));
  });

  it('refuse what is no tensor, with its place', async () => {
    const weight = await packWeight({ kind: 'weight', format: 'f32', experts: 1, rows: 2, columns: 2 }, 1);
    expect(() => treeLeaves({ p: [a, 7] })).toThrow(/\[tree\] got number at p.1, expected tensors/);
    expect(() => treeMap({ p: 'x' }, (t) => t)).toThrow(/got string at p/);
    expect(() => treeForm(new Float32Array(2))).toThrow(/got a typed array at the top/);
    expect(() => treeLeaves({ w: weight })).toThrow(
      expect.objectContaining({ code: 'ERR_OPTION', hint: expect.stringContaining('ordinary tensors') }),
    );
  });
});
