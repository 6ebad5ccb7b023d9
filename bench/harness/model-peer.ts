/** Asks, each answered in milliseconds; a peer that cannot leaves it out. */
export interface ModelPeer {
  readonly name: string;
  prefill(prompt: readonly number[]): Promise<number>;
  /** From the first new token to the last, after a prompt. */
  decode(prompt: readonly number[], newTokens: number): Promise<number>;
  /** The same for several sequences at a time. */
  decodeMany?(prompts: readonly (readonly number[])[], newTokens: number): Promise<number>;
  /** Most bytes it has held above what its process held before it loaded the model. */
  peakMemory?(): number | null;
  stop(): void;
}
