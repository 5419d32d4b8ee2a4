// Reads the fields of a MeshTest: unknown ones are refused with the nearest known name, those of later versions by name.
// Called by the read-*.ts files.
import { type RawObject, type Reader, report, shown } from '../../api/istio/reader.ts';
import { nearest } from '../../base/nearest.ts';

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
    report(
      reader,
      path,
      'wrong-type',
      `${path || 'the document'} must be a map with the fields ${known.join(', ')}, not ${shown(value)}`,
    );
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
