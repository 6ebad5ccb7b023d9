/** What a constrained text must look like, and which descriptions of it are taken. */
import { z } from 'zod';
import { mismatch, SwitchyardError } from '../../core/errors.js';

/** A schema as JSON (draft 2020-12), or a zod type, of which the result then has the type. */
export type JsonSchema<T = unknown> = z.ZodType<T> | Readonly<Record<string, unknown>>;

export const JSON_LAYOUTS = ['free', 'line'] as const;
export type JsonLayout = (typeof JSON_LAYOUTS)[number];

export interface ConstraintOptions<T = unknown> {
  /** The text is JSON of this schema; `json` of the result is its value. */
  jsonSchema?: JsonSchema<T>;
  /** 'line': JSON on one line with ', ' and ': ' between its parts, so that more of it is forced; 'free' (default): blanks as the model likes. */
  jsonLayout?: JsonLayout;
  /** The whole text matches: ECMAScript syntax without lookaround and back references. */
  regex?: RegExp | string;
  /** The text is one that the rule `root` of this grammar makes: GBNF or EBNF. */
  grammar?: string;
}

const KINDS = ['jsonSchema', 'regex', 'grammar'] as const;
export const CONSTRAINT_OPTIONS = [...KINDS, 'jsonLayout'] as const;

/** What is compiled. */
export interface GrammarSpec {
  readonly type: 'json' | 'regex' | 'grammar';
  readonly source: string;
  /** Of JSON. */
  readonly layout?: JsonLayout;
}

/** Milliseconds that a description may take to be read, the start of the engine not counted. */
export const PARSE_MS = 250;
/**
 * Milliseconds to find which tokens of the vocabulary fit where. A schema of nine properties, its strings bounded, takes 0.8 s with
 * 49,000 tokens, and its worker may have to share its core.
 */
export const COMPILE_MS = 5_000;
const MOST_CHARACTERS = 65_536;
const MOST_DEPTH = 64;
const MOST_NESTING = 256;
const MOST_RULES = 20_000;

export interface Constraint {
  readonly spec: GrammarSpec;
  /** The value of a finished text; null: it is only a text. */
  readonly parse: ((text: string) => unknown) | null;
}

/** @throws SwitchyardError ERR_OPTION for a description that is none, or is beyond the limits; null where none is given */
export function constraintOf(options: ConstraintOptions): Constraint | null {
  const given = KINDS.filter((name) => options[name] !== undefined);
  if (given.length > 1)
    throw mismatch('ERR_OPTION', 'generate', `${given.join(' together with ')}`, 'one of them');
  const { jsonSchema, jsonLayout, regex, grammar } = options;
  if (jsonLayout !== undefined && (jsonSchema === undefined || !JSON_LAYOUTS.includes(jsonLayout)))
    throw mismatch(
      'ERR_OPTION',
      'generate',
      `jsonLayout ${String(jsonLayout)}${jsonSchema === undefined ? ' without jsonSchema' : ''}`,
      "'free' or 'line', and a jsonSchema",
    );
  if (jsonSchema !== undefined) return jsonConstraint(jsonSchema, jsonLayout);
  if (regex !== undefined) return { spec: checked('regex', patternOf(regex)), parse: null };
  if (grammar !== undefined) return { spec: checked('grammar', grammar), parse: null };
  return null;
}

function jsonConstraint(schema: JsonSchema, layout: JsonLayout = 'free'): Constraint {
  if (schema instanceof z.ZodType) {
    const parse = (text: string): unknown => schema.parse(JSON.parse(text));
    let json: unknown;
    try {
      json = z.toJSONSchema(schema, { io: 'input' });
    } catch (cause) {
      throw mismatch(
        'ERR_OPTION',
        'jsonSchema',
        'a zod type that JSON cannot hold',
        'one with a JSON schema',
        {
          cause,
        },
      );
    }
    return { spec: { ...schemaSpec(json as Readonly<Record<string, unknown>>), layout }, parse };
  }
  if (typeof schema !== 'object' || schema === null || Array.isArray(schema))
    throw mismatch('ERR_OPTION', 'jsonSchema', String(schema), 'a JSON schema or a zod type');
  return { spec: { ...schemaSpec(schema), layout }, parse: (text) => JSON.parse(text) };
}

function schemaSpec(schema: Readonly<Record<string, unknown>>): GrammarSpec {
  const depth = depthOf(schema, MOST_DEPTH + 1);
  if (depth > MOST_DEPTH)
    throw mismatch('ERR_OPTION', 'jsonSchema', `a depth above ${MOST_DEPTH}`, `at most ${MOST_DEPTH}`);
  return checked('json', JSON.stringify(schema));
}

function depthOf(value: unknown, most: number): number {
  if (typeof value !== 'object' || value === null || most === 0) return 0;
  let depth = 0;
  for (const part of Object.values(value)) depth = Math.max(depth, depthOf(part, most - 1));
  return depth + 1;
}

function patternOf(regex: RegExp | string): string {
  if (typeof regex === 'string') return regex;
  if (!(regex instanceof RegExp)) throw mismatch('ERR_OPTION', 'regex', String(regex), 'a RegExp or a text');
  if (regex.flags.replace('u', '') !== '')
    throw mismatch('ERR_OPTION', 'regex', `flags '${regex.flags}'`, "none but 'u'");
  return regex.source.replace(/^\^/, '').replace(/(?<!\\)\$$/, '');
}

function checked(type: GrammarSpec['type'], source: unknown): GrammarSpec {
  if (typeof source !== 'string') throw mismatch('ERR_OPTION', type, typeof source, 'a text');
  const what = type === 'json' ? 'a schema' : type === 'regex' ? 'an expression' : 'a grammar';
  if (source.length === 0 || source.length > MOST_CHARACTERS)
    throw mismatch('ERR_OPTION', type, `${what} of ${source.length} characters`, `1 to ${MOST_CHARACTERS}`);
  if (type !== 'json' && nesting(source) > MOST_NESTING)
    throw mismatch(
      'ERR_OPTION',
      type,
      `parentheses nested beyond ${MOST_NESTING}`,
      `at most ${MOST_NESTING}`,
    );
  const rules = type === 'grammar' ? source.split('::=').length - 1 : 0;
  if (rules > MOST_RULES) throw mismatch('ERR_OPTION', type, `${rules} rules`, `at most ${MOST_RULES}`);
  return { type, source };
}

function nesting(source: string): number {
  let depth = 0;
  let most = 0;
  for (const c of source) {
    if (c === '(' || c === '[') most = Math.max(most, ++depth);
    else if (c === ')' || c === ']') depth = Math.max(0, depth - 1);
  }
  return most;
}

/** The value of a finished text. @throws SwitchyardError ERR_FORMAT where it is not what the schema says */
export function finishedValue({ parse }: Constraint, text: string): unknown {
  if (!parse) return undefined;
  try {
    return parse(text);
  } catch (cause) {
    throw new SwitchyardError(
      'ERR_FORMAT',
      `[jsonSchema] got the text ${JSON.stringify(text.slice(0, 80))}, expected a value of the schema`,
      { cause },
    );
  }
}
