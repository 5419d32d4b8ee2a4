// The Huffman code of HPACK (RFC 7541 appendix B). Used by the HPACK decoder and encoder.

/**
 * Length of each byte's code, one base-36 digit a byte. The code is canonical: codes of one length follow each other in
 * the order of the bytes, so the lengths say everything. The end-of-string symbol is the last code of 30 bits.
 */
const LENGTHS =
  'dnsssssssoussussssssssusssssssss6aacd68baa8b8666555666666678f6ca' +
  'd67777777777777777777777878djde6f56565666577666567655677777fbeds' +
  'kmkkmmmnmnnnnnonoomnonnnnlmnmnnomlkmmnnlnmmolmnnllmlnmnnkmmmnmmn' +
  'qqkjmnmpqqqrrqopjlqrrqrollqqsrrrkoklmllnmmppooqnqrqqrrrrrsrrrrrq';

const MAX_LENGTH = 30;
/** Codes up to this length are decoded by one look into a table. */
const FAST_BITS = 10;

const codeLength = new Uint8Array(256);
const codes = new Uint32Array(256);
/** `length << 8 | byte` for every 10 bits that begin with a short code; 0 = a long code. */
const fast = new Uint16Array(1 << FAST_BITS);
/** Of the codes of each length: the first, how many, and where their bytes stand in `symbols`. */
const first = new Uint32Array(MAX_LENGTH + 1);
const amount = new Uint16Array(MAX_LENGTH + 1);
const offset = new Uint16Array(MAX_LENGTH + 1);
const symbols = new Uint8Array(256);

for (let byte = 0; byte < 256; byte++) codeLength[byte] = Number.parseInt(LENGTHS[byte]!, 36);
let code = 0;
let placed = 0;
for (let length = 1; length <= MAX_LENGTH; length++) {
  first[length] = code;
  offset[length] = placed;
  for (let byte = 0; byte < 256; byte++) {
    if (codeLength[byte] !== length) continue;
    codes[byte] = code;
    symbols[placed] = byte;
    if (length <= FAST_BITS)
      fast.fill((length << 8) | byte, code << (FAST_BITS - length), (code + 1) << (FAST_BITS - length));
    code += 1;
    placed += 1;
  }
  amount[length] = code - first[length]!;
  code *= 2;
}

/** Most bytes that `length` coded bytes can stand for. */
export function huffmanDecodedMax(length: number): number {
  return ((length * 8) / 5 + 1) | 0;
}

/** Decodes `bytes[start, end)` to `out` at `at`, where there must be room. Returns the end, or -1 when it is no valid code. */
export function huffmanDecode(bytes: Uint8Array, start: number, end: number, out: Uint8Array, at: number): number {
  let acc = 0;
  let bits = 0;
  let i = start;
  for (;;) {
    while (bits < FAST_BITS && i < end) {
      acc = ((acc << 8) | bytes[i]!) & 0x3ffff;
      i += 1;
      bits += 8;
    }
    const missing = FAST_BITS - bits;
    // At the end ones stand for what is missing: padding is a part of the end-of-string code.
    const peek = missing <= 0 ? (acc >>> -missing) & 1023 : ((acc << missing) | ((1 << missing) - 1)) & 1023;
    const entry = fast[peek]!;
    const length = entry >>> 8;
    if (length !== 0 && length <= bits) {
      out[at] = entry;
      at += 1;
      bits -= length;
      continue;
    }
    if (missing > 0) return bits < 8 && (acc & ((1 << bits) - 1)) === (1 << bits) - 1 ? at : -1;
    // A code of more than ten bits, bit by bit: rare in real headers.
    bits -= FAST_BITS;
    let long = peek;
    let size = FAST_BITS;
    for (;;) {
      if (size === MAX_LENGTH) return -1;
      if (bits === 0) {
        if (i === end) return -1;
        acc = bytes[i]!;
        i += 1;
        bits = 8;
      }
      bits -= 1;
      long = (long << 1) | ((acc >>> bits) & 1);
      size += 1;
      const index = long - first[size]!;
      if (index >= 0 && index < amount[size]!) {
        out[at] = symbols[offset[size]! + index]!;
        at += 1;
        break;
      }
    }
  }
}

/** Bytes that `huffmanEncode` will write for `bytes[start, end)`. */
export function huffmanLength(bytes: Uint8Array, start: number, end: number): number {
  let bits = 0;
  for (let i = start; i < end; i++) bits += codeLength[bytes[i]!]!;
  return (bits + 7) >>> 3;
}

/** Writes the code of `bytes[start, end)` to `out` at `at`; returns the end. */
export function huffmanEncode(bytes: Uint8Array, start: number, end: number, out: Uint8Array, at: number): number {
  let acc = 0;
  let bits = 0;
  for (let i = start; i < end; i++) {
    const byte = bytes[i]!;
    let length = codeLength[byte]!;
    const value = codes[byte]!;
    if (length > 16) {
      // In two steps, so that what waits never exceeds 32 bits.
      length -= 16;
      acc = (acc << length) | (value >>> 16);
      bits += length;
      while (bits >= 8) {
        bits -= 8;
        out[at] = acc >>> bits;
        at += 1;
      }
      length = 16;
    }
    acc = (acc << length) | (value & 0xffff);
    bits += length;
    while (bits >= 8) {
      bits -= 8;
      out[at] = acc >>> bits;
      at += 1;
    }
  }
  if (bits === 0) return at;
  out[at] = (acc << (8 - bits)) | ((1 << (8 - bits)) - 1);
  return at + 1;
}
