import { mismatch } from '../../core/errors.js';

/** Ids that a model expects around a text. */
export interface Surroundings {
  readonly before: readonly number[];
  readonly after: readonly number[];
}

/** A part of two texts together: ids of special tokens, or the first or second text; and the segment that it is. */
export interface PairPart {
  readonly ids: readonly number[];
  /** 0 and 1: the texts. Absent: special tokens. */
  readonly text?: 0 | 1;
  readonly type: number;
}

type Config = Record<string, unknown>;
type IdOf = (token: string) => number | undefined;

const where = 'tokenizer.json: post_processor';
const nothing: Surroundings = { before: [], after: [] };

/** The `post_processor` of a tokenizer.json for one text. Throws ERR_UNSUPPORTED for an unknown one. */
export function surroundings(config: unknown, idOf: IdOf): Surroundings {
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

function template(options: Config, idOf: IdOf): Surroundings {
  const before: number[] = [];
  const after: number[] = [];
  let texts = 0;
  for (const { ids, text } of templateParts(options, options.single, idOf)) {
    if (text === undefined) (texts === 0 ? before : after).push(...ids);
    else texts++;
  }
  if (texts !== 1) throw mismatch('ERR_UNSUPPORTED', where, `${texts} texts`, 'a template with one text');
  return { before, after };
}

const A: PairPart = { ids: [], text: 0, type: 0 };
const B: PairPart = { ids: [], text: 1, type: 1 };

/** The `post_processor` for two texts. Throws ERR_UNSUPPORTED for one that says nothing of pairs, or several that do. */
export function pairParts(config: unknown, idOf: IdOf): readonly PairPart[] {
  const options = (config ?? { type: 'ByteLevel' }) as Config;
  switch (options.type) {
    case 'ByteLevel':
      return [A, B];
    case 'BertProcessing':
    case 'RobertaProcessing': {
      const [begin, end] = [idOfPair(options.cls), idOfPair(options.sep)];
      const first = [{ ids: [begin], type: 0 }, A];
      if (options.type === 'BertProcessing')
        return [...first, { ids: [end], type: 0 }, B, { ids: [end], type: 1 }];
      return [...first, { ids: [end, end], type: 0 }, { ...B, type: 0 }, { ids: [end], type: 0 }];
    }
    case 'TemplateProcessing': {
      const parts = templateParts(options, options.pair, idOf);
      const texts = parts.flatMap(({ text }) => text ?? []);
      if (texts.length === 2 && new Set(texts).size === 2) return parts;
      throw mismatch('ERR_UNSUPPORTED', where, `a pair of ${texts.length} texts`, 'each of two texts once');
    }
    case 'Sequence': {
      const others = listOf(options.processors).filter(
        (each) => (each as Config | null)?.type !== 'ByteLevel',
      );
      if (others.length <= 1) return pairParts(others[0], idOf);
      throw mismatch('ERR_UNSUPPORTED', where, `${others.length} post-processors for a pair`, 'one');
    }
    default:
      throw mismatch('ERR_UNSUPPORTED', where, `'${String(options.type)}'`, 'a known post-processor');
  }
}

function templateParts(options: Config, parts: unknown, idOf: IdOf): PairPart[] {
  const named = (options.special_tokens ?? {}) as Record<string, { ids?: unknown } | undefined>;
  return listOf(parts).map((part) => {
    const { SpecialToken: token, Sequence: text } = (part ?? {}) as {
      SpecialToken?: { id?: unknown; type_id?: unknown };
      Sequence?: { id?: unknown; type_id?: unknown };
    };
    const type = (text ?? token)?.type_id ?? 0;
    if (!Number.isInteger(type) || (type as number) < 0)
      throw mismatch('ERR_FORMAT', where, `type_id ${JSON.stringify(type)}`, 'a whole number');
    if (text !== undefined) return { ids: [], text: text.id === 'B' ? 1 : 0, type: type as number };
    const name = String(token?.id);
    const given = Object.hasOwn(named, name) ? named[name]?.ids : undefined;
    const ids = Array.isArray(given) ? given : [idOf(name)];
    if (!ids.every(Number.isInteger))
      throw mismatch('ERR_FORMAT', where, `special token '${name.slice(0, 100)}'`, 'one with an id');
    return { ids: ids as number[], type: type as number };
  });
}

function listOf(list: unknown): unknown[] {
  if (Array.isArray(list)) return list;
  throw mismatch('ERR_FORMAT', where, typeof list, 'a list');
}
