import { type NameTable, named } from '../../read/names.js';

/** How published files of a family call a sparse block and an expert's three matrices. */
export interface ExpertSpelling {
  readonly block: string;
  readonly gate: string;
  readonly up: string;
  readonly down: string;
}

/** The spelling of most families. */
export const PROJECTIONS: ExpertSpelling = {
  block: 'mlp',
  gate: 'gate_proj',
  up: 'up_proj',
  down: 'down_proj',
};

const OURS = 'layers.{i}.';
const THEIRS = 'model.layers.{i}.';

/** Router and experts: one tensor per expert (published files), or gate and up in one stack (library version 5). */
export const expertNames = ({ block, gate, up, down }: ExpertSpelling): NameTable => [
  ...named(
    {
      router: `${block}.gate`,
      'experts.gate': `${block}.experts.{e}.${gate}`,
      'experts.up': `${block}.experts.{e}.${up}`,
      'experts.down': `${block}.experts.{e}.${down}`,
    },
    OURS,
    THEIRS,
  ),
  { tensor: `${THEIRS}mlp.gate.weight`, parts: [`${OURS}router.weight`] },
  {
    tensor: `${THEIRS}mlp.experts.gate_up_proj`,
    parts: [`${OURS}experts.gate.weight`, `${OURS}experts.up.weight`],
  },
  { tensor: `${THEIRS}mlp.experts.down_proj`, parts: [`${OURS}experts.down.weight`] },
];
