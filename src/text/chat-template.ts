import { parse, tokenize } from '@huggingface/jinja';
import { checkOptions, mismatch, SwitchyardError } from '../core/errors.js';
import { strftime } from './strftime.js';
import {
  refusal,
  type TemplateBudget,
  TemplateInterpreter,
  templateEnvironment,
} from './template-interpreter.js';
import type { NamedTemplate } from './tokenizer-json.js';

/** A message as the OpenAI chat format has it; templates read further fields (tool_calls, name, …). */
export interface ChatMessage {
  role: string;
  content?: string | readonly unknown[] | null;
  [field: string]: unknown;
}

export interface RenderOptions {
  /** End with the start of the assistant's turn. Default true. */
  addGenerationPrompt?: boolean;
  /** Tools as JSON schemas; a template without tool support ignores them. */
  tools?: readonly unknown[];
  /** Values for names in `ChatTemplateOptions.allowVariables`, such as `enable_thinking`. */
  variables?: Readonly<Record<string, unknown>>;
}

export interface ChatTemplateOptions {
  /** `bos_token`, `eos_token`, … (`tokenizer.specialTokens`). */
  specialTokens?: Readonly<Record<string, string>>;
  /** Names that `variables` may set. Default: the ones published templates use. */
  allowVariables?: readonly string[];
  /** The time `strftime_now` tells. Default: now. */
  now?: Date;
  /** Whose clock it reads. Default 'local'. */
  timeZone?: 'local' | 'utc';
  budget?: Partial<TemplateBudget>;
}

const DEFAULT_BUDGET: TemplateBudget = { steps: 1_000_000, chars: 8 << 20 };
/** The longest published templates have about 30,000 characters. */
const LONGEST_SOURCE = 1 << 20;
const DEEPEST_INPUT = 64;

const DEFAULT_VARIABLES = [
  'enable_thinking',
  'thinking',
  'thinking_budget',
  'reasoning_effort',
  'preserve_thinking',
  'clear_thinking',
  'documents',
  'controls',
  'tool_choice',
  'builtin_tools',
  'custom_tools',
  'tools_in_user_message',
  'model_identity',
  'date_string',
  'current_date',
  'add_vision_id',
  'continue_final_message',
];

/**
 * The chat template of a model: Jinja, run by an interpreter of its own values. A template sees plain JSON, the special
 * tokens and a few functions; never an object of the host.
 *
 * Enforced: steps (1 M) and characters of every value and of the output (8 MiB), ranges up to 100,000, inputs nested up
 * to 64 deep. Time is bounded by the steps only, there is no clock.
 */
export class ChatTemplate {
  readonly #programs = new Map<string, unknown>();
  readonly #options: ChatTemplateOptions;
  readonly #allowed: ReadonlySet<string>;
  readonly #budget: TemplateBudget;

  /** `source`: one template, or several under names; 'tool_use' is then used when tools are given. Throws ERR_TEMPLATE. */
  constructor(source: string | readonly NamedTemplate[], options: ChatTemplateOptions = {}) {
    const named = typeof source === 'string' ? [{ name: 'default', template: source }] : source;
    if (named.length === 0) throw refusal('no template', 'at least one');
    for (const { name, template } of named) this.#programs.set(name, compile(template));
    this.#options = options;
    this.#allowed = new Set(options.allowVariables ?? DEFAULT_VARIABLES);
    this.#budget = { ...DEFAULT_BUDGET, ...options.budget };
  }

  /**
   * The prompt of a conversation. Throws ERR_TEMPLATE when the template refuses the messages, fails or spends its budget,
   * and ERR_OPTION for variables that are not allowed.
   */
  render(messages: readonly ChatMessage[], options: RenderOptions = {}): string {
    checkOptions('chat template', options, ['addGenerationPrompt', 'tools', 'variables']);
    if (!Array.isArray(messages))
      throw mismatch('ERR_OPTION', 'chat template', typeof messages, 'a list of messages');
    for (const name of Object.keys(options.variables ?? {})) {
      if (!this.#allowed.has(name)) {
        throw mismatch(
          'ERR_OPTION',
          'chat template',
          `variable '${name}'`,
          `one of ${[...this.#allowed].join(', ')}`,
        );
      }
    }
    const { now, timeZone } = this.#options;
    const environment = templateEnvironment((format) =>
      strftime(now ?? new Date(), format, timeZone === 'utc'),
    );
    const values = plain({
      // Templates expect these names to be there, with none as their value.
      documents: null,
      ...this.#options.specialTokens,
      ...options.variables,
      messages,
      tools: options.tools ?? null,
      add_generation_prompt: options.addGenerationPrompt ?? true,
    });
    try {
      for (const [name, value] of Object.entries(values)) environment.set(name, value);
      const output = new TemplateInterpreter(environment, this.#budget).run(this.#program(options.tools));
      return String(output.value);
    } catch (cause) {
      throw typed(cause);
    }
  }

  #program(tools: readonly unknown[] | undefined): unknown {
    const withTools = tools !== undefined && tools.length > 0 ? this.#programs.get('tool_use') : undefined;
    const program = withTools ?? this.#programs.get('default');
    if (program !== undefined) return program;
    if (this.#programs.size === 1) return this.#programs.values().next().value;
    throw refusal(`templates ${[...this.#programs.keys()].join(', ')}`, "one named 'default'");
  }
}

function compile(source: string): unknown {
  if (source.length > LONGEST_SOURCE) {
    throw refusal(`a template of ${source.length} characters`, `at most ${LONGEST_SOURCE}`);
  }
  try {
    return parse(tokenize(source, { lstrip_blocks: true, trim_blocks: true }));
  } catch (cause) {
    throw typed(cause);
  }
}

function typed(cause: unknown): SwitchyardError {
  if (cause instanceof SwitchyardError) return cause;
  const reason = cause instanceof Error ? cause.message : String(cause);
  return mismatch(
    'ERR_TEMPLATE',
    'chat template',
    `an error: ${reason}`,
    'a template that can render these messages',
    {
      cause,
    },
  );
}

/** A copy that is nothing but JSON: no functions, no getters, no prototypes but the plain ones. */
function plain(values: Record<string, unknown>): Record<string, unknown> {
  let copy: Record<string, unknown>;
  try {
    copy = JSON.parse(JSON.stringify(values)) as Record<string, unknown>;
  } catch (cause) {
    throw mismatch('ERR_OPTION', 'chat template', 'messages that are not JSON', 'plain objects', { cause });
  }
  checkDepth(copy, 0);
  return copy;
}

function checkDepth(value: unknown, depth: number): void {
  if (typeof value !== 'object' || value === null) return;
  if (depth > DEEPEST_INPUT) {
    throw mismatch(
      'ERR_OPTION',
      'chat template',
      `messages nested ${depth} deep`,
      `at most ${DEEPEST_INPUT}`,
    );
  }
  for (const each of Object.values(value)) checkDepth(each, depth + 1);
}
