// Short texts between bytes and strings. A call into the runtime costs more than a loop over a few bytes, and most short texts
// of heads (methods, hosts, paths, lengths) come again and again. Called by the parsers and writers of heads.

/** Up to here a loop is cheaper than a call into the runtime. */
export const SHORT_CHARS = 64;

/** Longer texts hardly ever come again. */
const MAX_KEPT_CHARS = 32;
/** A power of two; each place holds the text that was there last. */
const KEPT_TEXTS = 512;

const kept: string[] = new Array<string>(KEPT_TEXTS).fill('');

/** `bytes[start, end)` as latin1: the same string object when the same short text was there before. */
export function textOf(bytes: Buffer, start: number, end: number): string {
  const length = end - start;
  if (length > MAX_KEPT_CHARS) return bytes.toString('latin1', start, end);
  let hash = length;
  for (let i = start; i < end; i++) hash = (Math.imul(hash, 31) + bytes[i]!) | 0;
  const place = (hash ^ (hash >>> 16)) & (KEPT_TEXTS - 1);
  const known = kept[place]!;
  if (known.length === length && sameText(known, bytes, start)) return known;
  const text = bytes.toString('latin1', start, end);
  kept[place] = text;
  return text;
}

function sameText(text: string, bytes: Buffer, start: number): boolean {
  for (let i = 0; i < text.length; i++) if (text.charCodeAt(i) !== bytes[start + i]) return false;
  return true;
}

/** Copies `bytes[start, end)`, most often a few, to `at`; returns the end. */
export function putRange(out: Buffer, at: number, bytes: Buffer, start: number, end: number): number {
  if (end - start > SHORT_CHARS) return at + bytes.copy(out, at, start, end);
  for (let i = start; i < end; i++) out[at++] = bytes[i]!;
  return at;
}

/** Copies all of a few bytes to `at`; returns the end. */
export function putBytes(out: Buffer, at: number, bytes: Buffer): number {
  for (let i = 0; i < bytes.length; i++) out[at + i] = bytes[i]!;
  return at + bytes.length;
}

/** `\r\n` */
export function putLineEnd(out: Buffer, at: number): number {
  out[at] = 13;
  out[at + 1] = 10;
  return at + 2;
}

/**
 * Writes a text that stands in a line of a head: what could split the head becomes a space. Texts are bytes, a character each: a
 * wider character has no place here, and its low byte could be a line break (texts become bytes by `utf8Bytes`).
 */
export function putValue(out: Buffer, at: number, value: string): number {
  const { length } = value;
  if (length > SHORT_CHARS) return at + out.write(safeValue(value), at, 'latin1');
  for (let i = 0; i < length; i++) {
    const char = value.charCodeAt(i);
    out[at + i] = char === 13 || char === 10 || char === 0 || char > 255 ? 32 : char;
  }
  return at + length;
}

/** Everything that is not one byte of a header value. */
const UNSAFE = /[\r\n\0\u0100-\uffff]/;

/** As `putValue` writes it. */
export function safeValue(value: string): string {
  return UNSAFE.test(value) ? value.replaceAll(/[\r\n\0\u0100-\uffff]/g, ' ') : value;
}
