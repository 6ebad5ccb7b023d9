import type { LanguageModel } from '../../src/generate/handles/language-model.js';

/** A signal that aborts while the model's n-th step from now on runs, however fast the machine is. */
export function abortAtStep({ engine }: LanguageModel, n: number): AbortSignal {
  const controller = new AbortController();
  const begin = engine.begin.bind(engine);
  let left = n;
  engine.begin = (...given) => {
    const step = begin(...given);
    if (--left === 0) {
      engine.begin = begin;
      controller.abort();
    }
    return step;
  };
  return controller.signal;
}
