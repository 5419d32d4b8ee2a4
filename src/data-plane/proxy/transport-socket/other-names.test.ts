// otherName values of certificates, by type, as Envoy prints them, and of bytes that are no certificate.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { bitString, boolean, octetString, oid, sequence, TAG, tlv } from '../../../base/x509/der.ts';
import { createRoot } from '../testing/pki.ts';
import { otherNamesOf } from './other-names.ts';

const text = (tag: number, value: string | Buffer): Buffer => tlv(tag, Buffer.from(value as string));
const VALUES: readonly (readonly [der: Buffer, printed: string])[] = [
  [text(TAG.utf8String, 'user@corp'), 'user@corp'],
  [text(TAG.utf8String, 'n\u00e9'), 'n\u00c3\u00a9'],
  [text(TAG.ia5String, 'hello, "w"'), 'hello, "w"'],
  [text(TAG.printableString, 'pr'), 'pr'],
  [text(0x14, 't61'), 't61'],
  [text(0x1a, 'visible'), 'visible'],
  [text(0x1b, 'general'), 'general'],
  [text(TAG.utcTime, '260101000000Z'), '260101000000Z'],
  [text(TAG.integer, Buffer.from([0xfe, 0xfe])), '-258'],
  [text(TAG.integer, Buffer.from('018ee90ff6c373e0ee4e3f0ad2', 'hex')), '123456789012345678901234567890'],
  [text(TAG.integer, Buffer.alloc(300, 1)), ''],
  [text(0x0a, Buffer.from([7])), '7'],
  [boolean(true), 'true'],
  [boolean(false), 'false'],
  [oid('1.2.840.113549'), '1.2.840.113549'],
  [octetString(Buffer.from('00ff41', 'hex')), '\0\u00ffA'],
  [bitString(Buffer.from([0x44])), 'D'],
  [tlv(TAG.null), ''],
  [sequence(text(TAG.integer, Buffer.from([1])), text(TAG.utf8String, 'z')), '0\u0006\u0002\u0001\u0001\f\u0001z'],
  [text(0x1e, Buffer.from('006200e9', 'hex')), 'b\u00c3\u00a9'],
  [text(0x1c, Buffer.from('000000750001f600', 'hex')), Buffer.from('u\u{1f600}').toString('latin1')],
  [text(0x1c, Buffer.from('7fffffff', 'hex')), ''],
];

test('every type, in the order of the certificate, beside names of other kinds', async () => {
  const root = await createRoot();
  const names = VALUES.map(([der], i) => `other:1.2.3.${i + 1}:${der.toString('hex')}`);
  const leaf = await root.issue({ names: ['a.example', 'email:a@b.example', ...names] });
  assert.deepEqual(
    otherNamesOf(leaf.certificate.der),
    VALUES.map(([, printed]) => printed),
  );
  assert.deepEqual(otherNamesOf((await root.issue({ names: ['a.example'] })).certificate.der), []);
  assert.deepEqual(otherNamesOf((await root.issue({})).certificate.der), []);
});

test('damaged certificates have some names or none', async () => {
  const root = await createRoot();
  const { der } = (await root.issue({ names: [`other:1.2.3:${VALUES[0]![0].toString('hex')}`] })).certificate;
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.nat(der.length - 1), fc.nat(255)), { maxLength: 8 }),
      fc.nat(der.length),
      (edits, length) => {
        const copy = Buffer.from(der);
        for (const [at, value] of edits) copy[at] = value;
        assert.ok(otherNamesOf(copy.subarray(0, length)).length <= 1);
      },
    ),
    { numRuns: 2_000 },
  );
});
