// Values of command operators as text and as JSON. Strings in formats are bytes, a character each: what clients sent stands in
// a log as it came, and texts of the configuration as their UTF-8. Used by format.ts, json-format.ts and the operators.
import { isUtf8 } from 'node:buffer';
import type { JsonValue } from '@bufbuild/protobuf';
import { utf8Bytes } from '../http/header-map.ts';
import type { StreamInfo } from '../http/stream-info.ts';
import type { Operator, Structured } from './types.ts';

/** A text that is the same for most requests (names of the configuration) as bytes. */
export function textBytes(read: (info: StreamInfo) => string | undefined): (info: StreamInfo) => string | undefined {
  let before = '';
  let bytes = '';
  return (info) => {
    const value = read(info);
    if (value === undefined) return undefined;
    if (value !== before) {
      bytes = utf8Bytes(value);
      before = value;
    }
    return bytes;
  };
}

/** A number as the shorter of its two notations, which is how Envoy prints what is no count. */
export function numberText(value: number): string {
  if (Object.is(value, -0)) return '-0';
  const [digits = '', power = ''] = value.toExponential().split('e');
  const exponent = Number(power);
  const scientific = `${digits}e${exponent < 0 ? '-' : '+'}${String(Math.abs(exponent)).padStart(2, '0')}`;
  const fixed = Number.isInteger(value) ? BigInt(value).toString() : fraction(value, digits, exponent);
  return fixed.length <= scientific.length ? fixed : scientific;
}

/** JavaScript writes small numbers with an exponent: these are written out. */
function fraction(value: number, digits: string, exponent: number): string {
  if (exponent >= -6) return String(value);
  const sign = value < 0 ? '-' : '';
  return `${sign}0.${'0'.repeat(-exponent - 1)}${digits.replace(/[-.]/g, '')}`;
}

const NEEDS_ESCAPE = /[^\x20-\x7e]|["\\]/;
const NOT_PRINTED = /[^\x20-\x7e]|["\\]/g;

/** Bytes inside of a JSON string. What is no UTF-8 is printed byte by byte. */
export function jsonBytes(bytes: string): string {
  if (!NEEDS_ESCAPE.test(bytes)) return bytes;
  const buffer = Buffer.from(bytes, 'latin1');
  if (isUtf8(buffer)) return utf8Bytes(JSON.stringify(buffer.toString()).slice(1, -1));
  return bytes.replace(NOT_PRINTED, (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

/** A structure whose strings are texts (metadata), as JSON in bytes. Fields have no order: by name, as Envoy prints them. */
export function structureJson(value: JsonValue): string {
  if (typeof value === 'string') return utf8Bytes(JSON.stringify(value));
  if (typeof value === 'number') return numberText(value);
  if (Array.isArray(value)) return `[${value.map(structureJson).join(',')}]`;
  if (value === null || typeof value === 'boolean') return String(value);
  const fields = Object.keys(value).sort();
  return `{${fields.map((name) => `${utf8Bytes(JSON.stringify(name))}:${structureJson(value[name]!)}`).join(',')}}`;
}

/** A value of metadata: text is bytes, everything else is printed as JSON. */
export function metadataText(value: JsonValue | undefined): string | Structured | undefined {
  if (value === undefined || value === null) return undefined;
  if (typeof value === 'string') return utf8Bytes(value);
  const json = structureJson(value);
  return { text: json, json };
}

type Value = NonNullable<ReturnType<Operator>>;

/** As it stands in a line of text. */
export function valueText(value: Value): string {
  return typeof value === 'object' ? value.text : String(value);
}

/** As a JSON value of its own. */
export function valueJson(value: Value): string {
  if (typeof value === 'string') return `"${jsonBytes(value)}"`;
  return typeof value === 'object' ? value.json : String(value);
}
