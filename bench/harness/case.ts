import type { Device } from '../../src/core/device.js';
import type { Measured } from './figure.js';
import type { LimitBook } from './limits.js';

export interface BenchOptions {
  /** Once, at tiny size, in seconds: shows that everything runs, says nothing about speed. */
  readonly smoke: boolean;
  readonly threads: number;
  /** GGUF file or folder. */
  readonly model: string | null;
  /** A smaller model of the same vocabulary that guesses for it. */
  readonly draft: string | null;
  /** Sparse layers by a part of their names; empty: the case's own choice. */
  readonly shapes: readonly string[];
  /** Numbers of tokens that meet a sparse layer; empty: the case's own choice. */
  readonly tokens: readonly number[];
  /** Weight formats of cases with random weights; empty: the case's own choice. */
  readonly formats: readonly string[];
  /** Least runs of each figure. */
  readonly runs: number;
  /** Most seconds that one figure's runs take, once it has its least runs. */
  readonly seconds: number;
  readonly peers: boolean;
}

/** What a case gets: where to run, how often, and where its figures go. */
export interface Bench {
  readonly options: BenchOptions;
  readonly device: Device;
  readonly limits: LimitBook;
  emit(figure: Measured): void;
  /** A sentence for the reader, beside the figures. */
  note(text: string): void;
}

export interface BenchCase {
  /** One line for --list. */
  readonly about: string;
  /** Further words that select it; its file's name always does. Those with the word 'model' run once for each model file. */
  readonly words?: readonly string[];
  run(bench: Bench): Promise<void>;
}

export const defineCase = (definition: BenchCase): BenchCase => definition;
