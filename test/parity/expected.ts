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
  beam?: unknown[];
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

/** The rows of a run without their padding; checks that rows which ended are filled with the pad id. */
export function rowsOf(run: GreedyRun, { input_ids, attention_mask }: ExpectedInput): GreedyRow[] {
  const ends = [run.eos_token_id ?? []].flat();
  return run.sequences.map((sequence, b) => {
    const ids = input_ids[b] as number[];
    const made = sequence.slice(ids.length);
    const end = made.findIndex((id) => ends.includes(id));
    const continuation = end < 0 ? made : made.slice(0, end + 1);
    const fill = made.slice(continuation.length);
    if (!fill.every((id) => id === run.pad_token_id)) throw new Error(`row ${b} goes on after its end`);
    return {
      prompt: ids.filter((_, t) => attention_mask[b]?.[t] === 1),
      continuation,
      prefixLength: run.prefix_len?.[b] ?? null,
    };
  });
}
