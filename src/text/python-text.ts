/** Values of templates as Python writes them: `True`, `None`, `[1, 'a']`. */

interface Value {
  readonly type: string;
  readonly value: unknown;
}

/** What `str(value)` gives, which is what stands in a template's output. */
export function pythonText(value: Value): string {
  return value.type === 'StringValue' ? (value.value as string) : pythonRepr(value);
}

/** What `repr(value)` gives. */
function pythonRepr(value: Value): string {
  const { type, value: inner } = value;
  if (type === 'NullValue') return 'None';
  if (type === 'UndefinedValue') return '';
  if (type === 'BooleanValue') return inner ? 'True' : 'False';
  if (type === 'StringValue') return quoted(inner as string);
  if (type === 'FloatValue') return floatText(inner as number);
  if (Array.isArray(inner)) {
    const items = (inner as Value[]).map(pythonRepr).join(', ');
    if (type !== 'TupleValue') return `[${items}]`;
    return inner.length === 1 ? `(${items},)` : `(${items})`;
  }
  if (inner instanceof Map) {
    const entries = [...(inner as Map<string, Value>)].map(
      ([key, item]) => `${quoted(key)}: ${pythonRepr(item)}`,
    );
    return `{${entries.join(', ')}}`;
  }
  return String(inner);
}

/** Single quotes, unless only double ones need no escape. */
function quoted(text: string): string {
  const quote = text.includes("'") && !text.includes('"') ? '"' : "'";
  const escapes: Record<string, string> = {
    '\\': '\\\\',
    '\n': '\\n',
    '\r': '\\r',
    '\t': '\\t',
    [quote]: `\\${quote}`,
  };
  const escaped = text.replace(
    /[\\\n\r\t'"]|[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Cn}\p{Zl}\p{Zp}]|(?! )\p{Zs}/gu,
    (char) => {
      if (char === "'" || char === '"') return char === quote ? escapes[char] : char;
      const code = char.codePointAt(0)!;
      const hex = code.toString(16);
      return (
        escapes[char] ??
        (code < 256
          ? `\\x${hex.padStart(2, '0')}`
          : code < 65536
            ? `\\u${hex.padStart(4, '0')}`
            : `\\U${hex.padStart(8, '0')}`)
      );
    },
  );
  return quote + escaped + quote;
}

function floatText(value: number): string {
  if (!Number.isFinite(value)) return Number.isNaN(value) ? 'nan' : value > 0 ? 'inf' : '-inf';
  if (Object.is(value, -0)) return '-0.0';
  const size = Math.abs(value);
  // Python changes to an exponent at 1e16 and below 1e-4, JavaScript at 1e21 and below 1e-6.
  if (size !== 0 && (size >= 1e16 || size < 1e-4)) {
    return value.toExponential().replace(/e([+-])(\d)$/, 'e$10$2');
  }
  return Number.isInteger(value) ? value.toFixed(1) : String(value);
}

/** Python's strip, lstrip and rstrip: white space, or the characters of `chars`. */
export function pythonStrip(
  text: string,
  chars: string | undefined,
  ends: 'both' | 'left' | 'right',
): string {
  const set = chars === undefined ? undefined : new Set(chars);
  const goes = (char: string) =>
    set?.has(char) ?? (/\p{White_Space}/u.test(char) || (char >= '\x1c' && char <= '\x1f'));
  const all = Array.from(text);
  let start = 0;
  let end = all.length;
  if (ends !== 'right') while (start < end && goes(all[start])) start++;
  if (ends !== 'left') while (end > start && goes(all[end - 1])) end--;
  return all.slice(start, end).join('');
}
