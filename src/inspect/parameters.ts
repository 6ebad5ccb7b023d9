/** Numbers of parameters: from the sizes of a decoder, and from a list of its matrices. */
import { sizeOf } from '../core/shape.js';

/** The sizes that decide; a model's config has all of them. */
export interface DecoderSizes {
  readonly dModel: number;
  readonly nLayers: number;
  readonly nHeads: number;
  readonly nKvHeads: number;
  readonly headDim: number;
  readonly dFf: number;
  readonly vocabSize: number;
  readonly tiedEmbeddings: boolean;
  readonly attentionBias: boolean;
  readonly qkNorm: 'head' | 'heads' | null;
  readonly feedForwardBias: boolean;
  readonly moe: {
    readonly nExperts: number;
    readonly topK: number;
    readonly dFf: number;
    readonly layers: readonly number[];
  } | null;
}

/** What a parameter is for. */
export const ROLES = ['embedding', 'attention', 'norm', 'feedForward', 'router', 'experts', 'head'] as const;
export type Role = (typeof ROLES)[number];

export interface ParameterCount {
  readonly total: number;
  /** What one token's computation reads: all but the experts that were not chosen; the embedding counts whole. */
  readonly active: number;
  readonly byRole: Readonly<Record<Role, number>>;
}

/** Parameters by formula. A tied head is counted once, as the embedding. */
export function countParameters(c: DecoderSizes): ParameterCount {
  const { dModel: d, nHeads, nKvHeads, headDim, vocabSize, moe } = c;
  const [q, kv] = [nHeads * headDim, nKvHeads * headDim];
  const attention = 2 * d * q + 2 * d * kv + (c.attentionBias ? q + 2 * kv + d : 0);
  const headNorms = c.qkNorm === null ? 0 : c.qkNorm === 'heads' ? q + kv : 2 * headDim;
  const dense = 3 * d * c.dFf + (c.feedForwardBias ? 2 * c.dFf + d : 0);
  const sparseLayers = moe?.layers.length ?? 0;
  const expert = moe ? 3 * d * moe.dFf : 0;
  return total(
    {
      embedding: vocabSize * d,
      attention: c.nLayers * attention,
      norm: (2 * c.nLayers + 1) * d + c.nLayers * headNorms,
      feedForward: (c.nLayers - sparseLayers) * dense,
      router: sparseLayers * (moe?.nExperts ?? 0) * d,
      experts: sparseLayers * (moe?.nExperts ?? 0) * expert,
      head: c.tiedEmbeddings ? 0 : vocabSize * d,
    },
    moe ? moe.topK / moe.nExperts : 1,
  );
}

/** Parameters of named parts, for example the tensors of a file. `activeShare`: K / E. */
export function sumParameters(
  parts: Iterable<{ readonly role: Role; readonly shape: readonly number[] }>,
  activeShare: number,
): ParameterCount {
  const byRole = Object.fromEntries(ROLES.map((role) => [role, 0])) as Record<Role, number>;
  for (const { role, shape } of parts) byRole[role] += sizeOf(shape);
  return total(byRole, activeShare);
}

function total(byRole: Record<Role, number>, activeShare: number): ParameterCount {
  const all = ROLES.reduce((sum, role) => sum + byRole[role], 0);
  return { total: all, active: all - byRole.experts + Math.round(byRole.experts * activeShare), byRole };
}
