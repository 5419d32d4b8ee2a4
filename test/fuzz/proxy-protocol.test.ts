// PROXY protocol headers from anybody: no bytes make the reader throw or read past them, the way they are cut does not
// matter, and what we write we read.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseIp, type SocketAddr } from '../../src/data-plane/proxy/config/address.ts';
import { readProxyHeader, writeProxyHeader } from '../../src/data-plane/proxy/listener-filter/proxy-protocol.ts';
import { corpus, fuzz } from './mutate.ts';

const SEEDS = [
  Buffer.from('PROXY TCP4 1.2.3.4 5.6.7.8 1111 2222\r\nGET /'),
  Buffer.from('PROXY TCP6 2001:db8::1 ::2 1 65535\r\n'),
  Buffer.from('PROXY UNKNOWN ffff::1 x\r\n'),
  Buffer.from('0d0a0d0a000d0a515549540a2111001101020304050607080457 08ae020002686900'.replaceAll(' ', ''), 'hex'),
  Buffer.from(`0d0a0d0a000d0a515549540a21210024${'20010db8'.padEnd(32, '0')}${'2'.padStart(32, '0')}0001ffff`, 'hex'),
  Buffer.from('0d0a0d0a000d0a515549540a20000000', 'hex'),
];

/** Facts that hold for every input. */
function check(input: Buffer): void {
  const whole = readProxyHeader(input);
  if (whole.kind === 'header') {
    assert.ok(whole.length <= input.length);
    for (const end of whole.addresses ? [whole.addresses.source, whole.addresses.destination] : [])
      assert.ok(end.kind === 'ip' && parseIp(end.ip) && end.port <= 65_535);
    // The same header with anything behind it, and nothing but "more" before its last byte.
    const alone = readProxyHeader(input.subarray(0, whole.length));
    assert.deepEqual(alone, whole);
  }
  for (let end = 0; end < Math.min(input.length, 64); end++) {
    const part = readProxyHeader(input.subarray(0, end));
    if (part.kind === 'more') continue;
    // What was decided early is what the whole says.
    assert.equal(part.kind, whole.kind);
    break;
  }
}

test('no bytes break the reader', async () => {
  await fuzz([...SEEDS, ...corpus('proxy-protocol')], 20_000, check);
});

test('headers we write are read back', () => {
  const ip = fc.oneof(
    fc.ipV4(),
    fc.constantFrom('2001:db8::1', '::1', 'fe80::1:2', '1:2:3:4:5:6:7:8', '::', '1::8', '0:0:1::'),
  );
  const end = fc.record({ ip, port: fc.integer({ min: 0, max: 65_535 }) });
  const address = (one: { ip: string; port: number }): SocketAddr => ({ kind: 'ip', ...one });
  fc.assert(
    fc.property(
      end,
      end,
      fc.constantFrom<1 | 2>(1, 2),
      fc.uint8Array({ maxLength: 50 }),
      (from, to, version, value) => {
        const tlvs = version === 2 ? [{ type: 5, value: Buffer.from(value) }] : [];
        const bytes = writeProxyHeader(version, address(from), address(to), tlvs);
        const read = readProxyHeader(bytes);
        assert.equal(read.kind, 'header');
        if (read.kind !== 'header') return;
        assert.equal(read.length, bytes.length);
        if (from.ip.includes(':') !== to.ip.includes(':')) {
          assert.equal(read.addresses, undefined);
          return;
        }
        const { source, destination } = read.addresses!;
        for (const [one, want] of [
          [source, from],
          [destination, to],
        ] as const) {
          assert.ok(one.kind === 'ip');
          assert.deepEqual([parseIp(one.ip), one.port], [parseIp(want.ip), want.port]);
        }
        assert.deepEqual(read.tlvs, tlvs);
      },
    ),
  );
});
