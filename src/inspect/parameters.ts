/** Numbers of parameters. */
import { sizeOf } from '../core/shape.js';

/** What a parameter is for. Experts that every token meets count as feed-forward layers. */
export const ROLES = ['embedding', 'attention', 'norm', 'feedForward', 'router', 'experts', 'head'] as const;
export type Role = (typeof ROLES)[number];

export interface ParameterCount {
  readonly total: number;
  /** What one token's computation reads: all but the experts that were not chosen; the embedding counts whole. */
  readonly active: number;
  /** `active` without the embedding, of which a token reads one row; the same where the head is the embedding. */
  readonly activeWithoutEmbedding: number;
  readonly byRole: Readonly<Record<Role, number>>;
}

/**
 * Parameters of named parts: of a model's config, or of the tensors of a file. `activeShare`: K / E; `tied`: the head is the
 * embedding.
 */
export function sumParameters(
  parts: Iterable<{ readonly role: Role; readonly shape: readonly number[] }>,
  activeShare: number,
  tied = false,
): ParameterCount {
  const byRole = Object.fromEntries(ROLES.map((role) => [role, 0])) as Record<Role, number>;
  for (const { role, shape } of parts) byRole[role] += sizeOf(shape);
  const total = ROLES.reduce((sum, role) => sum + byRole[role], 0);
  const active = total - byRole.experts + Math.round(byRole.experts * activeShare);
  return { total, active, activeWithoutEmbedding: tied ? active : active - byRole.embedding, byRole };
}
