/** The load of experts as bars. */
import type { LoadStatistics } from '../moe/statistics.js';
import { bar } from './terminal/bars.js';
import type { Style } from './terminal/style.js';

/** More experts than this are shown as the fullest ones only. */
const SHOWN_EXPERTS = 16;
const WIDTH = 30;

/** Entropy of an even load, in bits. */
export const evenEntropy = (nExperts: number): number => Math.log2(nExperts);

/** One line: how even the load of a layer is. */
export function loadLine(layer: number, load: LoadStatistics, style: Style): string {
  const experts = load.tokensPerExpert.length;
  const most = Math.max(...load.tokensPerExpert, 1);
  const spark = load.tokensPerExpert.map((n) => sparkOf(n / most)).join('');
  return [
    style.bold(`layer ${String(layer).padStart(2)}`),
    style.accent(spark),
    `entropy ${load.entropy.toFixed(2)} of ${evenEntropy(experts).toFixed(2)} bits`,
    `cv ${load.cv.toFixed(2)}`,
  ].join('  ');
}

const SPARKS = ['·', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/** One character for a share: '·' is only ever nothing. */
const sparkOf = (share: number): string =>
  SPARKS[share === 0 ? 0 : Math.max(1, Math.round(share * 8))] as string;

/** A bar for each expert, fullest first where there are many. */
export function loadBars(load: LoadStatistics, style: Style): string[] {
  const total = load.tokensPerExpert.reduce((sum, n) => sum + n, 0);
  const most = Math.max(...load.tokensPerExpert, 1);
  const experts = load.tokensPerExpert.map((n, expert) => ({ n, expert }));
  const many = experts.length > SHOWN_EXPERTS;
  if (many) experts.sort((a, b) => b.n - a.n || a.expert - b.expert);
  const lines = experts.slice(0, SHOWN_EXPERTS).map(({ n, expert }) => {
    const share = total === 0 ? 0 : (100 * n) / total;
    return `  ${String(expert).padStart(3)} ${style.accent(bar(n / most, WIDTH).padEnd(WIDTH))} ${String(n).padStart(5)} ${share.toFixed(1).padStart(5)} %`;
  });
  if (many) lines.push(style.dim(`  … and ${experts.length - SHOWN_EXPERTS} experts with less`));
  return lines;
}
