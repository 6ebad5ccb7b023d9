/** Numbers as people read them. */

const scaled = (value: number, step: number, units: readonly string[]): string => {
  let unit = 0;
  let v = value;
  while (v >= step && unit < units.length - 1) {
    v /= step;
    unit++;
  }
  return `${unit === 0 ? v : v.toPrecision(v >= 1000 ? 4 : 3)} ${units[unit]}`.trimEnd();
};

/** 1536 → '1.50 KiB' */
export const bytesText = (bytes: number): string => scaled(bytes, 1024, ['B', 'KiB', 'MiB', 'GiB', 'TiB']);
/** 134515008 → '135 M' */
export const countText = (count: number): string => scaled(count, 1000, ['', 'k', 'M', 'B', 'T']);
export const percentText = (share: number): string => `${(100 * share).toFixed(1)} %`;
