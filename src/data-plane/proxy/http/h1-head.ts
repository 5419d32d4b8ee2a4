// Parser of HTTP/1 heads, strict where laxness lets two parsers disagree (request smuggling): CRLF only, no folded lines,
// no space before the colon, one Content-Length, only `chunked`. Called by the server and client connections.
import { HARD_MAX_HEADERS } from '../limits.ts';
import type { BodyKind, Protocol, RequestHead } from './codec.ts';
import { ABSENT, type HeaderMap, NO_NUMBER } from './header-map.ts';
import { H } from './names.ts';
import { textOf } from './texts.ts';

/** How the body of a message is framed. */
export const BODY_NONE = 0;
export const BODY_LENGTH = 1;
export const BODY_CHUNKED = 2;
export const BODY_UNTIL_CLOSE = 3;
export type BodyMode = typeof BODY_NONE | typeof BODY_LENGTH | typeof BODY_CHUNKED | typeof BODY_UNTIL_CLOSE;

/** What a head says, beside its headers. Reused; filled by the parsers. */
export class HeadInfo implements RequestHead {
  method = '';
  target = '';
  readonly scheme = '';
  status = 0;
  /** 0 or 1. */
  minorVersion = 1;
  bodyMode: BodyMode = BODY_NONE;
  contentLength = -1;
  /** `connection: close`, or HTTP/1.0 without keep-alive. */
  close = false;
  /** Value of `upgrade` when `connection` names it. */
  upgrade = '';

  get protocol(): Protocol {
    return this.minorVersion === 0 ? 'HTTP/1.0' : 'HTTP/1.1';
  }

  get body(): BodyKind {
    return this.bodyMode === BODY_LENGTH ? 'length' : this.bodyMode === BODY_CHUNKED ? 'chunked' : 'none';
  }
}

/** Why a head was refused: Envoy's response code details where it has one. */
export type HeadError =
  | 'http1.codec_error'
  | 'http1.invalid_characters'
  | 'http1.invalid_transfer_encoding'
  | 'http1.content_length_and_chunked_not_allowed'
  | 'http1.too_many_headers'
  | 'http1.invalid_scheme'
  | 'http1.invalid_url'
  | 'http.invalid_authority'
  /** HTTP/1.0 where it is not wanted, or no version of HTTP/1 at all. */
  | 'low_version';

const MAX_METHOD = 32;
const TCHAR = new Uint8Array(256);
/** Lower-case letters of names; 0 = not allowed in a name. */
const LOWER = new Uint8Array(256);
for (const char of "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") {
  TCHAR[char.charCodeAt(0)] = 1;
  LOWER[char.charCodeAt(0)] = char.toLowerCase().charCodeAt(0);
}
const METHODS: ReadonlySet<string> = new Set(
  (
    'GET HEAD POST PUT DELETE CONNECT OPTIONS TRACE PATCH ACL BIND CHECKOUT COPY LINK LOCK MERGE MKACTIVITY MKCALENDAR ' +
    'MKCOL MOVE NOTIFY PROPFIND PROPPATCH PURGE REBIND REPORT SEARCH SOURCE SUBSCRIBE UNBIND UNLINK UNLOCK UNSUBSCRIBE'
  ).split(' '),
);

const BARE_END = Buffer.from('\n\n');

/** True when these first bytes of a head can never become a request line: no need to wait for the rest. */
export function startsBadly(bytes: Buffer, from: number, end: number): boolean {
  let i = from;
  while (i < end && TCHAR[bytes[i]!] === 1) i += 1;
  return i < end && (bytes[i] !== 32 || i === from);
}

/** Index after the blank line at or after `from`; -1 when not there yet, -2 when the head uses bare LF. */
export function findHeadEnd(bytes: Buffer, from: number, end: number): number {
  // The last byte of a blank line's four is looked at first: most others allow a step of four.
  let last = from + 3;
  while (last < end) {
    const byte = bytes[last]!;
    if (byte === 10) {
      if (bytes[last - 1] === 13 && bytes[last - 2] === 10 && bytes[last - 3] === 13) return last + 1;
      last += 2;
    } else last += byte === 13 ? 1 : 4;
  }
  const bare = bytes.subarray(from, end).indexOf(BARE_END);
  return bare >= 0 ? -2 : -1;
}

/** `headers.bytes[0, end)` holds the head of a request. Undefined on success. */
export function parseRequestHead(
  headers: HeaderMap,
  end: number,
  info: HeadInfo,
  maxHeaders: number,
): HeadError | undefined {
  const { bytes } = headers;
  let i = 0;
  while (i < MAX_METHOD && TCHAR[bytes[i]!] === 1) i += 1;
  if (i === 0 || bytes[i] !== 32) return 'http1.codec_error';
  info.method = textOf(bytes, 0, i);
  if (!METHODS.has(info.method)) return 'http1.codec_error';
  const targetStart = i + 1;
  i = targetStart;
  while (bytes[i]! > 32 && bytes[i]! < 127) i += 1;
  if (i === targetStart) return 'http1.codec_error';
  // HTTP/0.9 names no version.
  if (bytes[i] === 13) return 'low_version';
  if (bytes[i] !== 32) return 'http1.codec_error';
  info.target = textOf(bytes, targetStart, i);
  const form = targetError(info);
  if (form) return form;
  i += 1;
  const version = parseVersion(bytes, i);
  if (version < 0) return version === OTHER_VERSION ? 'low_version' : 'http1.codec_error';
  info.minorVersion = version;
  i += 8;
  if (bytes[i] !== 13 || bytes[i + 1] !== 10) return 'http1.codec_error';
  return parseFields(headers, i + 2, end, info, maxHeaders, true);
}

/** `headers.bytes[0, end)` holds the head of a response. */
export function parseResponseHead(
  headers: HeaderMap,
  end: number,
  info: HeadInfo,
  maxHeaders: number,
): HeadError | undefined {
  const { bytes } = headers;
  const version = parseVersion(bytes, 0);
  if (version < 0 || bytes[8] !== 32) return 'http1.codec_error';
  info.minorVersion = version;
  let status = 0;
  for (let i = 9; i < 12; i++) {
    const digit = bytes[i]! - 48;
    if (digit < 0 || digit > 9) return 'http1.codec_error';
    status = status * 10 + digit;
  }
  if (status < 100) return 'http1.codec_error';
  info.status = status;
  let i = 12;
  if (bytes[i] !== 32 && bytes[i] !== 13) return 'http1.codec_error';
  while (bytes[i] !== 13) {
    const byte = bytes[i]!;
    if ((byte < 32 && byte !== 9) || byte === 127) return 'http1.codec_error';
    i += 1;
  }
  if (bytes[i + 1] !== 10) return 'http1.codec_error';
  return parseFields(headers, i + 2, end, info, maxHeaders, false);
}

/** Its authority becomes the Host that policies and servers see: never empty, and of bytes that a Host may have. */
const ABSOLUTE = /^https?:\/\/[^/?#\\<>^`{|}"]+(?:[/?#]|$)/i;

/** The forms a target has: a path, `*` of OPTIONS, what CONNECT names, or a URL whose scheme we speak. */
function targetError(info: HeadInfo): HeadError | undefined {
  const { target } = info;
  if (target.charCodeAt(0) === 47 || info.method === 'CONNECT') return undefined;
  if (/^https?:\/\//i.test(target)) {
    if (/^https?:\/\/(?:[/?#]|$)/i.test(target)) return 'http1.invalid_url';
    return ABSOLUTE.test(target) ? undefined : 'http1.codec_error';
  }
  if (target === '*' && info.method === 'OPTIONS') return undefined;
  return /^[a-z][a-z0-9+.-]*:\/\//i.test(target) ? 'http1.invalid_scheme' : 'http1.codec_error';
}

/** A version we do not speak, well-formed. */
const OTHER_VERSION = -2;

/** `HTTP/1.0` → 0, `HTTP/1.1` → 1, else negative. */
function parseVersion(b: Buffer, i: number): number {
  const fits =
    b[i] === 72 && b[i + 1] === 84 && b[i + 2] === 84 && b[i + 3] === 80 && b[i + 4] === 47 && b[i + 6] === 46;
  if (!fits) return -1;
  const major = b[i + 5]! - 48;
  const minor = b[i + 7]! - 48;
  if (major === 1 && (minor === 0 || minor === 1)) return minor;
  return major >= 0 && major <= 9 && minor >= 0 && minor <= 9 ? OTHER_VERSION : -1;
}

const CRLF_LENGTH = 2;

/** `trailers.bytes[0, end)` holds the lines after a last chunk, with the blank one. Framing fields in it mean nothing and are dropped. */
export function parseTrailers(trailers: HeaderMap, end: number): HeadError | undefined {
  const error = parseLines(trailers, 0, end, HARD_MAX_HEADERS);
  if (error) return error;
  trailers.remove(H.transferEncoding);
  trailers.remove(H.contentLength);
  return undefined;
}

function parseFields(
  headers: HeaderMap,
  start: number,
  end: number,
  info: HeadInfo,
  maxHeaders: number,
  request: boolean,
): HeadError | undefined {
  return (
    parseLines(headers, start, end, maxHeaders) ??
    framing(headers, info, request) ??
    (request ? hostError(headers) : undefined)
  );
}

function parseLines(headers: HeaderMap, start: number, end: number, maxHeaders: number): HeadError | undefined {
  const { bytes } = headers;
  let i = start;
  const stop = end - CRLF_LENGTH;
  const limit = Math.min(maxHeaders, HARD_MAX_HEADERS);
  headers.count = 0;
  while (i < stop) {
    if (headers.count >= limit) return 'http1.too_many_headers';
    const ns = i;
    let hash = 0;
    let lower = LOWER[bytes[i]!]!;
    while (lower !== 0) {
      bytes[i] = lower;
      hash = (Math.imul(hash, 31) + lower) | 0;
      i += 1;
      lower = LOWER[bytes[i]!]!;
    }
    const ne = i;
    if (ne === ns || bytes[i] !== 58) return 'http1.codec_error';
    i += 1;
    let vs = i;
    while (bytes[vs] === 32 || bytes[vs] === 9) vs += 1;
    i = vs;
    for (;;) {
      const byte = bytes[i]!;
      if (byte >= 32 ? byte !== 127 : byte === 9) i += 1;
      else break;
    }
    if (bytes[i] !== 13 || bytes[i + 1] !== 10) return 'http1.invalid_characters';
    let ve = i;
    while (ve > vs && (bytes[ve - 1] === 32 || bytes[ve - 1] === 9)) ve -= 1;
    if (vs > i) vs = i;
    i += 2;
    headers.push(ns, ne, vs, ve, hash, vs === ne + 2 && bytes[ne + 1] === 32 && ve === i - 2);
  }
  return i === stop ? undefined : 'http1.codec_error';
}

/** Bytes that stand in no host: they end it in a URL, and a server behind us may read another host than we do. */
const HOST_BYTES = Uint8Array.from({ length: 256 }, (_, byte) =>
  byte > 126 || /[\s/?#\\<>^`{|}"]/.test(String.fromCharCode(byte)) ? 0 : 1,
);

function hostError(headers: HeaderMap): HeadError | undefined {
  return headers.consistsOf(H.host, HOST_BYTES) ? undefined : 'http.invalid_authority';
}

/** Reads what decides where the message ends, refuses everything ambiguous, and drops the framing headers. */
function framing(headers: HeaderMap, info: HeadInfo, request: boolean): HeadError | undefined {
  const length = headers.wholeNumber(H.contentLength);
  const encoding = headers.getAll(H.transferEncoding);
  const connection = headers.getAll(H.connection);
  info.contentLength = -1;
  info.bodyMode = request ? BODY_NONE : BODY_UNTIL_CLOSE;
  if (length === NO_NUMBER) return 'http1.codec_error';
  if (length !== ABSENT) {
    info.contentLength = length;
    info.bodyMode = length > 0 ? BODY_LENGTH : BODY_NONE;
  }
  if (encoding !== undefined) {
    if (length !== ABSENT) return 'http1.content_length_and_chunked_not_allowed';
    if (info.minorVersion === 0 || encoding.toLowerCase() !== 'chunked') return 'http1.invalid_transfer_encoding';
    info.bodyMode = BODY_CHUNKED;
    headers.remove(H.transferEncoding);
  }
  info.close = info.minorVersion === 0;
  info.upgrade = '';
  if (connection !== undefined) connectionOptions(headers, info, connection.toLowerCase());
  else if (headers.has(H.upgrade)) headers.remove(H.upgrade);
  // Of what a client accepts of the next server only the wish for trailers goes on.
  const te = headers.get(H.te);
  if (te !== undefined && te !== 'trailers') {
    if (
      te
        .toLowerCase()
        .split(',')
        .some((part) => part.trim() === 'trailers')
    )
      headers.set(H.te, 'trailers');
    else headers.remove(H.te);
  }
  headers.remove(H.keepAlive);
  headers.remove(H.proxyConnection);
  return undefined;
}

/** Headers that `connection` may not remove: doing so would change what the request means to us (Envoy refuses too). */
const PROTECTED: ReadonlySet<string> = new Set([
  'host',
  'content-length',
  'x-forwarded-for',
  'x-forwarded-host',
  'x-forwarded-proto',
  'x-forwarded-client-cert',
]);

function connectionOptions(headers: HeaderMap, info: HeadInfo, connection: string): void {
  // What nearly all servers and clients say, when they say anything.
  if (connection === 'keep-alive' && !headers.has(H.upgrade)) {
    if (info.minorVersion === 0) info.close = false;
    headers.remove(H.connection);
    return;
  }
  let upgrade = false;
  for (const raw of connection.split(',')) {
    const option = raw.trim();
    if (option === 'close') info.close = true;
    else if (option === 'keep-alive') {
      if (info.minorVersion === 0) info.close = false;
    } else if (option === 'upgrade') upgrade = true;
    else if (option !== '' && option !== 'te' && !PROTECTED.has(option) && /^[a-z0-9-]+$/.test(option))
      removeNamed(headers, option);
  }
  const wanted = headers.get(H.upgrade);
  if (upgrade && wanted !== undefined) info.upgrade = wanted.toLowerCase();
  // An offer, not a demand: HTTP/1.1 goes on.
  if (info.upgrade === 'h2c') {
    info.upgrade = '';
    headers.remove(H.http2Settings);
  }
  headers.remove(H.connection);
  headers.remove(H.upgrade);
}

function removeNamed(headers: HeaderMap, name: string): void {
  let hash = 0;
  const bytes = Buffer.from(name, 'latin1');
  for (const byte of bytes) hash = (Math.imul(hash, 31) + byte) | 0;
  headers.remove({ text: name, hash, bytes });
}
