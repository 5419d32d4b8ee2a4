// A strict DER reader with limits and a small DER writer: the ground of the certificate and CSR files beside it.
// The reader takes hostile input: definite minimal lengths and low tag numbers only, no recursion of its own.
import { X509Error } from './errors.ts';

export const TAG = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  null: 0x05,
  oid: 0x06,
  utf8String: 0x0c,
  printableString: 0x13,
  ia5String: 0x16,
  utcTime: 0x17,
  generalizedTime: 0x18,
  sequence: 0x30,
  set: 0x31,
} as const;

/** A constructed value never has more members than this (no certificate or CSR we accept needs more). */
export const MAX_CHILDREN = 512;

export interface DerNode {
  readonly tag: number;
  readonly content: Buffer;
  /** Header and content as they stood in the input. */
  readonly raw: Buffer;
}

/** The one value that fills `input` exactly. Throws X509Error code `der`. */
export function readDer(input: Buffer): DerNode {
  const node = readAt(input, 0);
  if (node.raw.length !== input.length) throw new X509Error('der', 'there are bytes after the end of the structure');
  return node;
}

/** The members of a constructed value, in order. Only lists of a known kind (a CRL's entries) may have more than `limit`. */
export function children(node: DerNode, limit = MAX_CHILDREN): readonly DerNode[] {
  if ((node.tag & 0x20) === 0) throw new X509Error('der', `tag 0x${node.tag.toString(16)} is not constructed`);
  const out: DerNode[] = [];
  for (let at = 0; at < node.content.length; ) {
    if (out.length === limit) throw new X509Error('too-large', `a structure has over ${limit} members`);
    const child = readAt(node.content, at);
    out.push(child);
    at += child.raw.length;
  }
  return out;
}

/** `node` itself when it has this tag. */
export function expectTag(node: DerNode | undefined, tag: number, what: string): DerNode {
  if (node?.tag !== tag) throw new X509Error('der', `${what} is missing or of another type`);
  return node;
}

function readAt(input: Buffer, at: number): DerNode {
  const tag = input[at];
  const first = input[at + 1];
  if (tag === undefined || first === undefined) throw new X509Error('der', 'the structure is cut off');
  if ((tag & 0x1f) === 0x1f) throw new X509Error('der', 'multi-byte tags are not allowed');
  let length = first;
  let start = at + 2;
  if (first >= 0x80) {
    const bytes = first & 0x7f;
    if (bytes === 0 || bytes > 4) throw new X509Error('der', 'a length is indefinite or absurd');
    if (start + bytes > input.length) throw new X509Error('der', 'the structure is cut off');
    length = input.readUIntBE(start, bytes);
    if (length < 0x80 || (bytes > 1 && input[start] === 0)) throw new X509Error('der', 'a length is not minimal');
    start += bytes;
  }
  if (length > input.length - start) throw new X509Error('der', 'the structure is cut off');
  return { tag, content: input.subarray(start, start + length), raw: input.subarray(at, start + length) };
}

export function readOid(node: DerNode | undefined): string {
  const { content } = expectTag(node, TAG.oid, 'an object identifier');
  if (content.length === 0 || content.length > 64) throw new X509Error('der', 'an object identifier has a bad length');
  const arcs: number[] = [];
  let value = 0;
  let open = false;
  for (const byte of content) {
    if (!open && byte === 0x80) throw new X509Error('der', 'an object identifier is not minimal');
    value = value * 128 + (byte & 0x7f);
    if (value > Number.MAX_SAFE_INTEGER / 128) throw new X509Error('der', 'an object identifier is absurd');
    open = byte >= 0x80;
    if (open) continue;
    if (arcs.length === 0) {
      const top = Math.min(2, Math.floor(value / 40));
      arcs.push(top, value - top * 40);
    } else arcs.push(value);
    value = 0;
  }
  if (open) throw new X509Error('der', 'an object identifier is cut off');
  return arcs.join('.');
}

export function readBoolean(node: DerNode): boolean {
  const { content } = expectTag(node, TAG.boolean, 'a boolean');
  if (content.length !== 1 || (content[0] !== 0 && content[0] !== 0xff))
    throw new X509Error('der', 'a boolean is not in DER form');
  return content[0] === 0xff;
}

/** The bytes of a bit string with no unused bits (signatures, keys). */
export function readWholeBits(node: DerNode | undefined, what: string): Buffer {
  const { content } = expectTag(node, TAG.bitString, what);
  if (content[0] !== 0) throw new X509Error('der', `${what} does not end on a whole byte`);
  return content.subarray(1);
}

/** UTCTime or GeneralizedTime as milliseconds since the epoch. */
export function readTime(node: DerNode | undefined): number {
  const text = node?.content.toString('latin1') ?? '';
  const match =
    node?.tag === TAG.utcTime
      ? /^(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/.exec(text)
      : node?.tag === TAG.generalizedTime
        ? /^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/.exec(text)
        : null;
  if (!match) throw new X509Error('der', 'a time is missing or in another form than DER asks');
  const [year = 0, month = 1, day = 1, hour = 0, minute = 0, second = 0] = match.slice(1).map(Number);
  const full = node?.tag === TAG.utcTime ? year + (year < 50 ? 2000 : 1900) : year;
  return Date.UTC(full, month - 1, day, hour, minute, second);
}

export function tlv(tag: number, ...parts: readonly Uint8Array[]): Buffer {
  let length = 0;
  for (const part of parts) length += part.length;
  let header: Buffer;
  if (length < 0x80) header = Buffer.from([tag, length]);
  else {
    const bytes = length < 0x100 ? 1 : length < 0x10000 ? 2 : length < 0x1000000 ? 3 : 4;
    header = Buffer.alloc(2 + bytes);
    header[0] = tag;
    header[1] = 0x80 | bytes;
    header.writeUIntBE(length, 2, bytes);
  }
  return Buffer.concat([header, ...parts]);
}

export const sequence = (...parts: readonly Uint8Array[]): Buffer => tlv(TAG.sequence, ...parts);
export const set = (...parts: readonly Uint8Array[]): Buffer => tlv(TAG.set, ...parts);
export const octetString = (bytes: Uint8Array): Buffer => tlv(TAG.octetString, bytes);
export const bitString = (bytes: Uint8Array, unusedBits = 0): Buffer =>
  tlv(TAG.bitString, Buffer.from([unusedBits]), bytes);
export const boolean = (value: boolean): Buffer => tlv(TAG.boolean, Buffer.from([value ? 0xff : 0]));
/** `[n]` around whole values. */
export const explicit = (n: number, ...parts: readonly Uint8Array[]): Buffer => tlv(0xa0 | n, ...parts);
/** `[n]` in place of a primitive value's own tag. */
export const implicit = (n: number, bytes: Uint8Array): Buffer => tlv(0x80 | n, bytes);

/** A non-negative integer from its big-endian bytes. */
export function integer(bytes: Uint8Array): Buffer {
  let start = 0;
  while (start < bytes.length - 1 && bytes[start] === 0) start += 1;
  const body = bytes.subarray(start);
  return (body[0] ?? 0) >= 0x80 || body.length === 0
    ? tlv(TAG.integer, Buffer.from([0]), body)
    : tlv(TAG.integer, body);
}

export function oid(dotted: string): Buffer {
  const [top = 0, second = 0, ...rest] = dotted.split('.').map(Number);
  const out: number[] = [];
  for (const arc of [top * 40 + second, ...rest]) {
    const digits = [arc & 0x7f];
    for (let left = Math.floor(arc / 128); left > 0; left = Math.floor(left / 128))
      digits.unshift((left & 0x7f) | 0x80);
    out.push(...digits);
  }
  return tlv(TAG.oid, Buffer.from(out));
}

/** RFC 5280: UTCTime through 2049, GeneralizedTime after; whole seconds, rounded down. */
export function time(ms: number): Buffer {
  const digits = new Date(Math.floor(ms / 1000) * 1000).toISOString().replace(/[-:T]/g, '').slice(0, 14);
  return Number(digits.slice(0, 4)) < 2050
    ? tlv(TAG.utcTime, Buffer.from(`${digits.slice(2)}Z`, 'latin1'))
    : tlv(TAG.generalizedTime, Buffer.from(`${digits}Z`, 'latin1'));
}
