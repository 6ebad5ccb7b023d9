import { type ParameterCount, sumParameters } from '../inspect/parameters.js';
import { decoderParts } from './build.js';
import type { DecoderConfig } from './config.js';

/** Share of the experts that one token meets. */
export const activeShare = ({ moe }: DecoderConfig): number => (moe ? moe.topK / moe.nExperts : 1);

/** Parameters of a model by its config alone. A tied head is counted once, as the embedding. */
export const countParameters = (config: DecoderConfig): ParameterCount =>
  sumParameters(decoderParts(config), activeShare(config));
