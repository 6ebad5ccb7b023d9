import { type ParameterCount, sumParameters } from '../inspect/parameters.js';
import { decoderParts } from './build.js';
import type { DecoderConfig } from './config.js';
import { activeShare } from './stacks.js';

/** Parameters of a decoder by its config alone. A tied head is counted once, as the embedding. */
export const countParameters = (config: DecoderConfig): ParameterCount =>
  sumParameters(decoderParts(config), activeShare(config), config.tiedEmbeddings);
