// Names of certificates as Node prints them: no name may pass for two.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { create } from '@bufbuild/protobuf';
import {
  SubjectAltNameMatcher_SanType as SanType,
  SubjectAltNameMatcherSchema,
} from '#proto/envoy/extensions/transport_sockets/tls/v3/common_pb.js';
import { compileSanMatchers, coversHost, parseAltNames, subjectText } from './san.ts';

test('ordinary and quoted names', () => {
  assert.deepEqual(parseAltNames('URI:spiffe://a/ns/b/sa/c, DNS:x.y, IP Address:10.0.0.1'), [
    { kind: 'uri', value: 'spiffe://a/ns/b/sa/c' },
    { kind: 'dns', value: 'x.y' },
    { kind: 'ip', value: '10.0.0.1' },
  ]);
  // One DNS name that tries to look like a URI as well (CVE-2021-44532).
  assert.deepEqual(parseAltNames('DNS:"evil, URI:spiffe://a/ns/b/sa/c"'), [
    { kind: 'dns', value: 'evil, URI:spiffe://a/ns/b/sa/c' },
  ]);
  assert.deepEqual(parseAltNames('DNS:"a\\"b", URI:c'), [
    { kind: 'dns', value: 'a"b' },
    { kind: 'uri', value: 'c' },
  ]);
  assert.deepEqual(parseAltNames(undefined), []);
  assert.deepEqual(parseAltNames('DNS:"unclosed'), []);
});

const uri = (matchPattern: { case: 'exact' | 'prefix' | 'suffix'; value: string }) =>
  create(SubjectAltNameMatcherSchema, { sanType: SanType.URI, matcher: { matchPattern } });

test('matchers look at names of their own kind only', () => {
  const test1 = compileSanMatchers([uri({ case: 'prefix', value: 'spiffe://a/' })], [], '');
  assert.equal(test1([{ kind: 'uri', value: 'spiffe://a/x' }]), true);
  assert.equal(test1([{ kind: 'dns', value: 'spiffe://a/x' }]), false);
  assert.equal(test1([]), false);
  assert.equal(compileSanMatchers([], [], '')([]), true);
  assert.throws(
    () =>
      compileSanMatchers(
        [create(SubjectAltNameMatcherSchema, { matcher: { matchPattern: { case: 'exact', value: 'x' } } })],
        [],
        'p',
      ),
    /p\.match_typed_subject_alt_names\[0\]\.san_type/,
  );
});

test('host names: one wildcard label, no more', () => {
  const covers = (name: string, host: string) => coversHost([{ kind: 'dns', value: name }], host);
  assert.ok(covers('a.b', 'A.B') && covers('*.b', 'a.b'));
  assert.ok(!covers('*.b', 'b') && !covers('*.b', 'x.a.b') && !covers('a.b', 'a.b.c'));
});

test('a subject in RFC 2253: last first, what is no ASCII as its bytes', () => {
  assert.equal(subjectText('O=a\\+b\nCN=né→'), 'CN=n\\C3\\A9\\E2\\86\\92,O=a\\+b');
  assert.equal(subjectText(undefined), '');
});
