// Reads untrusted objects field by field and collects what is wrong with them. Used by every kind in src/api/.
import { isIP } from 'node:net';
import { formatMistake } from '../../base/envoy-api/command-operators.ts';
import { nearest } from '../../base/nearest.ts';
import type { Diagnostic, Parsed } from '../../base/runtime/diagnostics.ts';

export interface Reader {
  readonly diagnostics: Diagnostic[];
  readonly warnings: string[];
}

export type RawObject = Readonly<Record<string, unknown>>;

/** More than this is not reported for one object. */
const MAX_DIAGNOSTICS = 50;

export function createReader(): Reader {
  return { diagnostics: [], warnings: [] };
}

export function report(reader: Reader, path: string, code: string, message: string): void {
  if (reader.diagnostics.length < MAX_DIAGNOSTICS) reader.diagnostics.push({ path, code, message });
}

export function finish<T>(reader: Reader, value: T): Parsed<T> {
  return reader.diagnostics.length === 0 ? { kind: 'ok', value } : { kind: 'invalid', diagnostics: reader.diagnostics };
}

/** Longer texts are cut in messages. */
const MAX_SHOWN_CHARS = 40;

/** What stood there instead, in few words. */
export function shown(value: unknown): string {
  if (value === null || value === undefined) return 'nothing';
  if (Array.isArray(value)) return 'a list';
  if (typeof value === 'object') return 'a map';
  if (typeof value !== 'string') return String(value);
  return JSON.stringify(value.length > MAX_SHOWN_CHARS ? `${value.slice(0, MAX_SHOWN_CHARS)}…` : value);
}

/** YAML reads `on`, `1.0` and the like as other things than text. */
function quoted(value: unknown): string {
  return typeof value === 'number' || typeof value === 'boolean' ? ': write it in quotes' : '';
}

function isObject(value: unknown): value is RawObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/**
 * An object whose fields are all known. `supported` are read by the caller; `refused` exist in Istio and are refused by name,
 * because obeying only half of an object is worse than refusing it. Undefined when absent.
 */
export function object(
  reader: Reader,
  value: unknown,
  path: string,
  supported: readonly string[],
  refused: readonly string[] = [],
): RawObject | undefined {
  if (value === undefined || value === null) return undefined;
  if (!isObject(value)) {
    report(reader, path, 'wrong-type', `${path} must be an object, not ${shown(value)}`);
    return undefined;
  }
  for (const key of Object.keys(value)) {
    if (supported.includes(key)) continue;
    const field = path === '' ? key : `${path}.${key}`;
    if (refused.includes(key)) {
      report(reader, field, 'not-supported', `${field} is not supported by this version of Meltemi`);
    } else {
      const near = nearest(key, supported);
      const hint = near === undefined ? '' : `; did you mean "${near}"?`;
      report(reader, field, 'unknown-field', `unknown field "${field}"${hint}`);
    }
  }
  return value;
}

export function list(reader: Reader, value: unknown, path: string): readonly unknown[] {
  if (value === undefined || value === null) return [];
  if (Array.isArray(value)) return value;
  report(reader, path, 'wrong-type', `${path} must be a list, not ${shown(value)}`);
  return [];
}

export function text(reader: Reader, value: unknown, path: string): string | undefined {
  if (value === undefined || value === null) return undefined;
  if (typeof value === 'string') return value;
  report(reader, path, 'wrong-type', `${path} must be a string, not ${shown(value)}${quoted(value)}`);
  return undefined;
}

export function texts(reader: Reader, value: unknown, path: string): readonly string[] {
  const out: string[] = [];
  for (const [i, entry] of list(reader, value, path).entries()) {
    const read = text(reader, entry, `${path}[${i}]`);
    if (read !== undefined) out.push(read);
  }
  return out;
}

export function integer(reader: Reader, value: unknown, path: string, min: number, max: number): number | undefined {
  if (value === undefined || value === null) return undefined;
  if (typeof value === 'number' && Number.isInteger(value) && value >= min && value <= max) return value;
  report(reader, path, 'out-of-range', `${path} must be an integer in the range ${min}-${max}, not ${shown(value)}`);
  return undefined;
}

export function flag(reader: Reader, value: unknown, path: string): boolean | undefined {
  if (value === undefined || value === null) return undefined;
  if (typeof value === 'boolean') return value;
  report(reader, path, 'wrong-type', `${path} must be true or false, not ${shown(value)}`);
  return undefined;
}

export function oneOf<T extends string>(
  reader: Reader,
  value: unknown,
  path: string,
  allowed: readonly T[],
): T | undefined {
  if (value === undefined || value === null) return undefined;
  const found = allowed.find((a) => a === value);
  if (found !== undefined) return found;
  const near =
    typeof value === 'string' ? nearest(value, allowed, Math.max(1, Math.floor(value.length / 4))) : undefined;
  const hint = `${near === undefined ? '' : `did you mean ${near}? It is `}one of ${allowed.join(', ')}`;
  report(reader, path, 'unknown-value', `${path}: unsupported value ${JSON.stringify(value)}; ${hint}`);
  return undefined;
}

export function textMap(reader: Reader, value: unknown, path: string): Readonly<Record<string, string>> | undefined {
  if (value === undefined || value === null) return undefined;
  if (!isObject(value)) {
    report(reader, path, 'wrong-type', `${path} must be a map of strings, not ${shown(value)}`);
    return undefined;
  }
  const out: Record<string, string> = {};
  for (const [key, entry] of Object.entries(value)) {
    const read = text(reader, entry, `${path}[${key}]`);
    if (read !== undefined) out[key] = read;
  }
  return out;
}

const DURATION = /^(?:\d+(?:\.\d+)?(?:h|ms|m|s|us|µs|ns))+$/;
const UNIT_MS: Readonly<Record<string, number>> = {
  h: 3_600_000,
  m: 60_000,
  s: 1000,
  ms: 1,
  us: 0.001,
  µs: 0.001,
  ns: 0.000001,
};

/** Milliseconds of a Go duration (`1h2m`, `1.5s`, `100ms`); undefined when it is not one. */
export function parseDuration(value: string): number | undefined {
  if (value === '0') return 0;
  if (!DURATION.test(value)) return undefined;
  let total = 0;
  for (const [, amount, unit] of value.matchAll(/(\d+(?:\.\d+)?)(h|ms|m|s|us|µs|ns)/g))
    total += Number(amount) * (UNIT_MS[unit ?? ''] ?? 0);
  return total;
}

/** A Go duration in milliseconds. */
export function duration(reader: Reader, value: unknown, path: string): number | undefined {
  if (typeof value === 'number') {
    report(reader, path, 'wrong-type', `${path} must be a duration such as 1.5s or 100ms, not ${value}`);
    return undefined;
  }
  const raw = text(reader, value, path);
  if (raw === undefined) return undefined;
  const ms = parseDuration(raw);
  if (ms === undefined)
    report(reader, path, 'bad-duration', `${path}: "${raw}" is not a duration such as 1.5s or 100ms`);
  return ms;
}

const MAX_SELECTOR_LABELS = 4096;

/** `matchLabels` of a workload selector; undefined means the whole scope. */
export function selectorLabels(
  reader: Reader,
  value: unknown,
  path: string,
): Readonly<Record<string, string>> | undefined {
  const selector = object(reader, value, path, ['matchLabels']);
  if (!selector) return undefined;
  const labels = textMap(reader, selector.matchLabels, `${path}.matchLabels`);
  const entries = Object.entries(labels ?? {});
  if (entries.length === 0) {
    reader.warnings.push('selector without labels matches every workload of its scope');
    return undefined;
  }
  if (entries.length > MAX_SELECTOR_LABELS)
    report(reader, path, 'too-many', `${path} has more than ${MAX_SELECTOR_LABELS} labels`);
  for (const [key, label] of entries) {
    if (key === '') report(reader, path, 'empty-key', 'empty key is not supported in selector');
    if (key.includes('*') || label.includes('*'))
      report(reader, path, 'wildcard', `wildcard is not supported in selector: "${key}=${label}"`);
  }
  return labels;
}

const HOST = /^(?:\*|(?:\*\.|\*-)?[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?)*\.?)$/i;
const MAX_HOST_BYTES = 255;

/** A host as it may stand in rules: a name, an address, `*` or a name with a wildcard first label. */
export function host(reader: Reader, value: string, path: string): void {
  if (value.length > MAX_HOST_BYTES || !(HOST.test(value) || isIP(value) !== 0))
    report(reader, path, 'host', `domain name ${JSON.stringify(value)} invalid`);
}

const HEADER_NAME = /^:?[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;

/** What would make a proxy refuse the whole configuration must not get that far. */
export function headerName(reader: Reader, name: string, path: string): void {
  if (!HEADER_NAME.test(name)) report(reader, path, 'header-name', `header name ${JSON.stringify(name)} is not valid`);
}

/** Proxies refuse longer ones. */
const MAX_HEADER_VALUE_BYTES = 16_384;

export function headerText(reader: Reader, value: string, path: string): void {
  if (/[\0\r\n]/.test(value))
    report(reader, path, 'header-value', `${path}: a header value may not contain line breaks`);
  if (Buffer.byteLength(value) > MAX_HEADER_VALUE_BYTES)
    report(reader, path, 'too-large', `${path}: a header value has at most ${MAX_HEADER_VALUE_BYTES} bytes`);
}

/** A value with Envoy's command operators. */
export function headerValue(reader: Reader, value: string, path: string): void {
  headerText(reader, value, path);
  const mistake = formatMistake(value);
  if (mistake !== undefined) report(reader, path, 'header-value', `${path}: ${JSON.stringify(value)}: ${mistake}`);
}
