/** Every op, for `import { ops }`. Importing this file fills the op table. */
import '../program/compile.js'; // whoever makes tensors with ops can also have their values

export * from './assignment.js';
export * from './attention.js';
export * from './combine.js';
export * from './elementwise.js';
export * from './expert-layer.js';
export * from './experts.js';
export * from './grouped.js';
export * from './indexing.js';
export * from './kv-copy.js';
export * from './linalg.js';
export * from './linear.js';
export * from './logits.js';
export * from './norm.js';
export * from './random.js';
export * from './reduce.js';
export * from './routing.js';
export * from './sampling.js';
export * from './shape.js';
