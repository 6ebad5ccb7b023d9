import { type ParameterCount, sumParameters } from '../inspect/parameters.js';
import { decoderParts } from './decoder/build.js';
import type { DecoderConfig } from './decoder/config.js';
import { activeShare } from './stacks.js';

/**
 * Parameters of a model by its config alone, as its makers count them: a tied head once, as the embedding; layers that predict tokens
 * further ahead not at all.
 */
export const countParameters = (config: DecoderConfig): ParameterCount =>
  sumParameters(
    decoderParts({ ...config, nPredictionLayers: 0 }),
    activeShare(config),
    config.tiedEmbeddings,
  );
