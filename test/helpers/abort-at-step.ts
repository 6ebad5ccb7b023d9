import type { LanguageModel } from '../../src/generate/handles/language-model.js';

/** A signal that aborts while the model's n-th step from now on runs, however fast the machine is. */
export function abortAtStep({ engine }: LanguageModel, n: number): AbortSignal {
  const controller = new AbortController();
  const step = engine.step.bind(engine);
  let left = n;
  engine.step = (...given) => {
    const output = step(...given);
    if (--left === 0) {
      engine.step = step;
      controller.abort();
    }
    return output;
  };
  return controller.signal;
}
