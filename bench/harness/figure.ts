/** A figure: one measured number with its spread, its limit and its peers. `--json` prints one a line. */
import { z } from 'zod';
import { summarize, timesBetter } from './statistics.js';

const number = z.number().finite();
const optional = number.nullable();

const peerSchema = z.strictObject({
  name: z.string().min(1),
  median: number,
  min: number,
  max: number,
  /** How many times better we are. */
  ratio: number,
});
export type PeerFigure = z.infer<typeof peerSchema>;

export const figureSchema = z.strictObject({
  case: z.string().min(1),
  /** Sizes in words, e.g. '512 × 4096 → 4096'. */
  shape: z.string(),
  /** Of the weights, and how they compute where that differs: 'q4_0', 'bf16/f32'; '' where there are none. */
  format: z.string(),
  threads: z.int().min(1),
  tier: z.string().min(1),
  metric: z.string().min(1),
  unit: z.string().min(1),
  median: number,
  min: number,
  max: number,
  runs: z.int().min(1),
  /** The best this machine could do, in the same unit, from its own measured rates; or a goal. */
  limit: optional,
  /** Share of the limit, 1 = reached. */
  limitShare: optional,
  /** Whether the limit is a goal that we set ourselves, which the machine may let us beat. */
  goal: z.boolean(),
  /** Those measured in the same run, in the same unit, the best first. */
  peers: z.array(peerSchema),
  /** Signature of the machine; figures of different machines are never compared. */
  machine: z.string().min(1),
});
export type Figure = z.infer<typeof figureSchema>;

export interface PeerValues {
  readonly name: string;
  readonly values: readonly number[];
}

export interface Measured {
  readonly metric: string;
  readonly unit: string;
  readonly values: readonly number[];
  readonly shape?: string;
  readonly format?: string;
  readonly threads?: number;
  readonly tier?: string;
  readonly limit?: number | null;
  readonly goal?: boolean;
  readonly peers?: readonly PeerValues[];
}

export interface Setting {
  readonly case: string;
  readonly threads: number;
  readonly tier: string;
  readonly machine: string;
}

/** Rounds to six significant digits: more is noise, and lines stay short. */
const short = (value: number): number => Number(value.toPrecision(6));

export function makeFigure(setting: Setting, m: Measured): Figure {
  const { median, min, max, runs } = summarize(m.values);
  const limit = m.limit ?? null;
  const peers = (m.peers ?? []).map(({ name, values }): PeerFigure => {
    const theirs = summarize(values);
    return {
      name,
      median: short(theirs.median),
      min: short(theirs.min),
      max: short(theirs.max),
      ratio: short(timesBetter(median, theirs.median, m.unit)),
    };
  });
  return {
    case: setting.case,
    shape: m.shape ?? '',
    format: m.format ?? '',
    threads: m.threads ?? setting.threads,
    tier: m.tier ?? setting.tier,
    metric: m.metric,
    unit: m.unit,
    median: short(median),
    min: short(min),
    max: short(max),
    runs,
    limit: limit === null ? null : short(limit),
    limitShare: limit === null || median === 0 ? null : short(timesBetter(median, limit, m.unit)),
    goal: m.goal ?? false,
    peers: peers.sort((a, b) => a.ratio - b.ratio),
    machine: setting.machine,
  };
}

/** What is measured, without the numbers: equal for the same figure of two runs. */
export const figureKey = (f: Figure): string =>
  [f.case, f.shape, f.format, `${f.threads} threads`, f.tier, f.metric].filter((s) => s !== '').join(', ');

/** @throws Error naming the line that is no figure */
export function parseFigures(text: string, where: string): Figure[] {
  return text
    .split('\n')
    .map((line, i) => ({ line: line.trim(), number: i + 1 }))
    .filter(({ line }) => line.startsWith('{'))
    .map(({ line, number: at }) => {
      let value: unknown;
      try {
        value = JSON.parse(line);
      } catch {
        throw new Error(`[${where}:${at}] got a line that is no JSON, expected a figure`);
      }
      const figure = figureSchema.safeParse(value);
      if (!figure.success)
        throw new Error(`[${where}:${at}] got no figure: ${z.prettifyError(figure.error)}`);
      return figure.data;
    });
}
