/** Tasks one after another, in the order in which they are given. */
export class InTurn {
  #last: Promise<unknown> = Promise.resolve();
  /** Tasks that have not ended. */
  #open = 0;
  readonly #ended = (): void => void this.#open--;

  run<T>(task: () => Promise<T>): Promise<T> {
    const turn = this.#open++ === 0 ? task() : this.#last.then(task, task);
    this.#last = turn;
    turn.then(this.#ended, this.#ended);
    return turn;
  }

  /** Resolves when all that were given so far have ended. */
  async idle(): Promise<void> {
    await this.#last.catch(() => undefined);
  }
}
