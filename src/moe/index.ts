/** Public names of `import { moe }`. */
export { type CapacityOptions, type CapacityRounding, expertCapacity } from './capacity.js';
export { type ExpertParameters, expertOutputs } from './experts.js';
export type {
  Gating,
  GatingContext,
  GatingName,
  MergedRouting,
  NoiseSource,
  Routing,
  SoftRouting,
  SparseRouting,
} from './gating/index.js';
export * as gating from './gating/index.js';
export {
  type AdaptiveMixture,
  adaptiveMixtureLoss,
  gatingNames,
  resolveGating,
  seededNoise,
} from './gating/index.js';
export { type MoEForwardOptions, MoELayer, type MoELayerOptions, type MoEOutput } from './layer.js';
export { LayerLosses, type LossName } from './layer-losses.js';
export * from './losses.js';
export type { LinearParameters, MoEParameters, SharedParameters } from './parameters.js';
export type { MergedPlan, RoutingPlan, SoftPlan, SparsePlan } from './plan.js';
export {
  type ConfidenceStatistics,
  type LoadStatistics,
  loadStatistics,
  routerConfidence,
  type Specialisation,
  specialisation,
  statisticsOfLoad,
} from './statistics.js';
