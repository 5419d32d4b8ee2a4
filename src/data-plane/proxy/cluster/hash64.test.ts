import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { combine, type Hash64, modulo, murmurHash2, xxHash64 } from './hash64.ts';

const MASK = (1n << 64n) - 1n;
const big = (hash: Hash64): bigint => (BigInt(hash.hi) << 32n) | BigInt(hash.lo);
const rotl = (value: bigint, n: bigint): bigint => ((value << n) | (value >> (64n - n))) & MASK;

const P1 = 0x9e3779b185ebca87n;
const P2 = 0xc2b2ae3d27d4eb4fn;
const P3 = 0x165667b19e3779f9n;
const P4 = 0x85ebca77c2b2ae63n;
const P5 = 0x27d4eb2f165667c5n;

/** The algorithm as its description says, slowly. */
function naiveXx(bytes: Buffer, seed: bigint): bigint {
  const lane = (acc: bigint, input: bigint): bigint => (rotl((acc + input * P2) & MASK, 31n) * P1) & MASK;
  let at = 0;
  let hash: bigint;
  if (bytes.length >= 32) {
    let all = [seed + P1 + P2, seed + P2, seed, seed - P1].map((value) => value & MASK);
    for (; at + 32 <= bytes.length; at += 32) all = all.map((acc, i) => lane(acc, bytes.readBigUInt64LE(at + 8 * i)));
    const turns = [1n, 7n, 12n, 18n];
    hash = all.reduce((sum, acc, i) => sum + rotl(acc, turns[i]!), 0n) & MASK;
    for (const acc of all) hash = ((hash ^ lane(0n, acc)) * P1 + P4) & MASK;
  } else hash = (seed + P5) & MASK;
  hash = (hash + BigInt(bytes.length)) & MASK;
  for (; at + 8 <= bytes.length; at += 8)
    hash = (rotl(hash ^ lane(0n, bytes.readBigUInt64LE(at)), 27n) * P1 + P4) & MASK;
  if (at + 4 <= bytes.length) {
    hash = (rotl(hash ^ ((BigInt(bytes.readUInt32LE(at)) * P1) & MASK), 23n) * P2 + P3) & MASK;
    at += 4;
  }
  for (; at < bytes.length; at++) hash = (rotl(hash ^ ((BigInt(bytes[at]!) * P5) & MASK), 11n) * P1) & MASK;
  hash = ((hash ^ (hash >> 33n)) * P2) & MASK;
  hash = ((hash ^ (hash >> 29n)) * P3) & MASK;
  return hash ^ (hash >> 32n);
}

function naiveMurmur(bytes: Buffer): bigint {
  const m = 0xc6a4a7935bd1e995n;
  const mix = (value: bigint): bigint => value ^ (value >> 47n);
  let hash = 0xc70f6907n ^ ((BigInt(bytes.length) * m) & MASK);
  const whole = bytes.length & ~7;
  for (let at = 0; at < whole; at += 8)
    hash = ((hash ^ ((mix((bytes.readBigUInt64LE(at) * m) & MASK) * m) & MASK)) * m) & MASK;
  if (whole < bytes.length) {
    const rest = Buffer.alloc(8);
    bytes.copy(rest, 0, whole);
    hash = ((hash ^ rest.readBigUInt64LE(0)) * m) & MASK;
  }
  return mix((mix(hash) * m) & MASK);
}

const some = fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes));

test('xxHash64 gives the published values', () => {
  assert.equal(big(xxHash64(Buffer.from(''))), 0xef46db3751d8e999n);
  assert.equal(big(xxHash64(Buffer.from('a'))), 0xd24ec4f1a98c6e5bn);
  assert.equal(big(xxHash64(Buffer.from('abc'))), 0x44bc2cf5ad770999n);
});

test('xxHash64 agrees with the plain reading of its description', () => {
  fc.assert(
    fc.property(some, fc.nat(0xffffffff), (bytes, seed) => {
      assert.equal(big(xxHash64(bytes, seed)), naiveXx(bytes, BigInt(seed)));
    }),
  );
});

test('MurmurHash2 agrees with the plain reading of its description', () => {
  fc.assert(
    fc.property(some, (bytes) => {
      assert.equal(big(murmurHash2(bytes)), naiveMurmur(bytes));
    }),
  );
});

test('modulo and combine are those of 64-bit numbers', () => {
  const half = fc.nat(0xffffffff);
  fc.assert(
    fc.property(half, half, half, half, fc.integer({ min: 1, max: 0xffffffff }), (ah, al, bh, bl, n) => {
      const a = { hi: ah, lo: al };
      const b = { hi: bh, lo: bl };
      assert.equal(BigInt(modulo(a, n)), big(a) % BigInt(n));
      assert.equal(big(combine(a, b)), rotl(big(a), 1n) ^ big(b));
    }),
  );
});
