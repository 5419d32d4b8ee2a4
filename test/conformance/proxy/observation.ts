// What one engine did in one case, as flat keys and texts (`step1.header.server`), freed from what chance decides: dates,
// ids, ports, prefixes. Made by session.ts, judged by expect.ts and compare.ts.
import { createHash } from 'node:crypto';

export type Observation = Map<string, string>;

const SHOWN_BYTES = 2_000;
const DATE = /^(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT$/;
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
const NUMBER = /^\d+$/;

/** Headers whose value differs from run to run; one that has not the right form is shown as it is. */
const VARIABLE: Readonly<Record<string, RegExp>> = {
  date: DATE,
  'x-request-id': UUID,
  'x-envoy-upstream-service-time': NUMBER,
};

export function headerValue(name: string, value: string): string {
  return VARIABLE[name]?.test(value) ? '*' : value;
}

/** Several values of one header stand as a JSON list. */
export function setHeaders(
  out: Observation,
  key: string,
  headers: readonly (readonly [string, string])[],
  clean: (text: string) => string,
): void {
  const byName = new Map<string, string[]>();
  for (const [name, value] of headers) {
    const lower = name.toLowerCase();
    const list = byName.get(lower) ?? [];
    list.push(clean(headerValue(lower, value)));
    byName.set(lower, list);
  }
  for (const [name, values] of byName)
    out.set(`${key}.${name}`, values.length === 1 ? values[0]! : JSON.stringify(values));
}

export function shownBytes(bytes: Buffer): string {
  if (bytes.length <= SHOWN_BYTES) return bytes.toString('latin1');
  const hash = createHash('sha256').update(bytes).digest('hex').slice(0, 16);
  return `${bytes.subarray(0, 80).toString('latin1')}… (${bytes.length} bytes, sha256 ${hash})`;
}

/** Dates and ids inside raw text. */
export function cleanRaw(text: string): string {
  return text
    .replaceAll(/(^|\n)(date: )[^\r\n]+/gi, '$1$2*')
    .replaceAll(/(x-request-id: )[0-9a-f-]{36}/gi, '$1*')
    .replaceAll(/(x-envoy-upstream-service-time: )\d+/gi, '$1*');
}
