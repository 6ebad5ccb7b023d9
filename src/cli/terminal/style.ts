/** Colours, only where a person reads them. */
import { styleText } from 'node:util';

type Format = Parameters<typeof styleText>[0];

export interface Sink {
  readonly isTTY?: boolean;
}

/** Whether a stream gets colours: a terminal, unless NO_COLOR (no-color.org) or TERM=dumb says no. */
export function wantsColor(stream: Sink, env: NodeJS.ProcessEnv = process.env): boolean {
  return stream.isTTY === true && !env.NO_COLOR && env.TERM !== 'dumb';
}

export interface Style {
  bold(text: string): string;
  dim(text: string): string;
  good(text: string): string;
  bad(text: string): string;
  accent(text: string): string;
}

/** Text in the stream's colours, or as it is. */
export function styleFor(stream: Sink, env: NodeJS.ProcessEnv = process.env): Style {
  const on = wantsColor(stream, env);
  // The stream was judged above; Node's own check would look at stdout.
  const style = (format: Format) => (text: string) =>
    on ? styleText(format, text, { validateStream: false }) : text;
  return {
    bold: style('bold'),
    dim: style('dim'),
    good: style('green'),
    bad: style('red'),
    accent: style('cyan'),
  };
}
