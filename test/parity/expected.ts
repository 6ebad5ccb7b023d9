/** The content of expected.json of a model folder (see the fixtures' README), as far as decoders use it. */
export interface ExpectedInput {
  input_ids: number[][];
  attention_mask: number[][];
  position_ids?: number[][];
  prefix_len?: number[];
  aux_loss?: number | null;
}

export interface GreedyRun {
  input: string;
  max_new_tokens: number;
  eos_token_id: number[] | number | null;
  pad_token_id: number;
  sequences: number[][];
  prefix_len?: number[];
  use_cache?: boolean;
}

export interface BeamRun extends Omit<GreedyRun, 'prefix_len' | 'use_cache'> {
  num_beams: number;
  num_return_sequences: number;
  length_penalty: number;
  early_stopping: boolean | 'never';
  /** One for each returned sequence. */
  sequences_scores: number[];
}

export interface TokenizerCase {
  text: string;
  ids: number[];
  tokens: string[];
  ids_with_special: number[];
  decoded: string;
  decoded_with_special: string;
}

export interface Expected {
  kind: string;
  model_type?: string;
  architecture?: string;
  inputs: Record<string, ExpectedInput>;
  moe_layers?: number[];
  greedy?: GreedyRun[];
  beam?: BeamRun[];
  text?: { prompt: string; prompt_ids: number[]; single_is_truncated: boolean; greedy_continuation: string };
  tokenizer?: { cases: TokenizerCase[] };
}

/** One row of a greedy run: what goes in, and what must come out. */
export interface GreedyRow {
  prompt: number[];
  /** New tokens, an end token included. */
  continuation: number[];
  prefixLength: number | null;
}

/** The new tokens of a row, an end token included; checks that what follows it is padding. */
function madeOf(
  sequence: readonly number[],
  from: number,
  ends: readonly number[],
  pad: readonly number[],
): number[] {
  const made = sequence.slice(from);
  const end = made.findIndex((id) => ends.includes(id));
  const tokens = end < 0 ? made : made.slice(0, end + 1);
  const fill = made.slice(tokens.length);
  if (!fill.every((id) => pad.includes(id))) throw new Error(`a row goes on after its end: ${sequence}`);
  return tokens;
}

const realTokens = ({ input_ids, attention_mask }: ExpectedInput, b: number): number[] =>
  (input_ids[b] as number[]).filter((_, t) => attention_mask[b]?.[t] === 1);

/** The rows of a run without their padding. */
export function rowsOf(run: GreedyRun, input: ExpectedInput): GreedyRow[] {
  const ends = [run.eos_token_id ?? []].flat();
  return run.sequences.map((sequence, b) => ({
    prompt: realTokens(input, b),
    continuation: madeOf(sequence, (input.input_ids[b] as number[]).length, ends, [run.pad_token_id]),
    prefixLength: run.prefix_len?.[b] ?? null,
  }));
}

/** One row of a beam search: what goes in, and the sequences that must come out, best first. */
export interface BeamRow {
  prompt: number[];
  paths: { tokens: number[]; score: number }[];
}

/** The library fills with the pad id, but where that is 0 with the first end token. */
export function beamRowsOf(run: BeamRun, input: ExpectedInput): BeamRow[] {
  const ends = [run.eos_token_id ?? []].flat();
  const pad = run.pad_token_id === 0 ? ends.slice(0, 1) : [run.pad_token_id];
  const n = run.num_return_sequences;
  return input.input_ids.map((ids, b) => ({
    prompt: realTokens(input, b),
    paths: run.sequences.slice(b * n, (b + 1) * n).map((sequence, i) => ({
      tokens: madeOf(sequence, ids.length, ends, pad),
      score: run.sequences_scores[b * n + i] as number,
    })),
  }));
}
