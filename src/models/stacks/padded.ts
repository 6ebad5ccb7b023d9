/** Padded batches as encoders compute on them: padding is computed like a token, and seen by none. */
import { mismatch } from '../../core/errors.js';
import { checkToken } from '../decoder/ragged.js';
import { HIDDEN } from './layout.js';

type Grid = readonly (readonly number[])[];

export interface PaddedRows {
  /** [B][T] token ids. */
  readonly ids: Grid;
  /** [B][T], 1 for real tokens. Default: all real. */
  readonly mask?: Grid | undefined;
}

export interface Padded {
  readonly batch: number;
  readonly time: number;
  /** [B·T] */
  readonly tokens: Int32Array;
  /** [B·T]: places from the left edge, or real tokens counted from 0. */
  readonly positions: Int32Array;
  /** [B+1] */
  readonly offsets: Int32Array;
  /** [B·T]; null: all tokens are real. */
  readonly hidden: Float32Array | null;
}

export interface PaddedOptions {
  /** What errors call the ids and the mask. */
  readonly names: readonly [ids: string, mask: string];
  readonly vocabSize: number;
  /** Tokens of a row at most. */
  readonly longest: number;
  /** Positions count real tokens only. */
  readonly countReal: boolean;
}

/** Checks every id against the vocabulary, and all rows for one length. */
export function toPadded({ ids, mask }: PaddedRows, options: PaddedOptions): Padded {
  const { names, vocabSize, longest, countReal } = options;
  const [batch, time] = [ids.length, ids[0]?.length ?? 0];
  if (batch === 0 || time === 0)
    throw mismatch('ERR_SHAPE', 'forward', `${batch} rows of ${time} ${names[0]}`, 'at least one token');
  if (time > longest)
    throw mismatch('ERR_CONTEXT_LENGTH', 'forward', `rows of ${time} ${names[0]}`, `at most ${longest}`);
  const tokens = Int32Array.from(flatGrid(names[0], ids, batch, time), (id) => checkToken(id, vocabSize));
  const positions = Int32Array.from(tokens, (_, i) => i % time);
  const offsets = Int32Array.from({ length: batch + 1 }, (_, b) => b * time);
  if (!mask) return { batch, time, tokens, positions, offsets, hidden: null };
  const real = flatGrid(names[1], mask, batch, time);
  const odd = real.find((m) => m !== 0 && m !== 1);
  if (odd !== undefined) throw mismatch('ERR_OPTION', 'forward', `${names[1]} ${odd}`, '0 or 1');
  if (countReal) {
    for (let i = 0, count = 0; i < real.length; i++) {
      if (i % time === 0) count = 0;
      positions[i] = count;
      count += real[i] as number;
    }
  }
  const hidden = real.includes(0) ? Float32Array.from(real, (m) => (m === 1 ? 0 : HIDDEN)) : null;
  return { batch, time, tokens, positions, offsets, hidden };
}

/** The numbers of a grid of `batch` rows of `time`, row after row. */
export function flatGrid(name: string, rows: Grid, batch: number, time: number): number[] {
  if (rows.length !== batch || rows.some((row) => row.length !== time))
    throw mismatch('ERR_SHAPE', 'forward', `${name} of uneven shape`, `${batch} rows of ${time}`, {
      hint: 'pad rows to one length and mark padding with 0 in the attention mask',
    });
  return rows.flat();
}
