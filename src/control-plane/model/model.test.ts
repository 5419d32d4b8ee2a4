// Scope and inheritance of PeerAuthentication (mtls.md §2), protocol selection, host rules, node parsing.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  type MtlsMode,
  type PeerAuthenticationSpec,
  parsePeerAuthentication,
} from '../../api/istio/peer-authentication.ts';
import type { Config } from '../config/store.ts';
import { hostMatches, hostsOverlap, resolveHost } from './hosts.ts';
import {
  effectivePeerAuthentication,
  indexPeerAuthentications,
  modeOfPort,
  namespaceMode,
} from './peer-authentication.ts';
import { protocolOf } from './protocol.ts';
import { parseProxy } from './proxy.ts';

type Mode = MtlsMode | undefined;
const PORT = 80;
const LABELS = { app: 'web' };

function policy(
  namespace: string,
  name: string,
  mode: Mode,
  extra: object = {},
  createdAt = 1,
): Config<PeerAuthenticationSpec> {
  const parsed = parsePeerAuthentication({ ...(mode ? { mtls: { mode } } : {}), ...extra });
  if (parsed.kind === 'invalid') throw new Error(JSON.stringify(parsed.diagnostics));
  return { namespace, name, createdAt, resourceVersion: '1', spec: parsed.value };
}
const selector = { selector: { matchLabels: LABELS } };

// mesh, namespace, workload, port → on the port, on others
const TABLE: readonly (readonly [Mode, Mode, Mode, Mode, string, string])[] = [
  [undefined, undefined, undefined, undefined, 'PERMISSIVE', 'PERMISSIVE'],
  ['STRICT', undefined, undefined, undefined, 'STRICT', 'STRICT'],
  ['STRICT', 'PERMISSIVE', undefined, undefined, 'PERMISSIVE', 'PERMISSIVE'],
  ['STRICT', 'UNSET', undefined, undefined, 'STRICT', 'STRICT'],
  ['STRICT', undefined, 'PERMISSIVE', undefined, 'PERMISSIVE', 'PERMISSIVE'],
  ['STRICT', 'PERMISSIVE', 'UNSET', undefined, 'PERMISSIVE', 'PERMISSIVE'],
  ['DISABLE', undefined, 'STRICT', 'DISABLE', 'DISABLE', 'STRICT'],
  ['STRICT', undefined, 'STRICT', 'UNSET', 'STRICT', 'STRICT'],
];

for (const [mesh, namespace, workload, port, onPort, others] of TABLE)
  test(`PeerAuthentication mesh ${mesh} namespace ${namespace} workload ${workload} port ${port} is ${onPort}`, () => {
    const all = [
      ...(mesh ? [policy('istio-system', 'default', mesh)] : []),
      ...(namespace ? [policy('foo', 'default', namespace)] : []),
      ...(workload
        ? [
            policy('foo', 'web', workload, {
              ...selector,
              ...(port ? { portLevelMtls: { [PORT]: { mode: port } } } : {}),
            }),
          ]
        : []),
    ];
    const index = indexPeerAuthentications(all, 'istio-system');
    const effective = effectivePeerAuthentication(index, 'foo', LABELS);
    assert.equal(modeOfPort(effective, PORT), onPort);
    assert.equal(modeOfPort(effective, 9), others);
  });

test('the oldest of a scope wins whatever its name; a selector in the root namespace means nothing', () => {
  const all = [
    policy('foo', 'a-newer', 'STRICT', {}, 2),
    policy('foo', 'z-older', 'DISABLE', {}, 1),
    policy('istio-system', 'selected', 'STRICT', selector),
    policy('foo', 'w2', 'PERMISSIVE', selector, 5),
    policy('foo', 'w1', 'STRICT', selector, 5),
  ];
  const index = indexPeerAuthentications(all, 'istio-system');
  assert.equal(namespaceMode(index, 'foo'), 'DISABLE');
  assert.equal(effectivePeerAuthentication(index, 'foo', LABELS).mode, 'STRICT');
  assert.equal(effectivePeerAuthentication(index, 'foo', { app: 'other' }).mode, 'DISABLE');
  assert.equal(effectivePeerAuthentication(index, 'bar', LABELS).mode, 'PERMISSIVE');
  assert.deepEqual(index.ignored.map((c) => c.name).sort(), ['a-newer', 'selected']);
});

test('PeerAuthentication refuses what has no meaning, with the port or field named', () => {
  const messages = (spec: unknown): readonly string[] => {
    const parsed = parsePeerAuthentication(spec);
    return parsed.kind === 'invalid' ? parsed.diagnostics.map((d) => d.message) : [];
  };
  assert.deepEqual(messages({ portLevelMtls: { 80: { mode: 'STRICT' } } }), [
    'mesh/namespace peer authentication cannot have port level mTLS',
  ]);
  assert.deepEqual(messages({ ...selector, portLevelMtls: { 70000: {} } }), [
    'port number 70000 must be in the range 1..65535',
  ]);
  assert.match(messages({ mtls: { mode: 'strict' } })[0] ?? '', /unsupported value "strict"/);
  assert.deepEqual(messages({ selector: 'app=web' }), ['spec.selector must be an object, not "app=web"']);
  assert.deepEqual(messages({ mtsl: {} }), ['unknown field "spec.mtsl"; did you mean "mtls"?']);
  assert.match(
    messages({ selector: { matchLabels: { app: '*' } } })[0] ?? '',
    /^wildcard is not supported in selector/,
  );
});

test('the protocol of a port', () => {
  const of = (name: string, rest: { appProtocol?: string; protocol?: string; port?: number } = {}) =>
    protocolOf({ name, port: 8000, ...rest });
  assert.equal(of('http'), 'HTTP');
  assert.equal(of('HTTP-web'), 'HTTP');
  assert.equal(of('grpc-web'), 'GRPC-Web');
  assert.equal(of('grpc-api'), 'GRPC');
  assert.equal(of('https-x'), 'HTTPS');
  assert.equal(of('svc-webport'), 'auto');
  assert.equal(of(''), 'auto');
  assert.equal(of('', { port: 3306 }), 'TCP');
  assert.equal(of('http', { appProtocol: 'tcp' }), 'TCP');
  assert.equal(of('x', { appProtocol: 'kubernetes.io/h2c' }), 'HTTP2');
  assert.equal(of('http', { protocol: 'UDP' }), 'UDP');
});

test('host names of rules', () => {
  assert.equal(resolveHost('reviews', 'foo', 'cluster.local'), 'reviews.foo.svc.cluster.local');
  assert.equal(resolveHost('reviews.default', 'foo', 'cluster.local'), 'reviews.default');
  assert.equal(resolveHost('*', 'foo', 'cluster.local'), '*');
  assert.ok(hostMatches('*.x', 'a.x'));
  assert.ok(!hostMatches('*.x', '.x'.slice(1)));
  assert.ok(hostsOverlap('*.example.com', '*.a.example.com'));
  assert.ok(!hostsOverlap('*.example.com', 'example.org'));
});

test('node identification is checked', () => {
  const ok = parseProxy('sidecar~10.0.0.1~web-1.foo~foo.svc.cluster.local', { INSTANCE_IPS: '10.0.0.2,fd00::1' });
  assert.equal(ok.kind, 'ok');
  if (ok.kind === 'ok') {
    assert.deepEqual(ok.proxy.ips, ['10.0.0.2', 'fd00::1']);
    assert.equal(ok.proxy.namespace, 'foo');
    assert.equal(ok.proxy.podName, 'web-1');
  }
  for (const id of [
    '',
    'sidecar~10.0.0.1~web',
    'ztunnel~10.0.0.1~a.b~c.d',
    'sidecar~nonsense~a.b~c.d',
    'sidecar~1.2.3.4~a~nodots',
  ])
    assert.equal(parseProxy(id, {}).kind, 'invalid', id);
});
