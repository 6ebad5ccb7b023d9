import { Presets, SingleBar } from 'cli-progress';
import { bytesText } from './numbers.js';
import { wantsColor } from './style.js';

/** A bar of bytes, or of what `text` says, on stderr, on a terminal only; it disappears when it is done. */
export class ByteBar {
  readonly #bar: SingleBar | null;
  #started = false;

  constructor(
    label: string,
    readonly text: (total: number) => string = bytesText,
    stream: NodeJS.WriteStream = process.stderr,
  ) {
    const color = wantsColor(stream) ? ['\u001b[36m', '\u001b[0m'] : ['', ''];
    this.#bar = stream.isTTY
      ? new SingleBar(
          {
            stream,
            format: `${label} ${color[0]}{bar}${color[1]} {percentage} % of {size}`,
            barsize: 30,
            clearOnComplete: true,
            hideCursor: true,
          },
          Presets.shades_classic,
        )
      : null;
  }

  update({ loaded, total }: { loaded: number; total: number }): void {
    if (!this.#bar) return;
    if (!this.#started) this.#bar.start(total, 0, { size: this.text(total) });
    this.#started = true;
    this.#bar.update(loaded);
  }

  stop(): void {
    if (this.#started) this.#bar?.stop();
  }
}
