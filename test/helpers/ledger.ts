/** A device that keeps account of what is made natively through it, and can refuse one of the calls. */
import type { Addon } from '../../src/core/addon.js';
import { Device } from '../../src/core/device.js';
import { SwitchyardError } from '../../src/core/errors.js';
import type { Tensor } from '../../src/core/tensor.js';

/** What makes something, and what gives it back. */
const MAKERS = {
  packWeight: 'disposeWeight',
  convertWeight: 'disposeWeight',
  repeatWeight: 'disposeWeight',
  openPacked: 'disposeWeight',
  createBuffer: 'disposeBuffer',
  partOfBuffer: 'disposeBuffer',
  bufferFrom: 'disposeBuffer',
  createProgram: 'disposeProgram',
  bindRun: 'disposeRun',
  start: 'disposeBuffer',
  runHere: 'disposeBuffer',
} as const satisfies Partial<Record<keyof Addon, keyof Addon>>;

/** What makes nothing, or what tensors keep, but may fail in the middle of something. */
const DOERS = ['run', 'readWeight', 'copyWeight', 'weightError', 'readBuffer', 'writeBuffer'] as const;

type Call = (...args: unknown[]) => unknown;

export class Ledger extends Device {
  /** How many calls there were. */
  calls = 0;
  /** The number of the one that is refused; null: none is. */
  refused: number | null = null;
  readonly #live = new Map<unknown, string>();
  #ofTensor = false;

  constructor() {
    super({ name: 'cpu' });
    const entries = <N extends keyof Addon>(names: readonly N[], make: (name: N) => Call) =>
      Object.fromEntries(names.map((name) => [name, make(name)]));
    const addon = {
      ...this.addon,
      ...entries(Object.keys(MAKERS) as (keyof typeof MAKERS)[], (name) => this.#maker(name)),
      ...entries(DOERS, (name) => this.#counted(name)),
      ...entries(Object.values(MAKERS), (name) => this.#disposer(name)),
    };
    Object.defineProperty(this, 'addon', { value: addon });
  }

  /** Copies of a tensor's values belong to the tensor and go with it: they do not count. */
  override buffer(t: Tensor): ReturnType<Device['buffer']> {
    this.#ofTensor = true;
    try {
      return super.buffer(t);
    } finally {
      this.#ofTensor = false;
    }
  }

  /** What was made and not given back, by what made it. */
  get live(): string[] {
    return [...this.#live.values()];
  }

  #counted(name: keyof Addon): Call {
    const call = this.addon[name] as Call;
    return (...args) => {
      if (this.calls++ !== this.refused) return call(...args);
      throw new SwitchyardError(
        'ERR_OUT_OF_MEMORY',
        `[ledger] got call ${this.refused}, ${name}, expected less`,
      );
    };
  }

  #maker(name: keyof Addon): Call {
    const [make, counted] = [this.addon[name] as Call, this.#counted(name)];
    const keep = (made: unknown): unknown => {
      for (const one of [made].flat()) if (one !== null) this.#live.set(one, name);
      return made;
    };
    return (...args) => {
      if (this.#ofTensor) return make(...args);
      const made = counted(...args);
      return made instanceof Promise ? made.then(keep) : keep(made);
    };
  }

  #disposer(name: keyof Addon): Call {
    const dispose = this.addon[name] as Call;
    return (one) => {
      this.#live.delete(one);
      return dispose(one);
    };
  }
}
