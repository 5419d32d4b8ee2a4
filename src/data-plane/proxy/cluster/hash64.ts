// xxHash64 and MurmurHash2 (64 bit) without BigInt: what Envoy's hash policies and hash balancers compute. A hash is two
// unsigned 32-bit halves. Used by route hash policies, ring hash, Maglev and subsets.

export interface Hash64 {
  readonly hi: number;
  readonly lo: number;
}

/** Halves of the last result of `mul`, `add` and so on; read at once. */
let hi = 0;
let lo = 0;

/** (ah,al) × (bh,bl) modulo 2^64. */
function mul(ah: number, al: number, bh: number, bl: number): void {
  const a0 = al & 0xffff;
  const a1 = al >>> 16;
  const b0 = bl & 0xffff;
  const b1 = bl >>> 16;
  const low = a0 * b0;
  const mid1 = a1 * b0 + (low >>> 16);
  const mid2 = a0 * b1 + (mid1 & 0xffff);
  lo = ((mid2 << 16) | (low & 0xffff)) >>> 0;
  const carry = a1 * b1 + Math.floor(mid1 / 65536) + Math.floor(mid2 / 65536);
  hi = (carry + Math.imul(ah, bl) + Math.imul(al, bh)) >>> 0;
}

function add(ah: number, al: number, bh: number, bl: number): void {
  const sum = (al >>> 0) + (bl >>> 0);
  lo = sum >>> 0;
  hi = (ah + bh + (sum > 0xffffffff ? 1 : 0)) >>> 0;
}

/** Rotates left by `n`, 0 < n < 32. */
function rotl(ah: number, al: number, n: number): void {
  const h = ((ah << n) | (al >>> (32 - n))) >>> 0;
  lo = ((al << n) | (ah >>> (32 - n))) >>> 0;
  hi = h;
}

const P1H = 0x9e3779b1;
const P1L = 0x85ebca87;
const P2H = 0xc2b2ae3d;
const P2L = 0x27d4eb4f;
const P3H = 0x165667b1;
const P3L = 0x9e3779f9;
const P4H = 0x85ebca77;
const P4L = 0xc2b2ae63;
const P5H = 0x27d4eb2f;
const P5L = 0x165667c5;

/** One lane of 8 bytes: acc = rotl(acc + input × P2, 31) × P1. */
function round(ah: number, al: number, ih: number, il: number): void {
  mul(ih, il, P2H, P2L);
  add(ah, al, hi, lo);
  rotl(hi, lo, 31);
  mul(hi, lo, P1H, P1L);
}

function read32(bytes: Uint8Array, at: number): number {
  return (bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24)) >>> 0;
}

/** Four lanes, high and low halves by turns; only used inside one call. */
const lanes = new Uint32Array(8);

export function xxHash64(bytes: Uint8Array, seed = 0): Hash64 {
  const { length } = bytes;
  let at = 0;
  let h: number;
  let l: number;
  if (length >= 32) {
    at = stripes(bytes, seed);
    h = hi;
    l = lo;
  } else {
    add(P5H, P5L, 0, seed);
    h = hi;
    l = lo;
  }
  add(h, l, 0, length);
  h = hi;
  l = lo;
  for (; at + 8 <= length; at += 8) {
    round(0, 0, read32(bytes, at + 4), read32(bytes, at));
    rotl((h ^ hi) >>> 0, (l ^ lo) >>> 0, 27);
    mul(hi, lo, P1H, P1L);
    add(hi, lo, P4H, P4L);
    h = hi;
    l = lo;
  }
  if (at + 4 <= length) {
    mul(0, read32(bytes, at), P1H, P1L);
    rotl((h ^ hi) >>> 0, (l ^ lo) >>> 0, 23);
    mul(hi, lo, P2H, P2L);
    add(hi, lo, P3H, P3L);
    h = hi;
    l = lo;
    at += 4;
  }
  for (; at < length; at++) {
    mul(0, bytes[at]!, P5H, P5L);
    rotl((h ^ hi) >>> 0, (l ^ lo) >>> 0, 11);
    mul(hi, lo, P1H, P1L);
    h = hi;
    l = lo;
  }
  return avalanche(h, l);
}

/** All whole 32-byte stripes; leaves the merged accumulator in `hi`, `lo` and returns the next offset. */
function stripes(bytes: Uint8Array, seed: number): number {
  add(P1H, P1L, P2H, P2L);
  add(hi, lo, 0, seed);
  lanes[0] = hi;
  lanes[1] = lo;
  add(P2H, P2L, 0, seed);
  lanes[2] = hi;
  lanes[3] = lo;
  lanes[4] = 0;
  lanes[5] = seed;
  // seed − P1
  add(~P1H, ~P1L, 0, 1);
  add(hi, lo, 0, seed);
  lanes[6] = hi;
  lanes[7] = lo;
  let at = 0;
  for (; at + 32 <= bytes.length; at += 32)
    for (let i = 0; i < 4; i++) {
      round(lanes[2 * i]!, lanes[2 * i + 1]!, read32(bytes, at + 8 * i + 4), read32(bytes, at + 8 * i));
      lanes[2 * i] = hi;
      lanes[2 * i + 1] = lo;
    }
  let h = 0;
  let l = 0;
  for (let i = 0; i < 4; i++) {
    rotl(lanes[2 * i]!, lanes[2 * i + 1]!, LANE_ROTATION[i]!);
    add(h, l, hi, lo);
    h = hi;
    l = lo;
  }
  for (let i = 0; i < 4; i++) {
    round(0, 0, lanes[2 * i]!, lanes[2 * i + 1]!);
    mul((h ^ hi) >>> 0, (l ^ lo) >>> 0, P1H, P1L);
    add(hi, lo, P4H, P4L);
    h = hi;
    l = lo;
  }
  hi = h;
  lo = l;
  return at;
}
const LANE_ROTATION = [1, 7, 12, 18] as const;

function avalanche(ah: number, al: number): Hash64 {
  // x ^= x >>> 33
  let h = ah;
  let l = (al ^ (ah >>> 1)) >>> 0;
  mul(h, l, P2H, P2L);
  // x ^= x >>> 29
  h = (hi ^ (hi >>> 29)) >>> 0;
  l = (lo ^ ((lo >>> 29) | (hi << 3))) >>> 0;
  mul(h, l, P3H, P3L);
  // x ^= x >>> 32
  return { hi, lo: (lo ^ hi) >>> 0 };
}

/** MurmurHash2, 64-bit variant of libstdc++ (`std::hash` for strings), as Envoy's MURMUR_HASH_2. */
export function murmurHash2(bytes: Uint8Array, seedHi = MURMUR_SEED_HI, seedLo = MURMUR_SEED_LO): Hash64 {
  const { length } = bytes;
  mul(0, length, MURMUR_H, MURMUR_L);
  let h = (seedHi ^ hi) >>> 0;
  let l = (seedLo ^ lo) >>> 0;
  const whole = length & ~7;
  for (let at = 0; at < whole; at += 8) {
    mul(read32(bytes, at + 4), read32(bytes, at), MURMUR_H, MURMUR_L);
    shiftMix(hi, lo);
    mul(hi, lo, MURMUR_H, MURMUR_L);
    mul((h ^ hi) >>> 0, (l ^ lo) >>> 0, MURMUR_H, MURMUR_L);
    h = hi;
    l = lo;
  }
  if (whole < length) {
    let restHi = 0;
    let restLo = 0;
    for (let i = length - whole - 1; i >= 0; i--) {
      restHi = ((restHi << 8) | (restLo >>> 24)) >>> 0;
      restLo = ((restLo << 8) | bytes[whole + i]!) >>> 0;
    }
    mul((h ^ restHi) >>> 0, (l ^ restLo) >>> 0, MURMUR_H, MURMUR_L);
    h = hi;
    l = lo;
  }
  shiftMix(h, l);
  mul(hi, lo, MURMUR_H, MURMUR_L);
  shiftMix(hi, lo);
  return { hi, lo };
}
const MURMUR_H = 0xc6a4a793;
const MURMUR_L = 0x5bd1e995;
const MURMUR_SEED_HI = 0;
const MURMUR_SEED_LO = 0xc70f6907;

/** x ^ (x >>> 47) */
function shiftMix(ah: number, al: number): void {
  hi = ah;
  lo = (al ^ (ah >>> 15)) >>> 0;
}

/** How Envoy joins the hashes of several policies: the earlier ones rotated left by one, xor the new one. */
export function combine(before: Hash64 | undefined, next: Hash64): Hash64 {
  if (!before) return next;
  rotl(before.hi, before.lo, 1);
  return { hi: (hi ^ next.hi) >>> 0, lo: (lo ^ next.lo) >>> 0 };
}

/** The hash modulo `n` (n < 2^32). */
export function modulo(hash: Hash64, n: number): number {
  // 2^32 mod n, then everything stays below 2^53 for n < 2^21; larger n go byte by byte.
  let rest = hash.hi % n;
  for (let shift = 24; shift >= 0; shift -= 8) rest = (rest * 256 + ((hash.lo >>> shift) & 255)) % n;
  return rest;
}

/** A hash for a balancer that needs one when the request brought none. */
export function randomHash(random: () => number): Hash64 {
  return { hi: Math.floor(random() * 2 ** 32), lo: Math.floor(random() * 2 ** 32) };
}
