/** The content of expected.json of a model folder (see the fixtures' README), as far as models use it. */
export interface ExpectedInput {
  input_ids: number[][];
  attention_mask: number[][];
  position_ids?: number[][];
  prefix_len?: number[];
  aux_loss?: number | null;
  /** Of encoder-decoders. */
  decoder_input_ids?: number[][];
  decoder_attention_mask?: number[][];
  dropped_tokens?: Record<string, number>;
  encoder_z_loss?: number;
  encoder_aux_loss?: number;
  decoder_z_loss?: number;
  decoder_aux_loss?: number;
  /** Of encoders. */
  token_type_ids?: number[][];
  argmax?: number[] | number[][];
  labels?: string[];
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
  /** The last two of decoders only. */
  text?: { prompt: string; prompt_ids: number[]; single_is_truncated: boolean; greedy_continuation: string };
  texts?: { single: string; pair: [string, string]; short: string; masked_positions_of_single: number[] };
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

/** Where the new tokens of a row begin: behind its padded prompt, or behind the start token of an encoder-decoder. */
const firstNew = ({ input_ids, decoder_input_ids }: ExpectedInput, b: number): number =>
  decoder_input_ids ? 1 : (input_ids[b] as number[]).length;

/** The rows of a run without their padding. */
export function rowsOf(run: GreedyRun, input: ExpectedInput): GreedyRow[] {
  const ends = [run.eos_token_id ?? []].flat();
  return run.sequences.map((sequence, b) => ({
    prompt: realTokens(input, b),
    continuation: madeOf(sequence, firstNew(input, b), ends, [run.pad_token_id]),
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
  return input.input_ids.map((_, b) => ({
    prompt: realTokens(input, b),
    paths: run.sequences.slice(b * n, (b + 1) * n).map((sequence, i) => ({
      tokens: madeOf(sequence, firstNew(input, b), ends, pad),
      score: run.sequences_scores[b * n + i] as number,
    })),
  }));
}
