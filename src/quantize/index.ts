/** Public names of `import { quantize }`. */
export type { DroppedExperts } from './drop-experts.js';
export { type FormatRules, TARGET_FORMATS, type TargetFormat } from './formats.js';
export { type Comparison, compareModels, perplexity, type Score, type ScoreOptions } from './perplexity.js';
export {
  type QuantizedTensor,
  type QuantizeOptions,
  type QuantizeProgress,
  type QuantizeReport,
  quantizeModel,
} from './quantize.js';
