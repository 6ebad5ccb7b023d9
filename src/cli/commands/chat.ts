import { createInterface } from 'node:readline';
import type { Command } from 'commander';
import { SwitchyardError } from '../../core/errors.js';
import type { GenerateOptions, Generation } from '../../generate/generation.js';
import type { LanguageModel } from '../../generate/handles/language-model.js';
import type { ChatMessage } from '../../text/chat-template.js';
import { newCommand, printJson } from '../command.js';
import { EXIT_FAILURE, reportFailure } from '../failure.js';
import { Interrupt } from '../interrupt.js';
import {
  addModelOptions,
  addSamplingOptions,
  type ModelFlags,
  type SamplingFlags,
  samplingOf,
} from '../options.js';
import { openModelOf, requireModel, runGeneration } from '../session.js';
import { timingLine, writeText } from '../terminal/answer.js';
import { styleFor } from '../terminal/style.js';
import { answerOf } from './generate.js';

interface Flags extends ModelFlags, SamplingFlags {
  message?: string;
  system?: string;
}

const HELP = '/reset forgets the conversation, /exit (or Ctrl-D) ends';

export function chatCommand(): Command {
  const command = newCommand('chat', 'talks to a model through its own chat template')
    .option('--message <text>', 'answer this message and end')
    .option('--system <text>', 'what the model is told before the conversation');
  addSamplingOptions(addModelOptions(command), undefined);
  return command.action(chat);
}

async function chat(flags: Flags): Promise<void> {
  requireModel('chat', flags.model);
  if (flags.json && flags.message === undefined)
    throw new SwitchyardError('ERR_OPTION', '[chat] got --json without a message, expected --message TEXT', {
      hint: 'an interactive chat has no one answer to print',
    });
  const system: ChatMessage[] = flags.system === undefined ? [] : [{ role: 'system', content: flags.system }];
  let loaded: Awaited<ReturnType<typeof openModelOf>>;
  {
    using interrupt = new Interrupt();
    loaded = await openModelOf('chat', flags, interrupt);
  }
  const { model, loadMs } = loaded;
  await using _ = model;
  model.chatPrompt([...system, { role: 'user', content: 'Hello' }]); // a model without a template fails here, not later
  if (flags.message === undefined) {
    await converse(model, system, samplingOf(flags)); // the model lives until here
    return;
  }

  using interrupt = new Interrupt();
  const messages = [...system, { role: 'user', content: flags.message }];
  const result = await runGeneration(
    (signal) => model.chat(messages, { ...samplingOf(flags), signal }),
    interrupt,
    flags.json ? undefined : writeText,
  );
  if (flags.json) return printJson(answerOf(result, loadMs));
  process.stdout.write('\n');
  if (process.stderr.isTTY)
    process.stderr.write(`${styleFor(process.stderr).dim(timingLine(result, loadMs))}\n`);
}

/** Reads lines until their end; each is answered with the whole conversation before it. */
async function converse(
  model: LanguageModel,
  system: readonly ChatMessage[],
  sampling: GenerateOptions,
): Promise<void> {
  const terminal = process.stdin.isTTY === true && process.stdout.isTTY === true;
  const style = styleFor(process.stdout);
  const lines = createInterface({
    input: process.stdin,
    output: process.stdout,
    terminal,
    prompt: terminal ? style.accent('› ') : '',
  });
  let running: Interrupt | null = null;
  // A terminal in line mode gives Ctrl-C to the reader, not to the process.
  lines.on('SIGINT', () => (running ? running.trigger() : lines.close()));
  if (terminal) process.stderr.write(`${style.dim(HELP)}\n`);
  let history: ChatMessage[] = [];
  lines.prompt();
  for await (const line of lines) {
    const text = line.trim();
    if (text === '/exit') break;
    if (text === '/reset') history = [];
    else if (text !== '') {
      using interrupt = new Interrupt();
      running = interrupt;
      history = await answer(
        model,
        system,
        [...history, { role: 'user', content: text }],
        sampling,
        interrupt,
      );
      running = null;
      if (interrupt.hit) {
        if (!terminal) break;
        process.exitCode = 0; // stopping one answer is no failure of the conversation
      }
    }
    lines.prompt();
  }
  lines.close();
  if (terminal) process.stdout.write('\n');
}

/** Prints the answer and returns the conversation with it. A failed turn is told and forgotten. */
async function answer(
  model: LanguageModel,
  system: readonly ChatMessage[],
  history: ChatMessage[],
  sampling: GenerateOptions,
  interrupt: Interrupt,
): Promise<ChatMessage[]> {
  let kept = history;
  const start = (signal: AbortSignal): Generation => {
    for (;;) {
      try {
        return model.chat([...system, ...kept], { ...sampling, signal });
      } catch (error) {
        // A full context forgets the oldest question and its answer.
        const full = error instanceof SwitchyardError && error.code === 'ERR_CONTEXT_LENGTH';
        if (!full || kept.length < 3) throw error;
        kept = kept.slice(2);
      }
    }
  };
  try {
    const { text } = await runGeneration(start, interrupt, writeText);
    process.stdout.write('\n');
    return [...kept, { role: 'assistant', content: text }];
  } catch (error) {
    reportFailure(error, false);
    if (process.stdin.isTTY !== true) process.exitCode = EXIT_FAILURE;
    return history.slice(0, -1);
  }
}
