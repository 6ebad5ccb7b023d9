/** Us, our peers and the machine's limits in turns. */
import type { LimitName } from '../../src/core/addon.js';
import type { Bench } from './case.js';
import type { PeerValues } from './figure.js';
import { interleave } from './measure.js';

export interface Contestant {
  readonly name: string;
  /** Runs once; milliseconds. */
  run(): Promise<number>;
}

export interface ContestResult {
  readonly ours: number[];
  readonly peers: PeerValues[];
}

/**
 * Measures us and every peer, A B C A B C …. A peer that fails is left out with a note: what we measure of ourselves must not
 * depend on it.
 * @param ours is told which turn it is, so that no input need come twice in a row
 * @param rates limits that are measured in every turn too: two virtual cores may be one core's two threads in one minute and
 *   two cores in the next, and a share of what the machine gave a minute ago would say nothing. `limits` then tells their medians.
 */
export async function contest(
  { options, note, limits }: Pick<Bench, 'options' | 'note' | 'limits'>,
  ours: (turn: number) => Promise<number>,
  peers: readonly Contestant[],
  rates: readonly LimitName[] = [],
): Promise<ContestResult> {
  limits.restart(rates);
  const failed = new Set<Contestant>();
  let turn = 0;
  const all = [
    () => ours(turn++),
    ...peers.map((peer) => async (): Promise<number> => {
      if (failed.has(peer)) return 0;
      try {
        return await peer.run();
      } catch (error) {
        failed.add(peer);
        note(`${peer.name} failed: ${(error as Error).message}`);
        return 0;
      }
    }),
  ];
  if (rates.length > 0)
    all.push(async () => {
      await limits.sample(rates);
      return 0;
    });
  const [us, ...them] = await interleave(options, all);
  return {
    ours: us as number[],
    peers: peers.flatMap((peer, i) =>
      failed.has(peer) ? [] : [{ name: peer.name, values: them[i] as number[] }],
    ),
  };
}

/** The values of every peer, in another unit. */
export const converted = (peers: readonly PeerValues[], to: (ms: number) => number): PeerValues[] =>
  peers.map(({ name, values }) => ({ name, values: values.map(to) }));
