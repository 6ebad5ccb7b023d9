/** How long JavaScript has kept the event loop from its turn. */
import { setImmediate } from 'node:timers';
import { setImmediate as turn } from 'node:timers/promises';

/**
 * Milliseconds that programs may hold the event loop together with the JavaScript between them. A turn costs about 3 µs, and
 * nobody's timer or socket notices so short a wait.
 */
const MOST_HELD = 0.05;

class EventLoop {
  /** When the loop had its last turn, as far as is known; 0: it had one since anybody asked. */
  #since = 0;

  /** Whether work that holds the loop must wait for its next turn. */
  get held(): boolean {
    const now = performance.now();
    if (this.#since === 0) {
      this.#since = now;
      setImmediate(() => {
        this.#since = 0;
      });
    }
    return now - this.#since > MOST_HELD;
  }

  /** Resolves in the next turn. */
  turn(): Promise<void> {
    return turn();
  }
}

/** That of this thread. */
export const eventLoop = new EventLoop();
