/** GPT-2's table: printable Latin-1 stands for its own byte, the other bytes for the code points from 256 on. */
export const CHAR_OF_BYTE: readonly string[] = (() => {
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) => {
    const printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    return String.fromCharCode(printable ? byte : next++);
  });
})();

const plain = /^[!-~]*$/;

/** The UTF-8 bytes of a text as characters of the table. */
export function bytesToChars(text: string): string {
  if (plain.test(text)) return text;
  let out = '';
  for (const byte of Buffer.from(text)) out += CHAR_OF_BYTE[byte];
  return out;
}
