const MONTHS = [
  'January',
  'February',
  'March',
  'April',
  'May',
  'June',
  'July',
  'August',
  'September',
  'October',
].concat(['November', 'December']);
const DAYS = ['Sunday', 'Monday', 'Tuesday', 'Wednesday', 'Thursday', 'Friday', 'Saturday'];

/**
 * Python's strftime in English, whatever the locale of the process; `%-d` drops leading zeros. Unknown codes stay as they
 * are. `utc` chooses the clock: universal time, or that of the machine.
 */
export function strftime(date: Date, format: string, utc: boolean): string {
  const [year, month, day, hour, minute, second, weekday] = utc
    ? [
        date.getUTCFullYear(),
        date.getUTCMonth(),
        date.getUTCDate(),
        date.getUTCHours(),
        date.getUTCMinutes(),
      ].concat([date.getUTCSeconds(), date.getUTCDay()])
    : [date.getFullYear(), date.getMonth(), date.getDate(), date.getHours(), date.getMinutes()].concat([
        date.getSeconds(),
        date.getDay(),
      ]);
  const dayOfYear = Math.round((Date.UTC(year, month, day) - Date.UTC(year, 0, 1)) / 86_400_000) + 1;
  const two = (value: number) => String(value).padStart(2, '0');
  const codes: Record<string, () => string> = {
    Y: () => String(year),
    y: () => two(year % 100),
    m: () => two(month + 1),
    B: () => MONTHS[month],
    b: () => MONTHS[month].slice(0, 3),
    d: () => two(day),
    j: () => String(dayOfYear).padStart(3, '0'),
    A: () => DAYS[weekday],
    a: () => DAYS[weekday].slice(0, 3),
    w: () => String(weekday),
    H: () => two(hour),
    I: () => two(hour % 12 === 0 ? 12 : hour % 12),
    p: () => (hour < 12 ? 'AM' : 'PM'),
    M: () => two(minute),
    S: () => two(second),
    F: () => `${year}-${two(month + 1)}-${two(day)}`,
    T: () => `${two(hour)}:${two(minute)}:${two(second)}`,
    '%': () => '%',
  };
  return format.replace(/%(-?)([A-Za-z%])/g, (whole, bare: string, code: string) => {
    const text = Object.hasOwn(codes, code) ? codes[code]() : whole;
    return bare === '-' ? text.replace(/^0+(?=\d)/, '') : text;
  });
}
