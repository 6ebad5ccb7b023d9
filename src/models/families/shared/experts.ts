import type { MoEConfig } from '../../config.js';
import { type LayerNames, whole } from '../../family.js';

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

/** One tensor per expert (published files), or gate and up fused in one stack (library version 5). */
export function expertNames(
  i: number,
  moe: MoEConfig | null,
  spelling: ExpertSpelling,
  has: (name: string) => boolean,
): Pick<LayerNames, 'router' | 'gate' | 'up' | 'down'> {
  const { nExperts, dFf } = moe ?? { nExperts: 0, dFf: 0 };
  const layer = `model.layers.${i}`;
  const fused = `${layer}.mlp.experts.gate_up_proj`;
  if (has(fused)) {
    return {
      router: `${layer}.mlp.gate.weight`,
      gate: { kind: 'rows', name: fused, from: 0, of: 2 * dFf },
      up: { kind: 'rows', name: fused, from: dFf, of: 2 * dFf },
      down: whole(`${layer}.mlp.experts.down_proj`),
    };
  }
  const block = `${layer}.${spelling.block}.`;
  const each = (part: string) => ({
    kind: 'per-expert' as const,
    names: Array.from({ length: nExperts }, (_, e) => `${block}experts.${e}.${part}.weight`),
  });
  return {
    router: `${block}gate.weight`,
    gate: each(spelling.gate),
    up: each(spelling.up),
    down: each(spelling.down),
  };
}
