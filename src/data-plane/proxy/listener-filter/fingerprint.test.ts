// JA3 and JA4 of hellos made here, against the texts they are hashes of and against what the stock Envoy printed for the same
// bytes. Real clients: test/fuzz/client-hello.test.ts.
import assert from 'node:assert/strict';
import { hash } from 'node:crypto';
import { test } from 'node:test';
import { readClientHello } from './client-hello.ts';

type Extension = readonly [type: number, data: Buffer];

const u16 = (n: number): Buffer => Buffer.from([n >> 8, n & 255]);
const sized8 = (bytes: Buffer): Buffer => Buffer.concat([Buffer.from([bytes.length]), bytes]);
const sized16 = (bytes: Buffer): Buffer => Buffer.concat([u16(bytes.length), bytes]);
const list = (ids: readonly number[]): Buffer => Buffer.concat(ids.map(u16));
const serverName = (name: string): Extension => [
  0,
  sized16(Buffer.concat([Buffer.from([0]), sized16(Buffer.from(name))])),
];
const alpn = (...names: readonly (string | Buffer)[]): Extension => [
  16,
  sized16(Buffer.concat(names.map((name) => sized8(Buffer.from(name as string))))),
];
const groups = (...ids: readonly number[]): Extension => [10, sized16(list(ids))];
const formats = (...ids: readonly number[]): Extension => [11, sized8(Buffer.from(ids))];
const signatures = (...ids: readonly number[]): Extension => [13, sized16(list(ids))];
const versions = (...ids: readonly number[]): Extension => [43, sized8(list(ids))];

function hello(version: number, ciphers: readonly number[], extensions?: readonly Extension[]): Buffer {
  const body = Buffer.concat([
    u16(version),
    Buffer.alloc(32, 7),
    Buffer.from([0]),
    sized16(list(ciphers)),
    Buffer.from([1, 0]),
    ...(extensions ? [sized16(Buffer.concat(extensions.flatMap(([type, data]) => [u16(type), sized16(data)])))] : []),
  ]);
  const message = Buffer.concat([Buffer.from([1, 0]), u16(body.length), body]);
  return Buffer.concat([Buffer.from([22, 3, 1]), sized16(message)]);
}

function printsOf(bytes: Buffer): { readonly ja3: string; readonly ja4: string } {
  const result = readClientHello(bytes, { ja3: true, ja4: true });
  assert.ok(result.kind === 'hello' && result.fingerprints);
  return result.fingerprints;
}

const md5 = (text: string): string => hash('md5', text, 'hex');
const sha = (text: string): string => hash('sha256', text, 'hex').slice(0, 12);

test('made-up values do not count, but among the groups of JA3 they stay', () => {
  const keyShare: Extension = [51, sized16(Buffer.concat([u16(29), sized16(Buffer.alloc(32, 9))]))];
  const bytes = hello(
    0x0303,
    [0xdada, 0x1301, 0x1302, 0x1303, 0xc02b, 0xc02f],
    [
      [0x1a1a, Buffer.alloc(0)],
      serverName('grease.example'),
      [0xff01, Buffer.from([0])],
      groups(0x8a8a, 29, 23),
      formats(0),
      alpn('h2', 'http/1.1'),
      signatures(0x0403, 0x0804),
      versions(0x4a4a, 0x0304, 0x0303),
      [45, Buffer.from([1, 1])],
      keyShare,
      [0xfafa, Buffer.from([0])],
    ],
  );
  const { ja3, ja4 } = printsOf(bytes);
  assert.equal(ja3, md5('771,4865-4866-4867-49195-49199,0-65281-10-11-16-13-43-45-51,35466-29-23,0'));
  const types = '000a,000b,000d,002b,002d,0033,ff01';
  assert.equal(ja4, `t13d0509h2_${sha('1301,1302,1303,c02b,c02f')}_${sha(`${types}_0403,0804`)}`);
  // As Envoy 1.40 prints it.
  assert.deepEqual(
    { ja3, ja4 },
    { ja3: '77d088ca6e6dbeb53da36c16dc4d330e', ja4: 't13d0509h2_e133e205ac38_9d8884e243a4' },
  );
});

test('a hello without extensions, and one without anything to hash', () => {
  assert.deepEqual(printsOf(hello(0x0303, [0x2f, 0x35])), {
    ja3: md5('771,47-53,,,'),
    ja4: `t12i020000_${sha('002f,0035')}_000000000000`,
  });
  assert.deepEqual(printsOf(hello(0x0302, [0x0a0a], [serverName('a')])), {
    ja3: md5('770,,0,,'),
    ja4: 't11d000100_000000000000_000000000000',
  });
});

test('the version of JA4 is the highest that is offered', () => {
  const version = (bytes: Buffer): string => printsOf(bytes).ja4.slice(1, 3);
  assert.equal(version(hello(0x0303, [1], [versions(0x0303, 0x0304)])), '13');
  assert.equal(version(hello(0x0303, [1], [versions(0x0302, 0x0301)])), '11');
  assert.equal(version(hello(0x0301, [1], [versions(0xfafa)])), '10', 'only made-up ones: the field of old');
  assert.equal(version(hello(0x0303, [1], [versions(0x7f1c)])), '00');
  assert.equal(version(hello(0x0300, [1])), '00');
  assert.equal(version(hello(0x0303, [1], [[43, Buffer.from([4, 3, 4])]])), '00', 'a list that is cut off');
});

test('first and last character of the first protocol', () => {
  const ends = (...names: readonly (string | Buffer)[]): string =>
    printsOf(hello(0x0303, [1], [alpn(...names)])).ja4.slice(8, 10);
  assert.equal(ends('h2', 'http/1.1'), 'h2');
  assert.equal(ends('http/1.1'), 'h1');
  assert.equal(ends('x'), 'xx');
  assert.equal(ends(Buffer.from([0xab, 0x31, 0xcd])), 'ad');
  assert.equal(ends('h_'), '6f');
  assert.equal(ends(''), '00');
  assert.equal(printsOf(hello(0x0303, [1], [[16, Buffer.from([0, 9, 8, 97])]])).ja4.slice(8, 10), '00', 'cut off');
});

test('server names that no TLS library takes are no hello, protocols that none takes are no protocols', () => {
  const read = (...extensions: readonly Extension[]) => {
    const result = readClientHello(hello(0x0303, [1], extensions));
    return result.kind === 'hello' ? [result.serverName, ...result.alpn] : result.kind;
  };
  assert.deepEqual(read(serverName('A.Example'), alpn('h2')), ['a.example', 'h2']);
  for (const name of ['', 'a\0b', 'x'.repeat(256)]) assert.equal(read(serverName(name)), 'not-tls');
  const one = sized16(Buffer.concat([Buffer.from([0]), sized16(Buffer.from('a'))]));
  assert.equal(read([0, Buffer.concat([one, Buffer.from([0])])]), 'not-tls', 'bytes behind the list');
  assert.equal(read([0, sized16(Buffer.concat([one.subarray(2), one.subarray(2)]))]), 'not-tls', 'two names');
  assert.equal(
    read([0, sized16(Buffer.concat([Buffer.from([1]), sized16(Buffer.from('a'))]))]),
    'not-tls',
    'another type',
  );
  assert.deepEqual(read(alpn('h2', '')), ['']);
  assert.deepEqual(read([16, Buffer.from([0, 9, 8, 97])]), ['']);
});

test('more than 99 are 99, and only what was asked for is computed', () => {
  const many = Array.from({ length: 120 }, (_, i) => 0x100 + i);
  assert.equal(printsOf(hello(0x0303, many)).ja4.slice(0, 8), 't12i9900');
  const one = readClientHello(hello(0x0303, [1]), { ja3: false, ja4: true });
  assert.ok(one.kind === 'hello' && one.fingerprints?.ja3 === '' && one.fingerprints.ja4 !== '');
  assert.equal('fingerprints' in readClientHello(hello(0x0303, [1])), false);
});
