// IP addresses and CIDR ranges.
import assert from 'node:assert/strict';
import { isIP } from 'node:net';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseSockaddr } from '../listener-filter/original-dst.ts';
import { cidrContains, isLoopback, isPrivate, parseCidr, parseIp } from './address.ts';

test('accepts what Node accepts, and nothing else', () => {
  const text = fc.oneof(
    fc.ipV4(),
    fc.ipV6(),
    fc.string({ unit: fc.constantFrom('0', '1', '9', 'f', ':', '.', '%'), maxLength: 20 }),
  );
  fc.assert(
    fc.property(text, (candidate) => {
      if (candidate.includes('%')) return;
      assert.equal(parseIp(candidate) !== undefined, isIP(candidate) !== 0, candidate);
    }),
    { numRuns: 5000 },
  );
});

test('ranges contain what they should, families stay apart', () => {
  assert.equal(cidrContains(parseCidr('10.0.0.0', 9)!, '10.127.255.255'), true);
  assert.equal(cidrContains(parseCidr('10.0.0.0', 9)!, '10.128.0.0'), false);
  assert.equal(cidrContains(parseCidr('0.0.0.0', 0)!, '1.2.3.4'), true);
  assert.equal(cidrContains(parseCidr('0.0.0.0', 0)!, '::1'), false);
  assert.equal(cidrContains(parseCidr('2001:db8::', 33)!, '2001:db8:7fff::1'), true);
  assert.equal(cidrContains(parseCidr('2001:db8::', 33)!, '2001:db8:8000::1'), false);
  assert.equal(parseCidr('10.0.0.0', 33), undefined);
  assert.ok(isLoopback('127.9.9.9') && isLoopback('::1') && isLoopback('::ffff:127.0.0.1') && !isLoopback('10.0.0.1'));
  assert.ok(isPrivate('172.31.0.1') && isPrivate('fd00::1') && !isPrivate('172.32.0.1') && !isPrivate('8.8.8.8'));
});

test('socket addresses of the kernel', () => {
  const four = Buffer.alloc(28);
  four.set([2, 0, 0x1f, 0x90, 10, 0, 0, 7]);
  assert.deepEqual(parseSockaddr(four), { kind: 'ip', ip: '10.0.0.7', port: 8080 });
  const six = Buffer.alloc(28);
  six.set([10, 0, 0, 80, 0, 0, 0, 0, 0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
  assert.deepEqual(parseSockaddr(six), { kind: 'ip', ip: '2001:db8::1', port: 80 });
  assert.equal(parseSockaddr(Buffer.alloc(28)), undefined);
});
