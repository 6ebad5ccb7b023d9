/** Public names of `import { models }`. */

export { countParameters } from './count.js';
export type { DecoderConfig, LatentConfig, MoEConfig, NormConfig } from './decoder/config.js';
export type { ForwardInputs, ForwardOutput, LayerRoutingOutput } from './decoder/forward.js';
export type { SaveOptions } from './packed/save.js';
export { openModel } from './read/load.js';
export type { LoadProgress } from './read/tensor-source.js';
export { modelTypes } from './registry.js';
export type { UpcycleOptions } from './upcycle.js';
