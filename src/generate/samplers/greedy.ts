import { stateless } from './processor.js';
import { Sampler } from './sampler.js';

/** The likeliest token; ties go to the lower id. */
export const greedy = (): Sampler => Sampler.of(stateless('greedy', (chain) => chain.begin('greedy').end()));
