// JA3 and JA4: what kind of TLS client a ClientHello is from, told by what it offers and in which order. Called by the
// ClientHello reader when tls_inspector is told to; printed by access logs and header values of routes.
import { hash } from 'node:crypto';

export interface Fingerprinting {
  readonly ja3: boolean;
  readonly ja4: boolean;
}

/** Empty: not asked for. */
export interface Fingerprints {
  readonly ja3: string;
  readonly ja4: string;
}

/** The parts of a hello, whose lengths were checked by who cut it. */
export interface HelloParts {
  readonly version: number;
  readonly ciphers: Buffer;
  readonly extensions: readonly { readonly type: number; readonly data: Buffer }[];
}

const SERVER_NAME = 0;
const GROUPS = 10;
const POINT_FORMATS = 11;
const SIGNATURE_ALGORITHMS = 13;
const ALPN = 16;
const SUPPORTED_VERSIONS = 43;
/** Hex digits of each hash in JA4. */
const JA4_DIGITS = 12;
const NO_HASH = '0'.repeat(JA4_DIGITS);

export function fingerprintsOf(hello: HelloParts, wanted: Fingerprinting): Fingerprints {
  return { ja3: wanted.ja3 ? ja3(hello) : '', ja4: wanted.ja4 ? ja4(hello) : '' };
}

/** RFC 8701: values clients make up, so that servers do not grow stiff. They say nothing of the client. */
const isGrease = (id: number): boolean => (id & 0x0f0f) === 0x0a0a && id >> 8 === (id & 0xff);

/** Two-byte numbers from `start`; a last lone byte is passed over. */
function numbers(bytes: Buffer, start = 0): number[] {
  const out: number[] = [];
  for (let at = start; at + 2 <= bytes.length; at += 2) out.push(bytes.readUInt16BE(at));
  return out;
}

const real = (ids: readonly number[]): number[] => ids.filter((id) => !isGrease(id));

function find(hello: HelloParts, type: number): Buffer | undefined {
  return hello.extensions.find((one) => one.type === type)?.data;
}

/** MD5 of `version,ciphers,extensions,groups,point formats`. Groups keep their made-up values, as in Envoy. */
function ja3(hello: HelloParts): string {
  const types = hello.extensions.map(({ type }) => type);
  const groups = numbers(find(hello, GROUPS) ?? NOTHING, 2);
  const formats = [...(find(hello, POINT_FORMATS) ?? NOTHING).subarray(1)];
  const lists = [real(numbers(hello.ciphers)), real(types), groups, formats].map((list) => list.join('-'));
  return hash('md5', `${hello.version},${lists.join(',')}`, 'hex');
}

const NOTHING = Buffer.alloc(0);

/** `t13d1516h2_<ciphers>_<extensions and signature algorithms>`. */
function ja4(hello: HelloParts): string {
  const ciphers = real(numbers(hello.ciphers));
  const types = real(hello.extensions.map(({ type }) => type));
  const sni = find(hello, SERVER_NAME) ? 'd' : 'i';
  const start = `t${versionOf(hello)}${sni}${twoDigits(ciphers.length)}${twoDigits(types.length)}${alpnEnds(hello)}`;
  return `${start}_${shortHash(sortedHex(ciphers))}_${shortHash(extensionText(hello, types))}`;
}

const twoDigits = (count: number): string => String(Math.min(count, 99)).padStart(2, '0');
const hex = (id: number): string => id.toString(16).padStart(4, '0');
const sortedHex = (ids: readonly number[]): string =>
  ids
    .toSorted((a, b) => a - b)
    .map(hex)
    .join(',');
const shortHash = (text: string): string => (text === '' ? NO_HASH : hash('sha256', text, 'hex').slice(0, JA4_DIGITS));

const VERSIONS: Readonly<Record<number, string>> = { 772: '13', 771: '12', 770: '11', 769: '10' };

/** The highest version offered: the field of old when there is no list. */
function versionOf(hello: HelloParts): string {
  const list = find(hello, SUPPORTED_VERSIONS);
  if (!list) return VERSIONS[hello.version] ?? '00';
  if (list.length === 0 || 1 + list[0]! > list.length) return '00';
  const highest = Math.max(0, ...real(numbers(list.subarray(1, 1 + list[0]!))));
  return VERSIONS[highest === 0 ? hello.version : highest] ?? '00';
}

/** First and last character of the first protocol; two hex digits when one of them is neither letter nor digit. */
function alpnEnds(hello: HelloParts): string {
  const data = find(hello, ALPN);
  const length = data?.[2] ?? 0;
  if (!data || length === 0 || 3 + length > data.length) return '00';
  const first = data[3]!;
  const last = data[2 + length]!;
  const ends = String.fromCharCode(first, last);
  return /^[A-Za-z0-9]{2}$/.test(ends) ? ends : (first >> 4).toString(16) + (last & 15).toString(16);
}

/** Types in order of their numbers without server name and ALPN, then signature algorithms in the client's order. */
function extensionText(hello: HelloParts, types: readonly number[]): string {
  const list = sortedHex(types.filter((type) => type !== SERVER_NAME && type !== ALPN));
  if (list === '') return '';
  const algorithms = hello.extensions.flatMap(({ type, data }) =>
    type === SIGNATURE_ALGORITHMS ? numbers(data, 2) : [],
  );
  return algorithms.length === 0 ? list : `${list}_${algorithms.map(hex).join(',')}`;
}
