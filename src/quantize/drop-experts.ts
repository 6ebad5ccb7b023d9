/** Which experts of a sparse model a text needs least, and the model without them. */
import { SwitchyardError } from '../core/errors.js';
import type { LanguageModel } from '../generate/handles/language-model.js';
import type { DecoderConfig, MoEConfig } from '../models/decoder/config.js';
import { resolveGating } from '../moe/gating/index.js';
import { idsOf, type ScoreOptions, windowsOf } from './perplexity.js';
import { Scorer } from './scorer.js';

/** Per sparse layer. */
export interface ExpertLoad {
  readonly layer: number;
  /** Sum of the combine weights that each expert got over the text. */
  readonly weight: readonly number[];
}

export interface DroppedExperts extends ExpertLoad {
  /** Numbers of the experts that stay, rising; the others are gone. */
  readonly kept: readonly number[];
  /** Share of the text's combine weight that the dropped experts had. */
  readonly lostWeight: number;
}

/** Policies whose choice among fewer experts is the same rule; the others group, balance or name experts. */
const DROPPABLE = new Set(['softmax-top-k', 'top-k-softmax', 'sigmoid-top-k', 'switch-top-1', 'noisy-top-k']);

/** The number of experts to drop from each layer: a count, or a share below 1. @throws SwitchyardError ERR_OPTION */
export function countToDrop({ moe }: DecoderConfig, drop: number): number {
  const refuse = (got: string, expected: string): SwitchyardError =>
    new SwitchyardError('ERR_OPTION', `[quantize] got ${got}, expected ${expected}`);
  if (!moe) throw refuse('experts to drop from a dense model', 'a sparse model');
  const gating = resolveGating(moe.gating);
  const groups = gating.options?.groups ?? 1;
  if (!DROPPABLE.has(gating.name) || groups !== 1)
    throw refuse(
      `experts to drop under gating '${gating.name}'`,
      `${[...DROPPABLE].join(', ')}, without groups`,
    );
  const count = drop > 0 && drop < 1 ? Math.floor(drop * moe.nExperts) : drop;
  if (!Number.isInteger(count) || count < 0)
    throw refuse(`dropExperts ${drop}`, 'a count, or a share below 1');
  if (moe.nExperts - count < moe.topK)
    throw refuse(
      `${count} of ${moe.nExperts} experts to drop`,
      `at least the ${moe.topK} to stay that a token chooses`,
    );
  return count;
}

/** What each expert of each layer does for a text. */
export async function expertLoads(
  model: LanguageModel,
  text: string | readonly number[],
  { window = 512, signal, onProgress }: ScoreOptions = {},
): Promise<ExpertLoad[]> {
  const { nExperts, layers } = model.config.moe as MoEConfig;
  const sums = layers.map(() => new Float64Array(nExperts));
  const ids = idsOf(model, text);
  const scorer = new Scorer(model);
  let tokens = 0;
  try {
    for (const part of windowsOf(ids, window)) {
      signal?.throwIfAborted();
      const { routing } = await scorer.run(part);
      for (const [i, { expertIds, combineWeights }] of routing.entries()) {
        const [chosen, weights] = [await expertIds.data(), await combineWeights.data()];
        const sum = sums[i] as Float64Array;
        for (let j = 0; j < chosen.length; j++)
          if ((chosen[j] as number) >= 0) sum[chosen[j] as number] += weights[j] as number;
      }
      tokens += part.length;
      onProgress?.({ tokens, total: ids.length });
    }
  } finally {
    scorer.dispose();
  }
  return layers.map((layer, i) => ({ layer, weight: [...(sums[i] as Float64Array)] }));
}

/** Drops the `count` experts of least weight from each layer; of equal ones the higher number goes. */
export function chooseDropped(loads: readonly ExpertLoad[], count: number): DroppedExperts[] {
  return loads.map(({ layer, weight }) => {
    const byWeight = weight
      .map((w, expert) => ({ w, expert }))
      .sort((a, b) => b.w - a.w || a.expert - b.expert);
    const kept = byWeight.slice(0, weight.length - count).map(({ expert }) => expert);
    const total = weight.reduce((a, b) => a + b, 0);
    const lost = byWeight.slice(weight.length - count).reduce((sum, { w }) => sum + w, 0);
    return {
      layer,
      weight,
      kept: kept.sort((a, b) => a - b),
      lostWeight: total === 0 ? 0 : lost / total,
    };
  });
}
