/** What models that write text have in common: steps over a cache, shared by all generations. */
import type { KvType } from '../../core/format.js';
import type { ParameterMap } from '../../models/decoder/parameters.js';
import type { GenerationHost } from '../generation.js';
import { StepEngine } from '../steps/engine.js';
import { Scheduler } from '../steps/scheduler.js';
import type { StepModel } from '../steps/step-model.js';
import type { TokenizerSource } from './load-options.js';
import { Model, type ModelSettings } from './model.js';

export interface DecodingSettings extends ModelSettings {
  readonly kvCache: KvType;
  readonly contextLength: number;
  readonly cacheTokens: number;
}

export abstract class DecodingModel extends Model {
  /** How the caches store keys and values. */
  readonly kvCache: KvType;
  readonly #engine: StepEngine;
  readonly #scheduler: Scheduler;
  readonly #endIds: ReadonlySet<number>;

  constructor(
    config: { readonly vocabSize: number; readonly eosIds: readonly number[] },
    parameters: ParameterMap,
    tokenizer: TokenizerSource,
    settings: DecodingSettings,
    steps: StepModel,
  ) {
    super(config, parameters, tokenizer, settings);
    const { device, compute, contextLength, cacheTokens, kvCache } = settings;
    this.kvCache = kvCache;
    this.#engine = new StepEngine(device, steps, compute, contextLength, cacheTokens, kvCache);
    this.#scheduler = new Scheduler(this.#engine);
    this.#endIds = new Set([...config.eosIds, ...tokenizer.endIds]);
  }

  /** @internal Steps over the caches, for schedulers and benches. */
  get engine(): StepEngine {
    return this.#engine;
  }

  /** @internal All generations run through it. */
  get scheduler(): Scheduler {
    return this.#scheduler;
  }

  /** @internal Itself, once the programs of usual steps are built; disposed of where they cannot be. */
  async warmed(): Promise<this> {
    try {
      await this.#engine.warm();
      return this;
    } catch (error) {
      await this.dispose();
      throw error;
    }
  }

  /** What a generation needs of its model. */
  protected decodes(nExperts: number): GenerationHost {
    this.check();
    return {
      device: this.device,
      scheduler: this.#scheduler,
      tokenizer: this.tokenizer,
      endIds: this.#endIds,
      contextLength: this.#engine.contextLength,
      vocabSize: this.#engine.model.vocabSize,
      nExperts,
    };
  }

  protected async free(): Promise<void> {
    await this.#engine.dispose();
  }
}
