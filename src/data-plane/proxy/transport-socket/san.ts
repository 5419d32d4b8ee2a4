// Subject alternative names of a certificate, and Envoy's matchers over them. Called by TLS handshakes and /certs.
import type { X509Certificate } from 'node:crypto';
import {
  SubjectAltNameMatcher_SanType as SanType,
  type SubjectAltNameMatcher,
  SubjectAltNameMatcherSchema,
} from '#proto/envoy/extensions/transport_sockets/tls/v3/common_pb.js';
import type { StringMatcher } from '#proto/envoy/type/matcher/v3/string_pb.js';
import { ConfigError, join, only } from '../config/fields.ts';
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
    out.push({ kind, value: kind === 'ip' ? canonicalIp(value) : value });
    if (rest.startsWith(', ')) rest = rest.slice(2);
    else break;
  }
  return out;
}

/** OpenSSL writes all eight groups of an IPv6 address; Envoy compares the short form. */
function canonicalIp(text: string): string {
  if (!text.includes(':')) return text;
  try {
    return new URL(`http://[${text}]/`).hostname.slice(1, -1);
  } catch {
    return text;
  }
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

export function valuesOf(names: readonly AltName[], kind: AltName['kind']): readonly string[] {
  return names.flatMap((name) => (name.kind === kind ? [name.value] : []));
}

/** Node's lines of a distinguished name, as RFC 2253 writes it: what is no ASCII as its bytes in UTF-8. */
export function subjectText(lines: string | undefined): string {
  const text = (lines ?? '').split('\n').reverse().join(',');
  return text.replace(/[^\0-\x7f]+/g, (characters) => {
    let out = '';
    for (const byte of Buffer.from(characters)) out += `\\${byte.toString(16).toUpperCase()}`;
    return out;
  });
}

/**
 * One matcher must accept one name of its kind; no matcher at all accepts everything. `untyped` is the old form, for names
 * of any kind.
 */
export function compileSanMatchers(
  matchers: readonly SubjectAltNameMatcher[],
  untyped: readonly StringMatcher[],
  path: string,
): SanTest {
  if (matchers.length === 0 && untyped.length === 0) return () => true;
  const tests = [
    ...matchers.map((entry, i) => compileOne(entry, join(path, `match_typed_subject_alt_names[${i}]`))),
    ...untyped.flatMap((matcher, i) => {
      const at = join(path, `match_subject_alt_names[${i}]`);
      return UNTYPED.map((sanType) => compileMatcher(sanType, matcher, at));
    }),
  ];
  return (names) => tests.some(({ kind, test }) => names.some((name) => name.kind === kind && test(name.value)));
}

const UNTYPED = [SanType.URI, SanType.DNS, SanType.IP_ADDRESS, SanType.EMAIL] as const;

function compileOne(entry: SubjectAltNameMatcher, path: string): { kind: AltName['kind']; test: StringTest } {
  only(SubjectAltNameMatcherSchema, entry, path, ['san_type', 'matcher']);
  if (!entry.matcher) throw new ConfigError(join(path, 'matcher'), 'value is required');
  return compileMatcher(entry.sanType, entry.matcher, path);
}

function compileMatcher(
  sanType: SanType,
  matcher: StringMatcher,
  path: string,
): { kind: AltName['kind']; test: StringTest } {
  const pattern = matcher.matchPattern;
  const test = stringTest(matcher, join(path, 'matcher'));
  switch (sanType) {
    case SanType.URI:
      return { kind: 'uri', test };
    case SanType.DNS:
      return { kind: 'dns', test: pattern.case === 'exact' ? dnsTest(pattern.value) : test };
    case SanType.IP_ADDRESS:
      return { kind: 'ip', test };
    case SanType.EMAIL:
      return { kind: 'email', test };
    default:
      throw new ConfigError(join(path, 'san_type'), `SAN type ${SanType[sanType] ?? sanType} is not supported`);
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
