// Plans, experts and what combines them.
import {
  f32,
  type InputSpec,
  i32,
  ids,
  literal,
  type OpCase,
  type TensorSpec,
  weight,
} from '../../helpers/op-case.js';
import { COMPUTE_TOLERANCE, GRAPH_TOLERANCE } from '../../helpers/tolerance.js';
import { fixed, into, offsetsOf } from './table.js';

export const cases: OpCase[] = [];
const one = into(cases);

/** Stable counting sort of choices by expert, as literals. */
function plan(
  choices: readonly number[],
  k: number,
  experts: number,
): { offsets: TensorSpec; rowToken: TensorSpec; slotRow: TensorSpec } {
  const slots = Array.from({ length: experts }, (_, e) =>
    choices.flatMap((c, slot) => (c === e ? [slot] : [])),
  );
  const rows = slots.flat();
  return {
    offsets: ids(...offsetsOf(slots.map((s) => s.length))),
    rowToken: literal(
      'i32',
      choices.map((_, r) => (r < rows.length ? Math.floor((rows[r] as number) / k) : -1)),
    ),
    slotRow: literal(
      'i32',
      choices.map((_, slot) => rows.indexOf(slot)),
      [choices.length / k, k],
    ),
  };
}
const CHOICES: [string, number, number, number[]][] = [
  ['two of three', 2, 3, [0, 2, 2, 1, 0, 1, 2, 0]],
  ['with drops', 2, 3, [0, -1, 2, -1, -1, -1, 2, 0]],
  ['all to one expert', 1, 4, [2, 2, 2, 2, 2]],
  ['an empty expert', 2, 4, [0, 3, 3, 0, 0, 1]],
  ['everything dropped', 2, 2, [-1, -1, -1, -1]],
  ['one token', 1, 1, [0]],
  ['no tokens', 2, 3, []],
];
for (const [name, k, experts, choices] of CHOICES) {
  const n = choices.length / k;
  const rows = choices.length;
  const p = plan(choices, k, experts);
  one('moe_plan', name, [literal('i32', choices, [n, k])], { experts, rows });
  one('moe_combine', name, [f32([rows, 5]), p.slotRow, f32([n, k])]);
  one('moe_combine', `${name}, unweighted`, [f32([rows, 5]), p.slotRow, null]);
  one('moe_combine_grad', name, [f32([rows, 5]), p.slotRow, f32([n, 5])]);
  for (const [activation, gated] of [
    [0, true],
    [1, true],
    [2, false],
    [3, false],
  ] as const) {
    const gate = gated ? weight(7, 6, 'f32', experts) : null;
    one(
      'moe_experts',
      `${name}, activation ${activation}`,
      [
        f32([n, 6]),
        p.offsets,
        p.rowToken,
        p.slotRow,
        f32([n, k]),
        gate,
        weight(7, 6, 'f32', experts),
        weight(6, 7, 'f32', experts),
      ],
      { activation, limit: 0, slope: 0, compute: 0 },
      { tolerance: GRAPH_TOLERANCE },
    );
  }
  for (const [what, gated, biases, limit] of [
    ['all biases', true, [true, true, true], 0],
    ['a bias of gate alone', true, [true, false, false], 0],
    ['biases without a gate', false, [false, true, true], 0],
    ['clamped', true, [true, true, true], 0.7],
  ] as const)
    one(
      'moe_experts',
      `${name}, ${what}`,
      [
        f32([n, 6]),
        p.offsets,
        p.rowToken,
        p.slotRow,
        f32([n, k]),
        gated ? weight(7, 6, 'f32', experts) : null,
        weight(7, 6, 'f32', experts),
        weight(6, 7, 'f32', experts),
        ...biases.map((present, i) => (present ? f32([experts, i < 2 ? 7 : 6]) : null)),
      ],
      { activation: 0, limit, slope: limit === 0 ? 0 : 1.702, compute: 0 },
      { tolerance: GRAPH_TOLERANCE },
    );
}

// fewer rows than choices, as where experts choose, and more
const sparse = literal('i32', [-1, 1, -1, 2, -1, -1, 0, -1, 2], [3, 3]);
one('moe_plan', 'as many rows as are kept', [sparse], { experts: 3, rows: 4 });
one('moe_plan', 'more rows than choices', [sparse], { experts: 3, rows: 11 });
one('moe_plan', 'no room and no choice', [literal('i32', [-1, -1], [2, 1])], { experts: 2, rows: 0 });

/** Inputs of expert_layer after the plan: D 4, F 3, Dout 5. */
const LAYERS: [
  string,
  { gate: boolean; up: boolean; biases: boolean; activation: number; limit?: number; dropout: number },
][] = [
  ['SwiGLU', { gate: true, up: true, biases: false, activation: 0, dropout: 0 }],
  ['biases and dropout', { gate: true, up: true, biases: true, activation: 1, dropout: 0.4 }],
  ['no gate', { gate: false, up: true, biases: false, activation: 2, dropout: 0.4 }],
  ['no gate, biases', { gate: false, up: true, biases: true, activation: 0, dropout: 0 }],
  ['clamped', { gate: true, up: true, biases: true, activation: 0, limit: 0.7, dropout: 0 }],
  ['linear', { gate: false, up: false, biases: false, activation: 0, dropout: 0 }],
  ['linear, biases', { gate: false, up: false, biases: true, activation: 0, dropout: 0 }],
];
for (const [name, k, experts, choices] of CHOICES)
  for (const [kind, { gate, up, biases, activation, limit = 0, dropout }] of LAYERS) {
    const slope = limit === 0 ? 0 : 1.702;
    const n = choices.length / k;
    const p = plan(choices, k, experts);
    const matrix = (used: boolean): InputSpec => (used ? f32([experts, 3, 4], -1, 1) : null);
    const bias = (used: boolean, width: number): InputSpec =>
      used && biases ? f32([experts, width], -1, 1) : null;
    one(
      'expert_layer',
      `${name}, ${kind}`,
      [
        f32([n, 4]),
        p.offsets,
        p.rowToken,
        p.slotRow,
        f32([n, k], 0, 1),
        matrix(gate),
        matrix(up),
        f32([experts, 5, up ? 3 : 4], -1, 1),
        bias(gate, 3),
        bias(up, 3),
        bias(true, 5),
      ],
      { activation, limit, slope, dropout, seed: 11, offset: 4 },
      { tolerance: GRAPH_TOLERANCE },
    );
  }
const many = Array.from({ length: 120 }, (_, i) => (i * i * 7 + (i >> 2)) % 9);
const manyPlan = plan(many, 2, 9);
one('moe_plan', 'many', [i32([500, 4], -1, 16)], { experts: 16, rows: 2000 });
one('moe_combine', 'many', [f32([120, 257]), manyPlan.slotRow, f32([60, 2])], {}, fixed);
one('moe_combine_grad', 'many', [f32([120, 257]), manyPlan.slotRow, f32([60, 257])], {}, fixed);
for (const [format, compute] of [
  ['f32', 0],
  ['q8_0', 0],
  ['q8_0', 2],
  ['q4_k', 2],
  ['bf16', 1],
] as const) {
  const tolerance = [GRAPH_TOLERANCE, COMPUTE_TOLERANCE.bf16, COMPUTE_TOLERANCE.int8][compute];
  const size = format === 'q4_k' ? 256 : 64;
  one(
    'moe_experts',
    `many ${format} compute ${compute}`,
    [
      f32([60, size]),
      manyPlan.offsets,
      manyPlan.rowToken,
      manyPlan.slotRow,
      f32([60, 2]),
      weight(size, size, format, 9),
      weight(size, size, format, 9),
      weight(size, size, format, 9),
    ],
    { activation: 0, limit: 0, slope: 0, compute },
    { ...fixed, tolerance },
  );
}
