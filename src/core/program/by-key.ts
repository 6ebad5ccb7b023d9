/** Programs of one function in several forms, each compiled when it is first asked for. */
export class ByKey<P extends { dispose(): void }> {
  readonly #made = new Map<string, P>();

  /** The program of a key. */
  get(key: string, make: () => P): P {
    let program = this.#made.get(key);
    if (!program) {
      program = make();
      this.#made.set(key, program);
    }
    return program;
  }

  /** Frees all; a later `get` makes them anew. */
  dispose(): void {
    for (const program of this.#made.values()) program.dispose();
    this.#made.clear();
  }
}
