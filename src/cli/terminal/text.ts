/** Text from models and files on a terminal: it must not steer it. */

// biome-ignore lint/suspicious/noControlCharactersInRegex: these are the characters to look for
const STEERING = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g;

/** Text without the control characters that move cursors or change colours; line ends and tabs stay. */
export const harmless = (text: string): string => text.replace(STEERING, '');

const SHOWN: Readonly<Record<string, string>> = { '\n': '⏎', '\t': '⇥', ' ': '·' };

/** A token on one line: blanks and line ends become visible signs. */
export const tokenLabel = (text: string): string =>
  harmless(text.replace(/[\n\t ]/g, (c) => SHOWN[c] as string));
