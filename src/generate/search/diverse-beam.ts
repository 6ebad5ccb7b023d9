/**
 * Diverse beam search (Vijayakumar et al. 2016): the beams fall into groups, searched one after the other at each step; a
 * token loses `diversityPenalty` for each beam of the groups before that has chosen it at this step (Hamming diversity, eq. 6).
 */

import type { Strategy } from '../run.js';
import { BeamLanes, type BeamSettings, BeamState, type Ended, handOut, rulesOf, stepsOf } from './beam.js';

/** The sequences returned are the best of all groups. */
export function diverseBeamSearch(settings: BeamSettings): Strategy {
  return async function* search(run) {
    const { continuation } = run;
    const { groups, diversityPenalty, returned } = settings;
    const { top } = continuation;
    const rules = { ...settings, ...rulesOf(continuation), beams: settings.beams / groups };
    const states = Array.from({ length: groups }, () => new BeamState(rules));
    const lanes = new BeamLanes(run);
    const prompt = await lanes.start();
    let rows = states.map(() => [prompt]);
    /** Where the lanes of each group begin. */
    let starts = states.map(() => 0);
    for (;;) {
      const chosen = new Map<number, number>();
      for (const [g, state] of states.entries()) {
        if (state.done) continue;
        state.advance((rows[g] ?? []).map((row) => stepsOf(row, state.wanted, { penalties: chosen, top })));
        for (const { tokens } of state.open) {
          const token = tokens.at(-1) as number;
          chosen.set(token, (chosen.get(token) ?? 0) + diversityPenalty);
        }
      }
      const open = states.map((state) => (state.done ? [] : state.open));
      if (open.every((paths) => paths.length === 0)) break;
      const paths = open.flatMap((group, g) =>
        group.map(({ parent, tokens }) => ({
          parent: (starts[g] as number) + parent,
          token: tokens.at(-1) as number,
        })),
      );
      const logits = await lanes.next(paths);
      let at = 0;
      starts = open.map((group) => {
        const start = at;
        at += group.length;
        return start;
      });
      rows = open.map((group, g) => logits.slice(starts[g], (starts[g] as number) + group.length));
    }
    const all: Ended[] = states.flatMap(({ ended }) => ended);
    yield* handOut(continuation, all.sort((a, b) => b.score - a.score).slice(0, returned));
  };
}
