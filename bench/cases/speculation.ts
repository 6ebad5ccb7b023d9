import { drafters } from '../../src/generate/drafters.js';
import type { GenerateOptions } from '../../src/generate/generation.js';
import { defineCase } from '../harness/case.js';
import { openBenchModel, promptOf } from '../harness/models.js';

const NEW_TOKENS = 96;
/** The prompt: this many tokens, twice, as where a text is quoted or edited. */
const PASSAGE = 64;
const RUNS = 5;

export default defineCase({
  about: 'one text with guesses from its own n-grams beside plain decoding: times faster, guesses that hold',
  words: ['model', 'generate', 'drafts', 'speed'],
  async run(bench) {
    const { options, emit } = bench;
    const maxTokens = options.smoke ? 4 : NEW_TOKENS;
    const { model, name } = await openBenchModel(bench, { contextLength: 512 });
    const passage = promptOf(model, PASSAGE);
    const prompt = [...passage, ...passage];
    const speculation = drafters.ngram();
    const run = async (more: GenerateOptions) => {
      const { timings, speculation: counts } = await model
        .generate(prompt, { maxTokens, ignoreEos: true, ...more })
        .result();
      return { ms: timings.decodeMs, held: counts ? counts.accepted / Math.max(1, counts.drafted) : 0 };
    };
    await run({});
    await run({ speculation });
    const times: number[] = [];
    const held: number[] = [];
    for (let i = 0; i < Math.min(options.runs, RUNS); i++) {
      const plain = await run({});
      const guessed = await run({ speculation });
      times.push(plain.ms / guessed.ms);
      held.push(guessed.held);
    }
    const shape = `${name}, a passage twice, ${maxTokens} new`;
    const format = model.dtype;
    emit({ metric: 'times plain', shape, format, unit: '× plain', values: times });
    emit({ metric: 'guesses that hold', shape, format, unit: 'of all', values: held });
    await model.dispose();
  },
});
