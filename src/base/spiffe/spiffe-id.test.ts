// The accept and reject table of identity.md §1 and Istio's shape.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { Parsed } from '../runtime/diagnostics.ts';
import {
  expandTrustDomains,
  istioSpiffeId,
  parseIstioId,
  parseSpiffeId,
  parseTrustDomain,
  parseWorkloadId,
  pathOf,
  trustDomainOf,
} from './spiffe-id.ts';

function value<T>(parsed: Parsed<T>): T {
  assert.equal(parsed.kind, 'ok');
  return parsed.kind === 'ok' ? parsed.value : assert.fail();
}
const code = (parsed: Parsed<unknown>) => (parsed.kind === 'invalid' ? parsed.diagnostics[0]?.code : 'accepted');

const rejected: readonly (readonly [string, string])[] = [
  ['spiffe://td.example:443/x', 'trust-domain-character'],
  ['spiffe://u@td.example/x', 'trust-domain-character'],
  ['spiffe://td.example/a//b', 'empty-segment'],
  ['spiffe://td.example/a/', 'empty-segment'],
  ['spiffe://td.example/', 'empty-segment'],
  ['spiffe://td.example/a/../b', 'dot-segment'],
  ['spiffe://td.example/./b', 'dot-segment'],
  ['spiffe://td.example/a%20b', 'path-character'],
  ['spiffe://td.example/a?x=1', 'path-character'],
  ['spiffe://td.example/a#x', 'path-character'],
  ['spiffe://td.example?x=1', 'trust-domain-character'],
  ['spiffe://[::1]/a', 'trust-domain-character'],
  ['spiffe:///a', 'empty-trust-domain'],
  ['spiffe://', 'empty-trust-domain'],
  ['SPIFFE://td.example/a', 'scheme'],
  ['https://td.example/a', 'scheme'],
  ['', 'scheme'],
  ['spiffe://td.example/ä', 'path-character'],
  [`spiffe://${'a'.repeat(256)}/x`, 'too-long'],
  [`spiffe://td/${'a'.repeat(2048)}`, 'too-long'],
];
for (const [text, reason] of rejected)
  test(`rejects ${text.slice(0, 40)} (${reason})`, () => assert.equal(code(parseSpiffeId(text)), reason));

test('accepts IDs, lowers the trust domain, keeps the case of the path', () => {
  assert.equal(value(parseSpiffeId('spiffe://td.example/ns/a/sa/b')), 'spiffe://td.example/ns/a/sa/b');
  assert.equal(value(parseSpiffeId('spiffe://TD.example/Ns/a')), 'spiffe://td.example/Ns/a');
  assert.equal(value(parseSpiffeId('spiffe://10.0.0.1/a')), 'spiffe://10.0.0.1/a');
  assert.equal(value(parseSpiffeId(`spiffe://td/${'a'.repeat(2036)}`)).length, 2048);
});

test('a trust domain ID has no path and is no workload', () => {
  const id = value(parseSpiffeId('spiffe://td.example'));
  assert.equal(pathOf(id), '');
  assert.equal(trustDomainOf(id), 'td.example');
  assert.equal(code(parseWorkloadId('spiffe://td.example')), 'no-path');
});

test('builds and reads the Istio shape', () => {
  assert.equal(value(istioSpiffeId('a@b', 'foo', 'bar')), 'spiffe://a.b/ns/foo/sa/bar');
  assert.deepEqual(value(parseIstioId('spiffe://td/ns/foo/sa/bar')), {
    trustDomain: 'td',
    namespace: 'foo',
    serviceAccount: 'bar',
  });
  assert.equal(code(istioSpiffeId('td', '', 'bar')), 'empty-identity');
  assert.equal(code(istioSpiffeId('td', 'a/b', 'bar')), 'path-character');
  for (const other of ['spiffe://td/ns/foo', 'spiffe://td/ns/foo/sa/bar/x', 'spiffe://td/xx/foo/sa/bar'])
    assert.equal(code(parseIstioId(other)), 'not-istio-shape');
});

test('aliases widen a list: originals first, no duplicates, strangers stay alone', () => {
  const td = value(parseTrustDomain('td1'));
  const alias = value(parseTrustDomain('td2'));
  const ids = ['spiffe://td2/ns/a/sa/b', 'spiffe://other/ns/a/sa/b', 'spiffe://td1/x'].map((t) =>
    value(parseSpiffeId(t)),
  );
  assert.deepEqual(expandTrustDomains(ids, td, [alias]), [...ids, 'spiffe://td1/ns/a/sa/b']);
});

test('whatever is accepted is accepted again unchanged', () => {
  fc.assert(
    fc.property(fc.string({ unit: fc.constantFrom(...'aZ0.-_/%:@ ') }), (tail) => {
      const once = parseSpiffeId(`spiffe://${tail}`);
      if (once.kind === 'ok') assert.equal(value(parseSpiffeId(once.value)), once.value);
    }),
  );
});
