// Reads the fields of a MeshTest: unknown ones are refused with the nearest known name, those of later versions by name.
// Called by the read-*.ts files.
import { type RawObject, type Reader, report } from '../../api/istio/reader.ts';

/** Like `object` of the API's reader, for a person who just mistyped a word. */
export function fieldsOf(
  reader: Reader,
  value: unknown,
  path: string,
  known: readonly string[],
  refused: Readonly<Record<string, string>> = {},
): RawObject | undefined {
  if (value === undefined || value === null) return undefined;
  if (typeof value !== 'object' || Array.isArray(value)) {
    report(reader, path, 'wrong-type', `${path || 'the document'} must be a map with the fields ${known.join(', ')}`);
    return undefined;
  }
  for (const key of Object.keys(value)) {
    if (known.includes(key)) continue;
    const at = path === '' ? key : `${path}.${key}`;
    if (refused[key] !== undefined) {
      report(reader, at, 'not-supported', `${at} is not supported by this version of Meltemi: ${refused[key]}`);
      continue;
    }
    const near = nearest(key, known);
    const hint = near ? `did you mean "${near}"?` : `known fields are ${[...known].sort().join(', ')}`;
    report(reader, at, 'unknown-field', `unknown field "${at}": ${hint}`);
  }
  return value as RawObject;
}

/** The known word at the smallest edit distance, when that is small enough to be a typing mistake. */
export function nearest(word: string, known: readonly string[]): string | undefined {
  let best: string | undefined;
  let least = Math.max(2, Math.floor(word.length / 3)) + 1;
  for (const candidate of known) {
    const far = distance(word.toLowerCase(), candidate.toLowerCase());
    if (far < least) {
      least = far;
      best = candidate;
    }
  }
  return best;
}

function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i += 1) {
    const next = [i];
    for (let j = 1; j <= b.length; j += 1)
      next.push(
        Math.min((row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1, (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1)),
      );
    row = next;
  }
  return row[b.length] ?? 0;
}
