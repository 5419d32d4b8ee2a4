// Host lookup: the order of Envoy, against a walk over all domains; and that a thousand of them cost what one does.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { DomainIndex } from './domains.ts';

/** The slow way: exact, longest suffix, longest prefix, any. */
function walk(domains: readonly string[], host: string): string | undefined {
  if (domains.includes(host)) return host;
  const best = (fits: (domain: string) => boolean) => domains.filter(fits).sort((a, b) => b.length - a.length)[0];
  return (
    best((d) => d.length > 1 && d.startsWith('*') && host.length > d.length - 1 && host.endsWith(d.slice(1))) ??
    best((d) => d.length > 1 && d.endsWith('*') && host.length > d.length - 1 && host.startsWith(d.slice(0, -1))) ??
    (domains.includes('*') ? '*' : undefined)
  );
}

test('finds what a walk over all domains finds', () => {
  const label = fc.string({ unit: fc.constantFrom('a', 'b', '.'), minLength: 1, maxLength: 6 });
  const domain = fc.oneof(
    label,
    label.map((x) => `*${x}`),
    label.map((x) => `${x}*`),
    fc.constant('*'),
  );
  fc.assert(
    fc.property(fc.uniqueArray(domain, { maxLength: 12 }), label, (domains, host) => {
      const index = new DomainIndex<string>('t');
      for (const one of domains) index.add(one, one, '');
      assert.equal(index.find(host), walk(domains, host));
    }),
    { numRuns: 2000 },
  );
});

test('a domain may stand once, whatever its case', () => {
  for (const domain of ['a.b', '*.b', 'a.*', '*']) {
    const index = new DomainIndex<number>('t');
    index.add(domain, 1, 'p');
    assert.throws(() => index.add(domain.toUpperCase(), 2, 'p'), /Duplicate entry of domain|Only a single wildcard/);
  }
});
