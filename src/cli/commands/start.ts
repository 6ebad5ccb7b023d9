import type { Command } from 'commander';
import { SwitchyardError } from '../../core/errors.js';
import type { GenerationResult } from '../../generate/generation.js';
import type { LanguageModel } from '../../generate/language-model.js';
import { countParameters } from '../../inspect/parameters.js';
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
  const mixture = interrupt.hit ? null : await asMixture(model, ids, flags, result, interrupt);
  if (flags.json) {
    return printJson({
      model: flags.model,
      prompt: text,
      ...answerOf(result, loadMs),
      routing: model.config.moe ? routingOf(model, result) : null,
      upcycled: mixture && {
        ...SHOWN,
        sameText: mixture.same === result.tokens.length,
        routing: mixture.routing,
      },
    });
  }
  if (model.config.moe) printRouting(routingOf(model, result), style);
  else if (mixture) {
    const all = result.tokens.length;
    const verdict =
      mixture.same === all ? style.good('the same text') : `the same first ${mixture.same} of ${all} tokens`;
    printLines('', `As ${SHOWN.nExperts} equal experts a layer, ${SHOWN.topK} for a token: ${verdict}.`);
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

interface LayerLoad {
  readonly layer: number;
  readonly tokensPerExpert: readonly number[];
  readonly entropy: number;
  readonly cv: number;
  readonly dropped: number;
}

function routingOf(model: LanguageModel, { routing = [] }: GenerationResult): LayerLoad[] {
  return routing.map((load, i) => ({ layer: model.config.moe?.layers[i] ?? i, ...load }));
}

function printRouting(routing: readonly LayerLoad[], style: Style): void {
  printLines('', style.bold('Load of the experts, prompt and new tokens'));
  for (const load of routing) printLines(loadLine(load.layer, load, style));
}

/** Runs a small dense model again as a mixture of equal experts; how many tokens are the same, and the routing. */
async function asMixture(
  dense: LanguageModel,
  ids: readonly number[],
  flags: Flags,
  { tokens }: GenerationResult,
  interrupt: Interrupt,
): Promise<{ same: number; routing: LayerLoad[] } | null> {
  const drawn = (flags.temperature ?? 0) > 0 && flags.seed === undefined;
  if (dense.config.moe || drawn || countParameters(dense.config).total > QUICK_PARAMETERS) return null;
  await using model = await dense.upcycle(SHOWN);
  const result = await runGeneration(
    (signal) => model.generate(ids, { ...samplingOf(flags), routing: true, signal }),
    interrupt,
  );
  const different = tokens.findIndex((token, i) => token !== result.tokens[i]);
  return { same: different < 0 ? tokens.length : different, routing: routingOf(model, result) };
}
