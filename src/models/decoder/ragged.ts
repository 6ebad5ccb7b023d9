/** Between padded batches, as users and files have them, and the ragged tokens that models compute on. */
import { SwitchyardError } from '../../core/errors.js';

export interface PaddedBatch {
  /** [B][T] token ids. */
  inputIds: readonly (readonly number[])[];
  /** [B][T], 1 for real tokens. Default: all real. */
  attentionMask?: readonly (readonly number[])[];
  /** [B][T]. Default: real tokens are counted from 0. */
  positionIds?: readonly (readonly number[])[];
}

export interface Ragged {
  readonly batch: number;
  /** Length of a padded row. */
  readonly time: number;
  /** [N] */
  readonly tokens: Int32Array;
  readonly positions: Int32Array;
  /** [B+1] */
  readonly offsets: Int32Array;
  /** [B·T]: the ragged row of each padded place; -1 at padding. */
  readonly rowOf: Int32Array;
}

/** Drops the padding. Checks every id against the vocabulary. */
export function toRagged({ inputIds, attentionMask, positionIds }: PaddedBatch, vocabSize: number): Ragged {
  const batch = inputIds.length;
  const time = inputIds[0]?.length ?? 0;
  if (batch === 0 || time === 0)
    throw new SwitchyardError(
      'ERR_SHAPE',
      `[forward] got ${batch} rows of ${time} tokens, expected at least one token`,
    );
  for (const [name, rows] of Object.entries({ inputIds, attentionMask, positionIds })) {
    if (!rows) continue;
    if (rows.length !== batch || rows.some((r) => r.length !== time)) {
      throw new SwitchyardError(
        'ERR_SHAPE',
        `[forward] got ${name} of uneven shape, expected ${batch} rows of ${time}`,
        { hint: 'pad rows to one length and mark padding with 0 in attentionMask' },
      );
    }
  }
  const tokens: number[] = [];
  const positions: number[] = [];
  const offsets = [0];
  const rowOf = new Int32Array(batch * time).fill(-1);
  for (let b = 0; b < batch; b++) {
    let place = 0;
    for (let t = 0; t < time; t++) {
      const mask = attentionMask?.[b]?.[t] ?? 1;
      if (mask !== 0 && mask !== 1)
        throw new SwitchyardError(
          'ERR_OPTION',
          `[forward] got attentionMask ${mask} in row ${b}, expected 0 or 1`,
        );
      if (mask === 0) continue;
      rowOf[b * time + t] = tokens.length;
      tokens.push(checkToken(inputIds[b]?.[t], vocabSize));
      positions.push(checkPosition(positionIds?.[b]?.[t] ?? place));
      place++;
    }
    offsets.push(tokens.length);
  }
  return {
    batch,
    time,
    tokens: Int32Array.from(tokens),
    positions: Int32Array.from(positions),
    offsets: Int32Array.from(offsets),
    rowOf,
  };
}

export function checkToken(id: number | undefined, vocabSize: number): number {
  if (id === undefined || !Number.isInteger(id) || id < 0 || id >= vocabSize) {
    throw new SwitchyardError(
      'ERR_OPTION',
      `[model] got token id ${id}, expected a whole number from 0 to ${vocabSize - 1}`,
    );
  }
  return id;
}

function checkPosition(p: number): number {
  if (!Number.isInteger(p) || p < 0 || p >= 2 ** 31)
    throw new SwitchyardError('ERR_OPTION', `[forward] got position ${p}, expected a whole number ≥ 0`);
  return p;
}
