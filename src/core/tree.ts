/** Trees of tensors: the parameters of a layer, the arguments and results of a compiled function. */
import { SwitchyardError } from './errors.js';
import { Tensor } from './tensor.js';
import { Weight } from './weight.js';

/**
 * Tensors in any nesting of arrays and records. What is absent (null, undefined) stays absent; whatever else is no
 * tensor is refused when the tree is walked.
 */
export type TensorTree = object | null | undefined;

type Branch = readonly unknown[] | Readonly<Record<string, unknown>>;

const absent = (tree: unknown): tree is null | undefined => tree === null || tree === undefined;

/** The tree as something with children, or an error that says what stands where a tensor should. */
function branch(tree: unknown, path: string): Branch {
  if (typeof tree === 'object' && tree !== null && !(tree instanceof Weight) && !ArrayBuffer.isView(tree))
    return tree as Branch;
  const got =
    tree instanceof Weight
      ? `a packed weight ${tree}`
      : ArrayBuffer.isView(tree)
        ? 'a typed array'
        : `${typeof tree}`;
  throw new SwitchyardError(
    'ERR_OPTION',
    `[tree] got ${got} at ${path === '' ? 'the top' : path}, expected tensors in arrays and records`,
    tree instanceof Weight ? { hint: 'gradients and compiled arguments need ordinary tensors' } : {},
  );
}

const at = (path: string, key: string): string => (path === '' ? key : `${path}.${key}`);

/** All tensors of a tree, in order. */
export function treeLeaves(tree: unknown): Tensor[] {
  const leaves: Tensor[] = [];
  const walk = (part: unknown, path: string): void => {
    if (part instanceof Tensor) leaves.push(part);
    else if (!absent(part))
      for (const [key, child] of Object.entries(branch(part, path))) walk(child, at(path, key));
  };
  walk(tree, '');
  return leaves;
}

/**
 * A tree of the same form with each tensor replaced, in order: `treeMap(params, (p, g) => sub(p, mul(g, 0.1)), grad)`.
 * @param others trees of the same form, whose tensors `replace` gets beside
 */
export function treeMap<T>(
  tree: T,
  replace: (leaf: Tensor, ...others: Tensor[]) => Tensor,
  ...others: readonly unknown[]
): T {
  const walk = (part: unknown, beside: readonly unknown[], path: string): unknown => {
    if (absent(part)) return part;
    if (part instanceof Tensor) {
      for (const other of beside)
        if (!(other instanceof Tensor))
          throw new SwitchyardError(
            'ERR_OPTION',
            `[tree] got no tensor at ${path} of another tree, expected one`,
          );
      return replace(part, ...(beside as Tensor[]));
    }
    const child = (of: unknown, key: string): unknown =>
      absent(of) ? of : (of as Record<string, unknown>)[key];
    const mapped = Object.entries(branch(part, path)).map(([key, value]): [string, unknown] => [
      key,
      walk(
        value,
        beside.map((of) => child(of, key)),
        at(path, key),
      ),
    ]);
    return Array.isArray(part) ? mapped.map(([, value]) => value) : Object.fromEntries(mapped);
  };
  return walk(tree, others, '') as T;
}

/** Where the tensors of a tree stand, as text: equal for trees of one form. */
export function treeForm(tree: unknown, path = ''): string {
  if (tree instanceof Tensor) return '.';
  if (absent(tree)) return '-';
  const children = Object.entries(branch(tree, path)).map(([key, child]) => [
    key,
    treeForm(child, at(path, key)),
  ]);
  return Array.isArray(tree)
    ? `[${children.map(([, form]) => form).join('')}]`
    : `{${children.map(([key, form]) => `${JSON.stringify(key)}:${form}`).join('')}}`;
}
