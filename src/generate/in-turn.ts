/** Tasks one after another, in the order in which they are given. */
export class InTurn {
  /** The last task that has not ended. */
  #last: Promise<unknown> | null = null;

  run<T>(task: () => Promise<T>): Promise<T> {
    const turn = this.#last ? this.#last.then(task, task) : task();
    this.#last = turn;
    const ended = (): void => {
      if (this.#last === turn) this.#last = null;
    };
    turn.then(ended, ended);
    return turn;
  }

  /** Resolves when all that were given so far have ended. */
  async idle(): Promise<void> {
    await this.#last?.catch(() => undefined);
  }
}
