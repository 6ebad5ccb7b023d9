/** What SWITCHYARD_DEBUG prints of models and generations, on standard error. */
import type { Device } from '../core/device.js';
import type { ComputeMode } from '../core/format.js';
import type { DecoderConfig, LayersConfig } from '../models/decoder/config.js';
import type { EncoderConfig, EncoderDecoderConfig } from '../models/stacks/stack-config.js';
import type { SplitExperts } from '../moe/split-experts.js';
import type { LoadStatistics } from '../moe/statistics.js';

const LEVELS = '▁▂▃▄▅▆▇█';

/** SWITCHYARD_DEBUG=1: the device and the model in one line. */
export function modelLine(
  device: Device,
  config: DecoderConfig | EncoderConfig | EncoderDecoderConfig,
  compute: ComputeMode,
  weightBytes: number,
): string {
  const layers =
    'stack' in config
      ? stackText(config.stack)
      : 'encoder' in config
        ? `${stackText(config.encoder)} and ${stackText(config.decoder)}`
        : stackText(config);
  const mib = (weightBytes / 2 ** 20).toFixed(1);
  return `switchyard: ${device}; ${config.family}, ${layers}; ${mib} MiB packed, computes in ${compute}\n`;
}

/** SWITCHYARD_DEBUG=1: which part of the experts lies on the GPU, where they are split. */
export function splitLine(
  splits: readonly Pick<SplitExperts, 'places' | 'experts' | 'expertBytes'>[],
): string {
  const places = splits.map((split) => split.places);
  const [least, most] = [Math.min(...places), Math.max(...places)];
  const bytes = splits.reduce((sum, split) => sum + split.places * split.expertBytes, 0);
  const range = least === most ? `${least}` : `${least} to ${most}`;
  return `switchyard: ${splits.length} layers have ${range} of ${splits[0]?.experts} experts on the GPU, ${(bytes / 2 ** 20).toFixed(1)} MiB\n`;
}

function stackText({ nLayers, dModel, nHeads, nKvHeads, moe }: LayersConfig): string {
  const experts = moe
    ? `, ${moe.layers.length} sparse layers of ${moe.nExperts} experts, top-${moe.topK}`
    : '';
  return `${nLayers} layers of width ${dModel}, ${nHeads} heads over ${nKvHeads}${experts}`;
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
