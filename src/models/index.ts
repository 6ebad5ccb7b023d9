/** Public names of `import { models }`. */
export type { DecoderConfig, LatentConfig, MoEConfig, NormConfig } from './config.js';
export { countParameters } from './count.js';
export type { ForwardInputs, ForwardOutput, LayerRoutingOutput } from './forward.js';
export { openModel } from './load.js';
export { modelTypes } from './registry.js';
export type { SaveOptions } from './save.js';
export type { LoadProgress } from './tensor-source.js';
export type { UpcycleOptions } from './upcycle.js';
