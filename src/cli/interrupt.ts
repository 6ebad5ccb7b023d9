import { SwitchyardError } from '../core/errors.js';
import { EXIT_INTERRUPTED } from './failure.js';

/** Ctrl-C: the first one asks for a clean stop, the second one ends the process. */
export class Interrupt implements Disposable {
  readonly #controller = new AbortController();
  readonly #onSignal = (): void => this.trigger();

  constructor() {
    process.on('SIGINT', this.#onSignal);
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  get hit(): boolean {
    return this.#controller.signal.aborted;
  }

  trigger(): void {
    if (this.hit) process.exit(EXIT_INTERRUPTED);
    process.exitCode = EXIT_INTERRUPTED;
    this.#controller.abort(
      new SwitchyardError('ERR_ABORTED', '[switchyard] got an interrupt, expected to finish'),
    );
  }

  [Symbol.dispose](): void {
    process.off('SIGINT', this.#onSignal);
  }
}
