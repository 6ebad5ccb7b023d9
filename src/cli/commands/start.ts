import type { Command } from 'commander';
import { SwitchyardError } from '../../core/errors.js';
import type { GenerationResult } from '../../generate/generation.js';
import { LanguageModel } from '../../generate/handles/language-model.js';
import { countParameters } from '../../models/count.js';
import type { LoadStatistics } from '../../moe/statistics.js';
import { newCommand, printJson, printLines } from '../command.js';
import { Interrupt } from '../interrupt.js';
import {
  addModelOptions,
  addSamplingOptions,
  type ModelFlags,
  type SamplingFlags,
  samplingOf,
} from '../options.js';
import { loadLine } from '../routing-view.js';
import { openModelOf, runGeneration } from '../session.js';
import { timingLine, writeText } from '../terminal/answer.js';
import { countText } from '../terminal/numbers.js';
import { type Style, styleFor } from '../terminal/style.js';
import { answerOf } from './generate.js';

interface Flags extends ModelFlags, SamplingFlags {
  prompt?: string;
}

const DEFAULT_TOKENS = 64;
const QUESTION = 'What is a mixture of experts?';
const OPENING = 'Once upon a time';
/** The experts that a dense model is shown with. */
const SHOWN = { nExperts: 8, topK: 2 } as const;
const COMPARED_TOKENS = 32;
/** Dense models up to this size are quick enough to be shown as a mixture too. */
const QUICK_PARAMETERS = 1e9;

export function startCommand(): Command {
  const command = newCommand('start', 'streams text from a model and shows how it was routed').option(
    '--prompt <text>',
    `default: '${QUESTION}' for chat models, else '${OPENING}'`,
  );
  addSamplingOptions(addModelOptions(command), DEFAULT_TOKENS);
  return command.action(start);
}

async function start(flags: Flags): Promise<void> {
  if (!flags.model)
    throw new SwitchyardError('ERR_OPTION', '[start] got no model, expected the path of one', {
      hint: "'npm start -- --model PATH' (or the variable SWITCHYARD_MODEL), where PATH is a GGUF file or a Hugging Face folder",
    });
  using interrupt = new Interrupt();
  const { model, loadMs } = await openModelOf('start', flags, interrupt);
  await using _ = model;
  const style = styleFor(process.stdout);
  const show = !flags.json;
  if (show) printLines(introduction(model, style), '');
  const { text, ids } = promptOf(model, flags.prompt);
  if (show) process.stdout.write(style.dim(text));
  const options = { ...samplingOf(flags), routing: model.config.moe !== null };
  const result = await runGeneration(
    (signal) => model.generate(ids, { ...options, signal }),
    interrupt,
    show ? writeText : undefined,
  );
  if (show) printLines('', '', style.dim(timingLine(result, loadMs)));
  const mixture = await asMixture(model, ids, flags, interrupt);
  if (flags.json) {
    return printJson({
      model: flags.model,
      prompt: text,
      ...answerOf(result, loadMs),
      routing: model.config.moe ? routingOf(model, result) : null,
      upcycled: mixture && { ...SHOWN, sameTokens: mixture.sameTokens, routing: mixture.routing },
    });
  }
  if (model.config.moe) printRouting(routingOf(model, result), style);
  else if (mixture) {
    const verdict = mixture.sameTokens
      ? style.good(`the same ${mixture.tokens} tokens`)
      : style.bad('another text');
    const { nExperts, topK } = SHOWN;
    printLines(
      '',
      `As ${nExperts} equal experts a layer, ${topK} for a token, both computed exactly: ${verdict}.`,
    );
    printRouting(mixture.routing, style);
  }
}

function introduction({ config, dtype, device }: LanguageModel, style: Style): string {
  const { total, active } = countParameters(config);
  const kind = config.moe
    ? `${config.moe.nExperts} experts, ${config.moe.topK} for a token: ${countText(active)} of ${countText(total)} parameters active`
    : `dense, ${countText(total)} parameters`;
  return `${style.bold(config.family)}, ${kind}; ${dtype} on ${device}`;
}

/** The prompt as text and ids: through the chat template where there is one and no prompt was given. */
function promptOf(model: LanguageModel, given: string | undefined): { text: string; ids: number[] } {
  const { tokenizer } = model;
  if (tokenizer.chatTemplate === undefined) {
    const text = given ?? OPENING;
    return { text: `${text}`, ids: tokenizer.encode(text) };
  }
  const content = given ?? QUESTION;
  const { ids } = model.chatPrompt([{ role: 'user', content }]);
  return { text: `${content}\n\n`, ids };
}

interface LayerLoad extends LoadStatistics {
  readonly layer: number;
}

function routingOf(model: LanguageModel, { routing = [] }: GenerationResult): LayerLoad[] {
  return routing.map((load, i) => ({ layer: model.config.moe?.layers[i] ?? i, ...load }));
}

function printRouting(routing: readonly LayerLoad[], style: Style): void {
  printLines('', style.bold('Load of the experts, prompt and new tokens'));
  for (const load of routing) printLines(loadLine(load.layer, load, style));
}

interface MixtureRun {
  /** Whether both gave the same tokens. */
  readonly sameTokens: boolean;
  readonly tokens: number;
  readonly routing: LayerLoad[];
}

/**
 * A small dense model as a mixture of equal experts, beside itself. Both compute exactly: with rounded activations the
 * sum over two experts rounds differently, and a long text parts sooner or later.
 */
async function asMixture(
  model: LanguageModel,
  ids: readonly number[],
  flags: Flags,
  interrupt: Interrupt,
): Promise<MixtureRun | null> {
  const { config, settings } = model;
  const drawn = (flags.temperature ?? 0) > 0 && flags.seed === undefined;
  if (interrupt.hit || drawn || config.moe || countParameters(config).total > QUICK_PARAMETERS) return null;
  // A handle of its own; the weights are the model's.
  await using dense = new LanguageModel(model.decoder, model.tokenizer, { ...settings, compute: 'f32' });
  await using mixture = await dense.upcycle(SHOWN);
  const maxTokens = Math.min(flags.maxTokens ?? COMPARED_TOKENS, COMPARED_TOKENS);
  const run = (which: LanguageModel, routing: boolean): Promise<GenerationResult> =>
    runGeneration(
      (signal) => which.generate(ids, { ...samplingOf(flags), maxTokens, routing, signal }),
      interrupt,
    );
  const want = await run(dense, false);
  const got = await run(mixture, true);
  return {
    sameTokens: JSON.stringify(got.tokens) === JSON.stringify(want.tokens),
    tokens: want.tokens.length,
    routing: routingOf(mixture, got),
  };
}
