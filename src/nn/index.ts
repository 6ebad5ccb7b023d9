/** Public names of `import { nn }`. */
export { type Attend, Attention, type AttentionConfig } from './attention.js';
export { FeedForward } from './feed-forward.js';
export { Embedding, Linear, type Matrix } from './linear.js';
export { LayerNorm, RmsNorm } from './norm.js';
export { type RopeConfig, type RopeScaling, RotaryEmbedding, ropeFrequencies } from './rope.js';
