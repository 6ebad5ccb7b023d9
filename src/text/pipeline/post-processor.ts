import { mismatch } from '../../core/errors.js';

/** Ids that a model expects around a text. */
export interface Surroundings {
  readonly before: readonly number[];
  readonly after: readonly number[];
}

type Config = Record<string, unknown>;

const where = 'tokenizer.json: post_processor';
const nothing: Surroundings = { before: [], after: [] };

/** The `post_processor` of a tokenizer.json for one text. Throws ERR_UNSUPPORTED for an unknown one. */
export function surroundings(config: unknown, idOf: (token: string) => number | undefined): Surroundings {
  if (config === null || config === undefined) return nothing;
  const options = config as Config;
  switch (options.type) {
    // Moves offsets, no ids.
    case 'ByteLevel':
      return nothing;
    case 'BertProcessing':
    case 'RobertaProcessing':
      return { before: [idOfPair(options.cls)], after: [idOfPair(options.sep)] };
    case 'TemplateProcessing':
      return template(options, idOf);
    case 'Sequence':
      return listOf(options.processors)
        .map((each) => surroundings(each, idOf))
        .reduce(
          (inner, outer) => ({
            before: [...outer.before, ...inner.before],
            after: [...inner.after, ...outer.after],
          }),
          nothing,
        );
    default:
      throw mismatch('ERR_UNSUPPORTED', where, `'${String(options.type)}'`, 'a known post-processor');
  }
}

/** `["</s>", 2]`. */
function idOfPair(pair: unknown): number {
  const id = Array.isArray(pair) ? pair[1] : undefined;
  if (Number.isInteger(id)) return id;
  throw mismatch('ERR_FORMAT', where, JSON.stringify(pair) ?? 'nothing', '[token, id]');
}

function template(options: Config, idOf: (token: string) => number | undefined): Surroundings {
  const named = (options.special_tokens ?? {}) as Record<string, { ids?: unknown } | undefined>;
  const before: number[] = [];
  const after: number[] = [];
  let texts = 0;
  for (const part of listOf(options.single)) {
    const { SpecialToken: token, Sequence: text } = part as {
      SpecialToken?: { id?: unknown };
      Sequence?: unknown;
    };
    if (text !== undefined) {
      texts++;
      continue;
    }
    const name = String(token?.id);
    const given = Object.hasOwn(named, name) ? named[name]?.ids : undefined;
    const ids = Array.isArray(given) ? given : [idOf(name)];
    if (!ids.every(Number.isInteger)) {
      throw mismatch('ERR_FORMAT', where, `special token '${name.slice(0, 100)}'`, 'one with an id');
    }
    (texts === 0 ? before : after).push(...(ids as number[]));
  }
  if (texts !== 1) throw mismatch('ERR_UNSUPPORTED', where, `${texts} texts`, 'a template with one text');
  return { before, after };
}

function listOf(list: unknown): unknown[] {
  if (Array.isArray(list)) return list;
  throw mismatch('ERR_FORMAT', where, typeof list, 'a list');
}
