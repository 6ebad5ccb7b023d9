/** Public names of `import { hub }`. */
export { hubCacheFolder } from './cache.js';
export { type PullOptions, type PullProgress, type PullResult, pull } from './pull.js';
