/** Public names of `import { inspect }`. */
export {
  type CacheSizes,
  cacheBytesPerToken,
  estimateMemory,
  type MatrixSize,
  type MemoryEstimate,
  packedBytes,
} from './memory.js';
export {
  type ParameterCount,
  ROLES,
  type Role,
  sumParameters,
} from './parameters.js';
