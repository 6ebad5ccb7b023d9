/** What SWITCHYARD_DEBUG prints of models and generations, on standard error. */
import type { Device } from '../core/device.js';
import type { ComputeMode } from '../core/format.js';
import type { DecoderConfig } from '../models/config.js';
import type { LoadStatistics } from '../moe/statistics.js';

const LEVELS = '▁▂▃▄▅▆▇█';

/** SWITCHYARD_DEBUG=1: the device and the model in one line. */
export function modelLine(
  device: Device,
  c: DecoderConfig,
  compute: ComputeMode,
  weightBytes: number,
): string {
  const experts = c.moe
    ? `, ${c.moe.layers.length} sparse layers of ${c.moe.nExperts} experts, top-${c.moe.topK}`
    : '';
  const mib = (weightBytes / 2 ** 20).toFixed(1);
  return `switchyard: ${device}; ${c.family}, ${c.nLayers} layers of width ${c.dModel}, ${c.nHeads} heads over ${c.nKvHeads}${experts}; ${mib} MiB packed, computes in ${compute}\n`;
}

/** SWITCHYARD_DEBUG=3: for each sparse layer how the choices fell on its experts. */
export function routingLines(layers: readonly LoadStatistics[]): string {
  const lines = layers.map(({ tokensPerExpert, entropy, cv, dropped }, i) => {
    const most = Math.max(1, ...tokensPerExpert);
    const bars = tokensPerExpert.map((n) => (n === 0 ? '·' : LEVELS[Math.ceil((8 * n) / most) - 1])).join('');
    const used = tokensPerExpert.filter((n) => n > 0).length;
    return `routing ${String(i).padStart(3)} ${bars} entropy ${entropy.toFixed(2)} bits, cv ${cv.toFixed(2)}, ${used} of ${tokensPerExpert.length} experts used, ${(100 * dropped).toFixed(1)} % dropped`;
  });
  return `${lines.join('\n')}\n`;
}
