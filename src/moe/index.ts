/** Public names of `import { moe }`. */
export { runExperts } from './experts.js';
export type { Choice, Gating, GatingContext, GatingName } from './gating/index.js';
export { gatingNames, resolveGating, softmaxTopK, topKSoftmax } from './gating/index.js';
export type { MoELayerOptions, MoEOutput, MoEParameters, RoutingPlan } from './layer.js';
export { MoELayer } from './layer.js';
export { loadBalancingLoss } from './losses.js';
export { type LoadStatistics, loadStatistics, statisticsOfLoad } from './statistics.js';
