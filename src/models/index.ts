/** Public names of `import { models }`. */
export type { DecoderConfig, MoEConfig } from './config.js';
export type { ForwardInputs, ForwardOutput, LayerRoutingOutput } from './forward.js';
export { openModel } from './load.js';
export { modelTypes } from './registry.js';
export type { SaveOptions } from './save.js';
export type { LoadProgress } from './tensor-source.js';
export type { UpcycleOptions } from './upcycle.js';
