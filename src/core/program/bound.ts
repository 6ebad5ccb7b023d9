/** Programs that run again and again on the same buffers. */
import type { Addon, NativeAbort, NativeBuffer, NativeRun } from '../addon.js';
import { eventLoop } from '../event-loop.js';

/**
 * A program with its buffers, which are checked and handed over once: a run is one call. A run of microseconds takes place on
 * the JavaScript thread, since the way to the runtime thread and back takes longer; the event loop has its turn in time.
 */
export class BoundProgram {
  /** The last run took place here, and so will the next, as far as is known. */
  #here = false;

  /**
   * @param outputs null: allocated by each run
   * @param watch told of all outputs of each run, if anybody is
   */
  constructor(
    readonly addon: Addon,
    readonly native: NativeRun,
    readonly outputs: readonly (NativeBuffer | null)[],
    readonly watch: ((outputs: readonly NativeBuffer[]) => Promise<void>) | null,
  ) {}

  /** Resolves to the outputs that have no buffer, to be disposed of by the caller. */
  async run(abort?: NativeAbort): Promise<NativeBuffer[]> {
    const { addon, native } = this;
    const { held } = eventLoop;
    if (held && this.#here) await eventLoop.turn();
    const here = held && !this.#here ? null : addon.runHere(native, abort);
    this.#here = here !== null;
    const fresh = here ?? (await addon.start(native, abort));
    if (this.watch) await this.watch(this.#all(fresh));
    return fresh;
  }

  #all(fresh: readonly NativeBuffer[]): NativeBuffer[] {
    let next = 0;
    return this.outputs.map((output) => output ?? (fresh[next++] as NativeBuffer));
  }

  dispose(): void {
    this.addon.disposeRun(this.native);
  }
}
