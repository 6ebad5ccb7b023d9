/** Which matrix of a model gets which format. */
import { SwitchyardError, unknownOption } from '../core/errors.js';
import { QUANTIZER_FORMATS, type WeightFormat } from '../core/format.js';
import type { Weight } from '../core/weight.js';
import type { Role } from '../inspect/parameters.js';

/** 'keep' leaves a matrix as it is; 'int4' stands for the format of 4 bits that loses least (see docs/quantize.md). */
export const TARGET_FORMATS = ['keep', 'int4', 'f32', 'f16', 'bf16', ...QUANTIZER_FORMATS] as const;
export type TargetFormat = (typeof TARGET_FORMATS)[number];

const INT4: WeightFormat = 'q4_1';

export interface FormatRules {
  /** Of every matrix without a rule of its own. Default 'keep'. */
  default?: TargetFormat;
  embedding?: TargetFormat;
  attention?: TargetFormat;
  /** Dense feed-forward layers. */
  feedForward?: TargetFormat;
  experts?: TargetFormat;
  /** Default 'keep', whatever the default is: routers are small, and a choice of other experts costs more than any rounding. */
  router?: TargetFormat;
  /** A head tied to the embedding has the embedding's. */
  head?: TargetFormat;
}
export const RULE_NAMES = [
  'default',
  'embedding',
  'attention',
  'feedForward',
  'experts',
  'router',
  'head',
] as const satisfies readonly (keyof FormatRules)[];

export function checkRules(rules: FormatRules): void {
  for (const [name, format] of Object.entries(rules)) {
    if (!(RULE_NAMES as readonly string[]).includes(name)) throw unknownOption('quantize', name, RULE_NAMES);
    if (!(TARGET_FORMATS as readonly unknown[]).includes(format))
      throw unknownOption(`quantize: ${name}`, String(format), TARGET_FORMATS);
  }
}

/** Values that quantised formats store together. */
const BLOCK = 32;

export interface Choice {
  readonly format: WeightFormat;
  /** Why it is not the format of the rule. */
  readonly note: string | null;
}

export function formatFor(rules: FormatRules, role: Role, weight: Weight): Choice {
  if (role === 'norm') throw new SwitchyardError('ERR_NATIVE', '[quantize] got a norm, expected a matrix');
  const rule = rules[role] ?? (role === 'router' ? 'keep' : (rules.default ?? 'keep'));
  if (rule === 'keep') return { format: weight.format, note: null };
  const format = rule === 'int4' ? INT4 : rule;
  const blocks = (QUANTIZER_FORMATS as readonly string[]).includes(format);
  if (!blocks || weight.columns % BLOCK === 0) return { format, note: null };
  const narrow = weight.format === 'f32' ? 'f16' : weight.format;
  return {
    format: narrow,
    note: `${weight.columns} columns are no multiple of ${BLOCK}: ${narrow} instead of ${format}`,
  };
}
