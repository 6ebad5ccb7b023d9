/** What the files of cases share. */
import type { Attrs } from '../../../src/core/op.js';
import type { CaseOptions, InputSpec, OpCase } from '../../helpers/op-case.js';

/** Adds cases to a list. */
export const into =
  (cases: OpCase[]) =>
  (
    op: string,
    name: string,
    inputs: readonly InputSpec[],
    attrs: Attrs = {},
    options: CaseOptions = {},
  ): void => {
    cases.push({ op, name, inputs, attrs, ...options });
  };

/** A case whose values jump, tie or are no numbers: no central differences. */
export const fixed = { gradient: false } as const;

/** 0 and the running sums. */
export function offsetsOf(lengths: readonly number[]): number[] {
  const offsets = [0];
  for (const n of lengths) offsets.push((offsets.at(-1) as number) + n);
  return offsets;
}
