// Decisions: the actions, what each kind of condition means, the index against a naive evaluation, and explanations.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createRegistry, fromJson, type JsonObject, type JsonValue } from '@bufbuild/protobuf';
import fc from 'fast-check';
import { RBACSchema } from '#proto/envoy/config/rbac/v3/rbac_pb.js';
import { UriTemplateMatchConfigSchema } from '#proto/envoy/extensions/path/match/uri_template/v3/uri_template_match_pb.js';
import { createEngine, deniedDetails } from './engine.ts';
import { explain } from './explain.ts';
import { type Facts, NO_FACTS } from './facts.ts';
import { naiveMatch } from './testing/naive.ts';

const registry = createRegistry(UriTemplateMatchConfigSchema);

function rules(policies: JsonObject, action = 'ALLOW') {
  return fromJson(RBACSchema, { action, policies }, { registry });
}

const ANY = [{ any: true }];

/** An engine with one ALLOW policy on these permissions and principals. */
function allows(permissions: JsonValue, principals: JsonValue = ANY) {
  const engine = createEngine(rules({ p: { permissions, principals } }), 'rules');
  return (facts: Partial<Facts>): boolean => engine.decide({ ...NO_FACTS, ...facts }).allowed;
}

const peer = (...peerUris: string[]): Partial<Facts> => ({ tls: true, peerVerified: true, peerUris });
const headers = (values: Record<string, string>): Partial<Facts> => ({ header: (name) => values[name] });

test('ALLOW allows what matches, DENY refuses it, LOG only notes it', () => {
  const policies = { p: { permissions: [{ url_path: { path: { exact: '/a' } } }], principals: ANY } };
  const decide = (action: string, path: string) =>
    createEngine(rules(policies, action), '').decide({ ...NO_FACTS, path });
  assert.deepEqual(decide('ALLOW', '/a?x=1'), { allowed: true, policy: 'p', log: undefined });
  assert.deepEqual(decide('ALLOW', '/b'), { allowed: false, policy: '', log: undefined });
  assert.deepEqual(decide('DENY', '/a'), { allowed: false, policy: 'p', log: undefined });
  assert.deepEqual(decide('DENY', '/b'), { allowed: true, policy: '', log: undefined });
  assert.deepEqual(decide('LOG', '/a'), { allowed: true, policy: 'p', log: true });
  assert.deepEqual(decide('LOG', '/b'), { allowed: true, policy: '', log: false });
});

test('rules without policies: ALLOW refuses everything, DENY nothing', () => {
  assert.equal(createEngine(rules({}), '').decide(NO_FACTS).allowed, false);
  assert.equal(createEngine(rules({}, 'DENY'), '').decide(NO_FACTS).allowed, true);
});

test('the first policy by name decides', () => {
  const open = { permissions: ANY, principals: ANY };
  const names = { z: open, B: open, a: open, 'ns[x]': open };
  assert.equal(createEngine(rules(names), '').decide(NO_FACTS).policy, 'B');
});

test('a principal is any URI or DNS name or the subject, and only of a checked certificate', () => {
  const named = allows(ANY, [{ authenticated: { principal_name: { exact: 'spiffe://td/ns/a/sa/b' } } }]);
  assert.equal(named(peer('spiffe://td/ns/a/sa/b')), true);
  assert.equal(named(peer('spiffe://other', 'spiffe://td/ns/a/sa/b')), true);
  assert.equal(named({ ...peer('spiffe://td/ns/a/sa/b'), peerVerified: false }), false);
  assert.equal(named({ ...peer('spiffe://td/ns/a/sa/b'), tls: false }), false);
  const subject = allows(ANY, [{ authenticated: { principal_name: { exact: 'CN=x' } } }]);
  assert.equal(subject({ ...peer(), peerSubject: 'CN=x' }), true);
  const someone = allows(ANY, [{ authenticated: {} }]);
  assert.deepEqual([someone(peer('x')), someone({ tls: true }), someone({})], [true, false, false]);
  const dots = allows(ANY, [{ authenticated: { principal_name: { safe_regex: { regex: '.+' } } } }]);
  assert.deepEqual([dots(peer('spiffe://x')), dots({ tls: true })], [true, false]);
});

test('namespaces as Istio writes them', () => {
  const inFoo = allows(ANY, [{ authenticated: { principal_name: { safe_regex: { regex: '.*/ns/foo/.*' } } } }]);
  assert.equal(inFoo(peer('spiffe://td/ns/foo/sa/x')), true);
  assert.equal(inFoo(peer('spiffe://td/ns/foobar/sa/x')), false);
  assert.equal(inFoo(peer('spiffe://td/ns/foo/sa/x\n')), false, 'a dot is not a line break');
  const account = allows(ANY, [
    { authenticated: { principal_name: { safe_regex: { regex: 'spiffe://[^/]+/ns/foo/(.+/)?sa/bar(/.+)?' } } } },
  ]);
  assert.equal(account(peer('spiffe://td/ns/foo/sa/bar')), true);
  assert.equal(account(peer('spiffe://td/ns/foo/sa/barx')), false);
});

test('a header that is missing matches nothing, inverted or not; a negated rule does', () => {
  const header = { name: 'X-A', string_match: { exact: '1' } };
  assert.equal(allows([{ header }])(headers({ 'x-a': '1' })), true);
  assert.equal(allows([{ header: { ...header, invert_match: true } }])({}), false);
  assert.equal(allows([{ header: { ...header, invert_match: true } }])(headers({ 'x-a': '2' })), true);
  assert.equal(allows([{ not_rule: { header } }])({}), true);
  assert.equal(allows([{ header: { name: 'x-a', present_match: true, invert_match: true } }])({}), true);
  assert.equal(allows([{ header: { ...header, treat_missing_header_as_empty: true, invert_match: true } }])({}), true);
  assert.equal(allows([{ header: { name: ':path', string_match: { suffix: '?q' } } }])({ path: '/a?q' }), true);
  assert.equal(allows([{ header: { name: 'x-n', range_match: { start: 5, end: 7 } } }])(headers({ 'x-n': '6' })), true);
});

test('one of the values of a repeated header is enough, and a joined value is none of them', () => {
  const header = (string_match: JsonObject, extra: JsonObject = {}) =>
    allows([{ header: { name: 'x-a', string_match, ...extra } }])({ header: () => ['1', '2'] });
  assert.equal(header({ exact: '2' }), true);
  assert.equal(header({ exact: '1,2' }), false);
  assert.equal(header({ exact: '2' }, { invert_match: true }), false);
  assert.equal(header({ exact: '3' }, { invert_match: true }), true);
});

test('hosts compare without case when asked', () => {
  const host = allows([
    { header: { name: ':authority', string_match: { suffix: '.Example.com', ignore_case: true } } },
  ]);
  assert.equal(host({ authority: 'A.EXAMPLE.COM' }), true);
  assert.equal(host({ authority: 'example.com' }), false);
});

test('path templates', () => {
  const template = (path_template: string) =>
    allows([
      {
        uri_template: {
          name: 'envoy.path.match.uri_template.uri_template_matcher',
          typed_config: {
            '@type': 'type.googleapis.com/envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig',
            path_template,
          },
        },
      },
    ]);
  const rows: [string, readonly string[], readonly string[]][] = [
    ['/foo/*', ['/foo/bar', '/foo/bar?x=/y'], ['/foo/bar/baz', '/foo/', '/foo']],
    ['/allow/admin/**', ['/allow/admin/', '/allow/admin/x/y'], ['/allow/admin', '/allow/adminx']],
    ['/store/**/cart', ['/store//cart', '/store/a/b/cart'], ['/store/cart']],
    ['/foo/*/bar/**', ['/foo/b/bar/', '/foo/b/bar/baz'], ['/foo//bar/x', '/foo/b/c/bar/']],
    ['/foo/**/', ['/foo/bar/', '/foo/x/y.txt/', '/foo//'], ['/foo/bar']],
    ['/foo/*.txt', ['/foo/a.txt'], ['/foo/.txt', '/foo/a/b.txt']],
    ['/a.b/{id}/{rest=**}', ['/a.b/1/x/y'], ['/axb/1/x']],
  ];
  for (const [text, yes, no] of rows) {
    const matches = template(text);
    for (const path of yes) assert.equal(matches({ path }), true, `${text} matches ${path}`);
    for (const path of no) assert.equal(matches({ path }), false, `${text} does not match ${path}`);
  }
  for (const bad of ['/**/foo/*', '/foo/{*}', 'foo', '/{a}/{a}', '/{*', '/a|b'])
    assert.throws(() => template(bad), /path_template \S+ is invalid/, bad);
});

test('metadata: strings, lists, either source', () => {
  const payload = { iss: 'me', aud: ['a', 'b'], n: 3, deep: { x: 'y' } };
  const dynamic: Partial<Facts> = { metadata: (filter) => (filter === 'jwt' ? payload : undefined) };
  const matcher = (path: string[], value: JsonValue, extra: JsonObject = {}) => ({
    filter: 'jwt',
    path: path.map((key) => ({ key })),
    value,
    ...extra,
  });
  const matches = (path: string[], value: JsonValue, extra: JsonObject = {}) =>
    allows([{ metadata: matcher(path, value, extra) }])(dynamic);
  assert.equal(matches(['iss'], { string_match: { exact: 'me' } }), true);
  assert.equal(matches(['deep', 'x'], { string_match: { prefix: 'y' } }), true);
  assert.equal(matches(['aud'], { string_match: { exact: 'a' } }), false);
  assert.equal(matches(['aud'], { list_match: { one_of: { string_match: { exact: 'b' } } } }), true);
  assert.equal(matches(['iss'], { list_match: { one_of: { string_match: { exact: 'me' } } } }), false);
  assert.equal(matches(['n'], { double_match: { range: { start: 1, end: 4 } } }), true);
  assert.equal(matches(['none'], { present_match: true }), false);
  assert.equal(matches(['__proto__'], { present_match: true }), false);
  assert.equal(matches(['iss'], { string_match: { exact: 'x' } }, { invert: true }), true);
  const sourced = { metadata_matcher: matcher(['iss'], { string_match: { exact: 'me' } }), metadata_source: 'ROUTE' };
  assert.equal(allows([{ sourced_metadata: sourced }])(dynamic), false);
  assert.equal(allows([{ sourced_metadata: sourced }])({ routeMetadata: () => payload }), true);
});

test('addresses, ports, server names and filter state', () => {
  const end = (ip: string, port = 0) => ({ ip, port });
  const range = { address_prefix: '10.1.0.0', prefix_len: 16 };
  assert.equal(allows(ANY, [{ direct_remote_ip: range }])({ direct: end('10.1.2.3') }), true);
  assert.equal(allows(ANY, [{ direct_remote_ip: range }])({ direct: end('10.2.2.3') }), false);
  assert.equal(allows(ANY, [{ remote_ip: range }])({ remote: end('::ffff:10.1.0.1') }), true);
  assert.equal(allows(ANY, [{ source_ip: range }])({ source: end('') }), false);
  assert.equal(
    allows([{ destination_ip: { address_prefix: '2001:db8::', prefix_len: 33 } }])({
      destination: end('2001:db8:7fff::1'),
    }),
    true,
  );
  assert.equal(allows([{ destination_port: 80 }])({ destination: end('', 80) }), true);
  assert.equal(allows([{ destination_port_range: { start: 80, end: 90 } }])({ destination: end('', 90) }), false);
  assert.equal(allows([{ requested_server_name: { suffix: '.a' } }])({ serverName: 'x.a' }), true);
  const state = allows(ANY, [{ filter_state: { key: 'k', string_match: { exact: 'v' } } }]);
  assert.equal(state({ filterState: (key) => (key === 'k' ? 'v' : undefined) }), true);
});

test('on a TCP chain nothing of HTTP matches', () => {
  const tcp = { http: false };
  assert.equal(allows([{ url_path: { path: { prefix: '/' } } }])(tcp), false);
  assert.equal(allows([{ header: { name: ':method', string_match: { exact: 'GET' } } }])(tcp), false);
  assert.equal(allows([{ not_rule: { header: { name: ':method', string_match: { exact: 'GET' } } } }])(tcp), true);
});

test('what is not supported is refused by path', () => {
  const refuse = (policy: JsonObject, wanted: RegExp) =>
    assert.throws(() => createEngine(rules({ p: { permissions: ANY, principals: ANY, ...policy } }), 'rules'), wanted);
  refuse(
    { condition: { const_expr: { bool_value: true } } },
    /rules\.policies\[p\]\.condition: field .* is not supported/,
  );
  refuse({ permissions: [] }, /policies\[p\]\.permissions: value must contain at least 1/);
  refuse({ permissions: [{ any: false }] }, /any: value must equal true/);
  refuse({ permissions: [{}] }, /permissions\[0\]\.rule: value is required/);
  refuse({ permissions: [{ matcher: { name: 'x' } }] }, /permissions\[0\]\.matcher: Didn't find a registered/);
  refuse({ principals: [{ custom: { name: 'x' } }] }, /principals\[0\]\.custom/);
  refuse({ principals: [{ direct_remote_ip: { address_prefix: 'x' } }] }, /is not a CIDR range/);
  refuse({ principals: [{ authenticated: { principal_name: { safe_regex: { regex: '(' } } } }] }, /Invalid regex/);
  let deep: JsonObject = { any: true };
  for (let i = 0; i < 80; i++) deep = { not_rule: deep };
  refuse({ permissions: [deep] }, /nested deeper/);
});

test('white space in a policy name becomes _ in the details', () => {
  assert.equal(deniedDetails(''), 'rbac_access_denied_matched_policy[none]');
  assert.equal(deniedDetails('a b\tc'), 'rbac_access_denied_matched_policy[a_b_c]');
});

test('an explanation names what did not hold and what was there', () => {
  const engine = createEngine(
    rules({
      p: {
        permissions: [
          {
            and_rules: {
              rules: [{ destination_port: 80 }, { not_rule: { url_path: { path: { prefix: '/admin' } } } }],
            },
          },
        ],
        principals: [{ authenticated: { principal_name: { prefix: 'spiffe://td/' } } }],
      },
    }),
    '',
  );
  const facts: Facts = { ...NO_FACTS, ...peer('spiffe://x/a'), path: '/admin/x', destination: { ip: '', port: 81 } };
  const { decision, policies } = explain(engine, facts);
  assert.equal(decision.allowed, false);
  assert.deepEqual(policies[0]!.missing, [
    'destination port equal to "80", but it is "81"',
    'url path starting with "/admin" (which must not hold), but it is "/admin/x"',
    'principal starting with "spiffe://td/", but it is "spiffe://x/a"',
  ]);
});

// --- the index

const word = fc.constantFrom('a', 'b', 'ab', 'A', 'ns', 'a/b');
const uri = fc.constantFrom('spiffe://t/ns/a/sa/b', 'spiffe://t/ns/b/sa/a', 'spiffe://u/ns/a/sa/a', 'x');
const ip = fc.constantFrom('10.0.0.1', '10.0.0.2', '10.1.0.1', '192.168.0.1');

function matcherOf(value: fc.Arbitrary<string>): fc.Arbitrary<JsonObject> {
  return fc.oneof(
    fc.record({ exact: value, ignore_case: fc.boolean() }),
    fc.record({ prefix: value.map((text) => text.slice(0, Math.max(1, text.length - 1))), ignore_case: fc.boolean() }),
    fc.record({ suffix: value.map((text) => text.slice(-2)), ignore_case: fc.boolean() }),
    fc.record({ contains: value.map((text) => text.slice(0, 1)) }),
  );
}

const principalName = fc.oneof(
  matcherOf(uri),
  fc.constantFrom(
    { safe_regex: { regex: '.*/ns/a/.*' } },
    { safe_regex: { regex: 'spiffe://.*/ns/b/(.+/)?sa/a' } },
    { safe_regex: { regex: '.+' } },
    { safe_regex: { regex: 'spiffe://t.*' } },
    { safe_regex: { regex: '.*sa/a' } },
  ),
);

function nested(leaf: fc.Arbitrary<JsonObject>, and: string, or: string, list: string, no: string) {
  return fc.letrec<{ node: JsonObject }>((tie) => ({
    node: fc.oneof(
      { maxDepth: 3, withCrossShrink: true },
      leaf,
      fc.array(tie('node'), { minLength: 1, maxLength: 6 }).map((of) => ({ [and]: { [list]: of } })),
      fc.array(tie('node'), { minLength: 1, maxLength: 6 }).map((of) => ({ [or]: { [list]: of } })),
      tie('node').map((of) => ({ [no]: of })),
    ),
  })).node;
}

const range = fc.record({ address_prefix: ip, prefix_len: fc.constantFrom(0, 8, 15, 16, 24, 31, 32) });
const header = fc.oneof(
  fc.record({
    name: fc.constantFrom('x-a', ':method', ':authority'),
    string_match: matcherOf(word),
    invert_match: fc.boolean(),
  }),
  fc.record({ name: fc.constant('x-a'), present_match: fc.boolean(), invert_match: fc.boolean() }),
);
const permissions = nested(
  fc.oneof(
    fc.constant({ any: true }),
    header.map((one) => ({ header: one })),
    matcherOf(word.map((text) => `/${text}`)).map((path) => ({ url_path: { path } })),
    range.map((one) => ({ destination_ip: one })),
    fc.constantFrom(80, 81).map((one) => ({ destination_port: one })),
    matcherOf(word).map((one) => ({ requested_server_name: one })),
  ),
  'and_rules',
  'or_rules',
  'rules',
  'not_rule',
);
const principals = nested(
  fc.oneof(
    fc.constant({ any: true }),
    principalName.map((principal_name) => ({ authenticated: { principal_name } })),
    range.map((one) => ({ direct_remote_ip: one })),
    range.map((one) => ({ remote_ip: one })),
    header.map((one) => ({ header: one })),
  ),
  'and_ids',
  'or_ids',
  'ids',
  'not_id',
);
const policies = fc.array(
  fc.record({
    permissions: fc.array(permissions, { minLength: 1, maxLength: 3 }),
    principals: fc.array(principals, { minLength: 1, maxLength: 3 }),
  }),
  { minLength: 0, maxLength: 24 },
);
const facts: fc.Arbitrary<Facts> = fc
  .record({
    path: word.map((text) => `/${text}`),
    method: word,
    authority: fc.oneof(word, fc.constant('')),
    value: fc.option(fc.oneof(word, fc.array(word, { minLength: 2, maxLength: 3 }))),
    serverName: word,
    uris: fc.array(uri, { maxLength: 2 }),
    tls: fc.boolean(),
    verified: fc.boolean(),
    ips: fc.tuple(ip, ip, ip),
    port: fc.constantFrom(80, 81, 82),
  })
  .map((one) => ({
    ...NO_FACTS,
    path: one.path,
    method: one.method,
    authority: one.authority,
    header: (name: string) => (name === 'x-a' ? (one.value ?? undefined) : undefined),
    serverName: one.serverName,
    tls: one.tls,
    peerVerified: one.tls && one.verified,
    peerUris: one.uris,
    destination: { ip: one.ips[0], port: one.port },
    direct: { ip: one.ips[1], port: 1 },
    remote: { ip: one.ips[2], port: 1 },
  }));

test('compiled and indexed, policies decide as when evaluated one by one', () => {
  fc.assert(
    fc.property(policies, fc.array(facts, { minLength: 1, maxLength: 5 }), (list, requests) => {
      const message = rules(Object.fromEntries(list.map((policy, i) => [`p${i}`, policy])) as JsonObject);
      const engine = createEngine(message, '');
      for (const request of requests)
        assert.equal(engine.decide(request).policy, naiveMatch(message, request) ?? '', JSON.stringify(request));
    }),
    { numRuns: 400 },
  );
});

test('with thousands of policies a decision looks at few', () => {
  const count = 5_000;
  const ways: [string, (i: number) => JsonObject][] = [
    ['path', (i) => ({ permissions: [{ url_path: { path: { exact: `/p/${i}` } } }], principals: ANY })],
    ['path prefix', (i) => ({ permissions: [{ url_path: { path: { prefix: `/p/${i}/` } } }], principals: ANY })],
    ['principal', (i) => ({ permissions: ANY, principals: [named({ exact: `spiffe://t/ns/n${i}/sa/s` })] })],
    ['namespace', (i) => ({ permissions: ANY, principals: [named({ safe_regex: { regex: `.*/ns/n${i}/.*` } })] })],
    [
      'crowded',
      // 70 principals, 72 paths: no single condition tells them apart.
      (i) => ({
        permissions: [{ url_path: { path: { exact: `/p/${i % 72}` } } }],
        principals: [named({ exact: `spiffe://t/ns/n${Math.floor(i / 72)}/sa/s` })],
      }),
    ],
  ];
  for (const [name, policy] of ways) {
    const engine = createEngine(
      rules(Object.fromEntries(Array.from({ length: count }, (_, i) => [`p${i}`, policy(i)]))),
      '',
    );
    let reads = 0;
    const request: Facts = {
      ...NO_FACTS,
      tls: true,
      peerVerified: true,
      peerUris: ['spiffe://t/ns/n7/sa/s'],
      get path() {
        reads += 1;
        return '/p/7/';
      },
      get peerDns() {
        reads += 1;
        return [];
      },
    };
    engine.decide(request);
    assert.ok(reads < 20, `${name}: ${reads} conditions were looked at`);
  }
});

function named(principal_name: JsonObject): JsonObject {
  return { authenticated: { principal_name } };
}
