// Subject alternative names of a certificate, and Envoy's matchers over them. Called by TLS handshakes and /certs.
import type { X509Certificate } from 'node:crypto';
import {
  SubjectAltNameMatcher_SanType as SanType,
  type SubjectAltNameMatcher,
} from '#proto/envoy/extensions/transport_sockets/tls/v3/common_pb.js';
import { ConfigError, join } from '../config/fields.ts';
import { type StringTest, stringTest } from '../config/matchers.ts';

export interface AltName {
  readonly kind: 'uri' | 'dns' | 'ip' | 'email' | 'other';
  readonly value: string;
}

const KINDS: Readonly<Record<string, AltName['kind']>> = {
  URI: 'uri',
  DNS: 'dns',
  'IP Address': 'ip',
  email: 'email',
};

/** Node joins names with ", " and quotes, JSON style, any value that could be mistaken for two: read it the same way. */
export function parseAltNames(text: string | undefined): AltName[] {
  const out: AltName[] = [];
  let rest = text ?? '';
  while (rest !== '') {
    const colon = rest.indexOf(':');
    if (colon < 0) break;
    const kind = KINDS[rest.slice(0, colon)] ?? 'other';
    rest = rest.slice(colon + 1);
    let value: string;
    if (rest.startsWith('"')) {
      const quoted = /^"(?:[^"\\]|\\.)*"/.exec(rest)?.[0];
      if (!quoted) break;
      value = unquote(quoted);
      rest = rest.slice(quoted.length);
    } else {
      const end = rest.indexOf(', ');
      value = end < 0 ? rest : rest.slice(0, end);
      rest = end < 0 ? '' : rest.slice(end);
    }
    out.push({ kind, value });
    if (rest.startsWith(', ')) rest = rest.slice(2);
    else break;
  }
  return out;
}

function unquote(text: string): string {
  try {
    return String(JSON.parse(text));
  } catch {
    return '';
  }
}

export function altNamesOf(certificate: X509Certificate): AltName[] {
  return parseAltNames(certificate.subjectAltName);
}

export type SanTest = (names: readonly AltName[]) => boolean;

/** One matcher must accept one name of its kind; no matcher at all accepts everything. */
export function compileSanMatchers(matchers: readonly SubjectAltNameMatcher[], path: string): SanTest {
  if (matchers.length === 0) return () => true;
  const tests = matchers.map((entry, i) => compileOne(entry, join(path, `match_typed_subject_alt_names[${i}]`)));
  return (names) => tests.some(({ kind, test }) => names.some((name) => name.kind === kind && test(name.value)));
}

function compileOne(entry: SubjectAltNameMatcher, path: string): { kind: AltName['kind']; test: StringTest } {
  if (!entry.matcher) throw new ConfigError(join(path, 'matcher'), 'value is required');
  const pattern = entry.matcher.matchPattern;
  switch (entry.sanType) {
    case SanType.URI:
      return { kind: 'uri', test: stringTest(entry.matcher, join(path, 'matcher')) };
    case SanType.DNS:
      if (pattern.case === 'exact') return { kind: 'dns', test: dnsTest(pattern.value) };
      return { kind: 'dns', test: stringTest(entry.matcher, join(path, 'matcher')) };
    case SanType.IP_ADDRESS:
      return { kind: 'ip', test: stringTest(entry.matcher, join(path, 'matcher')) };
    case SanType.EMAIL:
      return { kind: 'email', test: stringTest(entry.matcher, join(path, 'matcher')) };
    default:
      throw new ConfigError(join(path, 'san_type'), `SAN type ${entry.sanType} is not supported`);
  }
}

/** True when the certificate is valid for `host` (RFC 6125, DNS names only). */
export function coversHost(names: readonly AltName[], host: string): boolean {
  const test = dnsTest(host);
  return names.some((name) => name.kind === 'dns' && test(name.value));
}

/** An exact DNS matcher accepts a wildcard name of the certificate for one left-most label. */
function dnsTest(want: string): StringTest {
  const lower = want.toLowerCase();
  return (name) => {
    const have = name.toLowerCase();
    if (!have.startsWith('*.')) return have === lower;
    const dot = lower.indexOf('.');
    return dot > 0 && lower.slice(dot) === have.slice(1);
  };
}
