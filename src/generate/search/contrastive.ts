/**
 * Contrastive search (Su et al. 2022, eq. 3): of the k likeliest tokens the one whose
 *   (1 - α) · probability - α · largest cosine of its hidden state with those of the text so far
 * is largest: likely, and not a repetition.
 *
 * A step computes all k candidates, each in a lane that shares the blocks of the text. The lane of the chosen one has read it
 * already: its logits say who the next candidates are. A grammar, bans and penalties change the log-probabilities first, and the
 * probability is of what they leave.
 */
import { checkOptions, mismatch } from '../../core/errors.js';
import { logSumExp } from '../log-sum-exp.js';
import type { Strategy } from '../run.js';
import type { Answer, Lane } from '../steps/lane.js';
import { askOf, behind, nothingLeft } from './beam.js';
import { alternativesTo, type Candidate, likeliest } from './likeliest.js';

export interface ContrastiveOptions {
  /** Candidates, 1 to 64. Default 4. */
  topK?: number;
  /** α, 0 (greedy) to 1. Default 0.6. */
  penalty?: number;
}

const MOST = 64;

/** @throws SwitchyardError ERR_OPTION */
export function contrastiveSettings(options: ContrastiveOptions): Required<ContrastiveOptions> {
  checkOptions('contrastive', options, ['topK', 'penalty']);
  const { topK = 4, penalty = 0.6 } = options;
  if (!(Number.isInteger(topK) && topK >= 1 && topK <= MOST))
    throw mismatch('ERR_OPTION', 'contrastive', `topK ${String(topK)}`, `a whole number from 1 to ${MOST}`);
  if (!(penalty >= 0 && penalty <= 1))
    throw mismatch('ERR_OPTION', 'contrastive', `penalty ${String(penalty)}`, 'a number from 0 to 1');
  return { topK, penalty };
}

export function contrastiveSearch({ topK, penalty }: Required<ContrastiveOptions>): Strategy {
  return async function* search(run) {
    const { continuation } = run;
    let lane = run.open({ hidden: true });
    let edits = continuation.edits();
    let { logits, scores } = behind(await run.prompt(lane, askOf(edits)));
    const { top } = continuation;
    const units = statesOf(lane).map(unit);
    while (!continuation.finished) {
      const norm = logSumExp(logits);
      const candidates = likeliest(scores ?? logits, topK);
      if (candidates.length === 0) throw nothingLeft('contrastive');
      const paths = candidates.map(({ token }, i) => {
        const after = edits?.fork() ?? null;
        after?.take({ token });
        return { lane: i === 0 ? lane : run.fork(lane), edits: after };
      });
      const answers = await Promise.all(
        paths.map((path, i) => run.feed(path.lane, [candidates[i]?.token as number], askOf(path.edits))),
      );
      const states = paths.map((path) => unit(statesOf(path.lane).at(-1) as Float32Array));
      const best = bestOf(candidates, states, units, penalty);
      await Promise.all(paths.filter((_, i) => i !== best).map((path) => run.close(path.lane)));
      const { token } = candidates[best] as Candidate;
      const logprob = (logits[token] as number) - norm;
      const others = top === undefined ? {} : alternativesTo(logits, token, top);
      continuation.take({ token, logprob, chosen: logprob, ...others });
      yield continuation.decode();
      ({ lane, edits } = paths[best] as (typeof paths)[number]);
      ({ logits, scores } = behind(answers[best] as Answer));
      units.push(states[best] as Float32Array);
    }
  };
}

/** The place of the candidate with the best score, the likelier of equals. */
function bestOf(
  candidates: readonly Candidate[],
  states: readonly Float32Array[],
  units: readonly Float32Array[],
  penalty: number,
): number {
  const scores = candidates.map(({ logprob }, i) => {
    const state = states[i] as Float32Array;
    const nearest = units.reduce((most, u) => Math.max(most, dot(u, state)), -1);
    return (1 - penalty) * Math.exp(logprob) - penalty * nearest;
  });
  return scores.indexOf(Math.max(...scores));
}

const statesOf = (lane: Lane): readonly Float32Array[] => lane.hidden as Float32Array[];

function dot(a: Float32Array, b: Float32Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += (a[i] as number) * (b[i] as number);
  return sum;
}

/** The state divided by its length. */
function unit(state: Float32Array): Float32Array {
  const length = Math.sqrt(dot(state, state)) || 1;
  return state.map((v) => v / length);
}
