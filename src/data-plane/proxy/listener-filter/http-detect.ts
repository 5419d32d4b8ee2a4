// Tells HTTP/1.0, HTTP/1.1 and HTTP/2 prior knowledge apart from anything else by the first bytes of a connection.
import { MAX_HTTP_INSPECT_BYTES } from '../limits.ts';

export type HttpDetection = 'more' | 'http/1.0' | 'http/1.1' | 'h2c' | 'none';

const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
const METHODS = [
  'GET',
  'HEAD',
  'POST',
  'PUT',
  'DELETE',
  'CONNECT',
  'OPTIONS',
  'TRACE',
  'PATCH',
  'ACL',
  'BIND',
  'CHECKOUT',
  'COPY',
  'LINK',
  'LOCK',
  'MERGE',
  'MKACTIVITY',
  'MKCALENDAR',
  'MKCOL',
  'MOVE',
  'NOTIFY',
  'PROPFIND',
  'PROPPATCH',
  'PURGE',
  'REBIND',
  'REPORT',
  'SEARCH',
  'SOURCE',
  'SUBSCRIBE',
  'UNBIND',
  'UNLINK',
  'UNLOCK',
  'UNSUBSCRIBE',
].map((method) => `${method} `);

export function detectHttp(bytes: Buffer): HttpDetection {
  const common = Math.min(bytes.length, PREFACE.length);
  if (common > 0 && bytes.subarray(0, common).equals(PREFACE.subarray(0, common)))
    return bytes.length < PREFACE.length ? 'more' : 'h2c';
  const head = bytes.toString('latin1', 0, 20);
  const method = METHODS.find((known) =>
    head.length < known.length ? known.startsWith(head) : head.startsWith(known),
  );
  if (method === undefined) return 'none';
  const end = bytes.indexOf(10);
  if (end < 0) return bytes.length > MAX_HTTP_INSPECT_BYTES ? 'none' : 'more';
  const line = bytes.toString('latin1', 0, end).replace(/\r$/, '');
  if (line.endsWith(' HTTP/1.1')) return 'http/1.1';
  if (line.endsWith(' HTTP/1.0')) return 'http/1.0';
  return 'none';
}
