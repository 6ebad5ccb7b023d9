/** Public names of `import { nn }`. */
export { Attention, type Attend, type AttentionConfig } from './attention.js';
export { FeedForward } from './feed-forward.js';
export { Embedding, Linear, type Matrix } from './linear.js';
export { LayerNorm, RmsNorm } from './norm.js';
export { RotaryEmbedding, type RopeConfig, ropeFrequencies, type RopeScaling } from './rope.js';
