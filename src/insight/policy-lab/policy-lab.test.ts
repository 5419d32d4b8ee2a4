// The whole path on one mesh, and what mistakes in a file are called.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readMeshTests } from './read.ts';
import { differenceText, jsonReport, junitReport, tapReport } from './report.ts';
import { runTests } from './run.ts';

const MESH = `apiVersion: meltemi.dev/v1alpha1
kind: MeshTest
metadata: {name: strict}
spec:
  services:
    - {name: httpbin, namespace: foo, ports: [{name: http, port: 8000, targetPort: 80}], selector: {app: httpbin}}
  workloads:
    - {name: httpbin, namespace: foo}
    - {name: sleep, namespace: foo}
    - {name: legacy, namespace: legacy, mesh: false}
  resources:
    - apiVersion: security.istio.io/v1
      kind: PeerAuthentication
      metadata: {name: default, namespace: foo}
      spec: {mtls: {mode: STRICT}}
  requests:
`;

function read(requests: string, files: Record<string, string> = {}) {
  const all: Record<string, string> = { 't.yaml': MESH + requests, ...files };
  return readMeshTests('t.yaml', { read: (path) => all[path], expand: () => [] });
}

async function run(requests: string) {
  const { tests, problems } = read(requests);
  assert.deepEqual(problems, []);
  return runTests(tests, { engines: ['meltemi'], parallel: 1, onResult: () => {} });
}

test('a meshed client gets through STRICT with its identity, a plaintext one is reset', async () => {
  const [result] = await run(`
    - {name: mesh, from: foo/sleep, to: "http://httpbin.foo:8000/a?b=c", expect: {status: 200, responder: foo/httpbin,
       upstream: {mtls: true, peer: "spiffe://cluster.local/ns/foo/sa/sleep", path: "/a?b=c", headers: {x-envoy-attempt-count: "1"}}}}
    - {name: plain, from: legacy/legacy, to: "http://httpbin.foo:8000/", expect: {code: reset}}
`);
  assert.equal(result?.error, undefined);
  assert.deepEqual(
    result?.requests.map((r) => [r.name, r.pass]),
    [
      ['mesh', true],
      ['plain', true],
    ],
  );
});

test('a failed request says what differed, what came and which resources speak of it, in every form', async () => {
  const results = await run(`
    - {name: wrong, from: foo/sleep, to: "http://httpbin.foo:8000/", expect: {status: 404, upstream: {path: /other}}}
`);
  const request = results[0]!.requests[0]!;
  assert.deepEqual(
    request.differences.map((d) => [d.path, d.expected, d.actual]),
    [
      ['expect.status', 404, 200],
      ['expect.upstream.path', '/other', '/'],
    ],
  );
  assert.deepEqual(request.explanation?.resources, ['PeerAuthentication foo/default (t.yaml:12)']);
  assert.ok(request.explanation?.hops.some((h) => h.text.includes('outbound|8000||httpbin.foo.svc.cluster.local')));
  assert.deepEqual(
    request.explanation?.hops.map((h) => h.proxy),
    ['foo/sleep', 'foo/httpbin'],
  );
  const json = JSON.parse(jsonReport(results, []));
  assert.equal(json.failed, 1);
  assert.deepEqual(Object.keys(json.tests[0]).slice(0, 4), ['file', 'name', 'engine', 'requests']);
  assert.match(junitReport(results, []), /<failure message="expect.status: expected 404, got 200">/);
  assert.match(tapReport(results, []), /^not ok 1 - t.yaml: strict \(meltemi\) \/ wrong$/m);
});

const mistakes: readonly (readonly [string, string, RegExp, number])[] = [
  ['a mistyped field', '    - {from: foo/sleep, to: "http://a/", expects: {status: 200}}', /did you mean "expect"/, 17],
  [
    'an unknown workload',
    '    - {from: foo/slep, to: "http://a/", expect: {status: 200}}',
    /did you mean foo\/sleep/,
    17,
  ],
  [
    'a host nobody knows',
    '    - {from: foo/sleep, to: "http://htpbin.foo:8000/", expect: {code: refused}}',
    /cannot resolve "htpbin.foo" \(did you mean "httpbin.foo"\?\)/,
    17,
  ],
  [
    'a target without scheme',
    '    - {from: foo/sleep, to: "httpbin:8000", expect: {status: 200}}',
    /SCHEME:\/\/HOST/,
    17,
  ],
  [
    'a field of a later version',
    '    - {from: foo/sleep, to: "http://a/", token: x, expect: {status: 200}}',
    /token is not supported/,
    17,
  ],
  ['nothing to expect', '    - {from: foo/sleep, to: "http://a/"}', /expect is missing/, 17],
  [
    'a wrong variable',
    '    - {from: foo/sleep, to: "http://$(ip:foo/htpbin)/", expect: {status: 200}}',
    /did you mean foo\/httpbin/,
    17,
  ],
  [
    'a number in quotes',
    '    - {from: foo/sleep, to: "http://a/", times: "3", expect: {status: 200}}',
    /times must be an integer in the range 1-\d+, not "3"/,
    17,
  ],
  [
    'a list for one status',
    '    - {from: foo/sleep, to: "http://httpbin.foo:8000/", expect: {status: [200, 201]}}',
    /for several write statusAnyOf/,
    17,
  ],
  [
    'a mistyped word',
    '    - {from: foo/sleep, to: "http://httpbin.foo:8000/", expect: {code: rest}}',
    /unsupported value "rest"; did you mean reset\?/,
    17,
  ],
  [
    'a workload without its namespace',
    '    - {from: sleep, to: "http://httpbin.foo:8000/", expect: {status: 200}}',
    /there is no workload "sleep": did you mean foo\/sleep\?/,
    17,
  ],
  [
    'a key that stands twice',
    '    - {from: foo/sleep, from: foo/sleep, to: "http://a/", expect: {status: 200}}',
    /the key from stands twice/,
    17,
  ],
  ['broken YAML', '    - {from: foo/sleep, to: "http://a/", expect: {status: 200}', /not YAML/, 18],
];

for (const [what, requests, message, line] of mistakes)
  test(`${what} is told with its line and what would be right`, () => {
    const { tests, problems } = read(`${requests}\n`);
    assert.equal(tests.length, 0);
    assert.match(problems[0]?.message ?? '', message);
    assert.equal(problems[0]?.line, line);
  });

test('a resource is judged as admission judges it, at its place', () => {
  const { problems } = readMeshTests('t.yaml', {
    read: () =>
      MESH.replace('mode: STRICT', 'mode: STRIKT').replace(
        '  requests:',
        '  requests: [{from: foo/sleep, to: "http://a/", expect: {status: 200}}]',
      ),
    expand: () => [],
  });
  assert.match(problems[0]?.message ?? '', /PeerAuthentication default: .*STRIKT/);
  assert.equal(problems[0]?.line, 15);
});

test('a kind that is mistyped, missing or of another group is told with what would be right', () => {
  const problem = (from: string, to: string): string | undefined => {
    const source = `${MESH}    - {from: foo/sleep, to: "http://httpbin.foo:8000/", expect: {status: 200}}\n`;
    const { problems } = readMeshTests('t.yaml', { read: () => source.replace(from, to), expand: () => [] });
    return problems.at(-1)?.message;
  };
  assert.match(problem('kind: MeshTest\n', 'kind: MeshTst\n') ?? '', /and kind MeshTest, found .* and kind "MeshTst"$/);
  assert.match(problem('kind: MeshTest\n', '') ?? '', /and kind nothing: only a MeshTest is run/);
  assert.match(problem('PeerAuthentication', 'PeerAuthenticaton') ?? '', /did you mean PeerAuthentication\?/);
  assert.match(
    problem('security.istio.io/v1', 'networking.istio.io/v1') ?? '',
    /is a kind of security\.istio\.io\/v1, not/,
  );
  assert.match(problem('security.istio.io/v1', 'security.istio.io/v9') ?? '', /has no version v9: use security/);
  assert.match(problem('security.istio.io/v1', 'v1') ?? '', /its apiVersion is security\.istio\.io\/v1/);
});

test('equal answers of a repeated request are folded, and a port that no Service has is told', async () => {
  const results = await run(`
    - {name: many, from: foo/sleep, to: "http://httpbin.foo:8000/", times: 5, expect: {status: 404}}
    - {name: port, from: foo/sleep, to: "http://httpbin.foo:8001/", expect: {status: 200}}
`);
  const [many, port] = results[0]!.requests;
  assert.deepEqual(many?.differences.map(differenceText), ['expect.status: expected 404, got 200 (5 of 5 times)']);
  assert.deepEqual(many?.actual.answers, { 200: 5 });
  assert.equal(port?.explanation?.note, 'the Service foo/httpbin has no port 8001: it has 8000');
});
