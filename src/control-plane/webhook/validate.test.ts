// Verdicts of the validation webhook, with their texts (injection-capture.md §6).
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { validateAdmission } from './validate.ts';

function verdict(kind: string, spec: unknown, extra: object = {}) {
  const group = kind === 'PeerAuthentication' || kind.startsWith('Auth') ? 'security.istio.io' : 'networking.istio.io';
  const object = { apiVersion: `${group}/v1`, kind, metadata: { name: 'x' }, spec, ...extra };
  const request = { uid: 'u', namespace: 'foo', operation: 'CREATE', object, kind: { group, version: 'v1', kind } };
  const response = validateAdmission(request);
  return response.allowed ? 'allowed' : (response.status?.message ?? '');
}
const route = (rule: object, hosts = ['web']) => verdict('VirtualService', { hosts, http: [rule] });
const to = { route: [{ destination: { host: 'web' } }] };

test('good objects pass', () => {
  assert.equal(verdict('PeerAuthentication', { mtls: { mode: 'STRICT' } }), 'allowed');
  assert.equal(route(to), 'allowed');
  assert.equal(
    verdict('DestinationRule', { host: 'web', subsets: [{ name: 'v1', labels: { version: 'v1' } }] }),
    'allowed',
  );
  const server = { port: { number: 80, name: 'http', protocol: 'HTTP' }, hosts: ['*'] };
  assert.equal(verdict('Gateway', { selector: { istio: 'ingressgateway' }, servers: [server] }), 'allowed');
});

test('each mistake is named', () => {
  const cases: readonly (readonly [string, RegExp])[] = [
    [verdict('VirtualService', { hosts: ['web'] }), /http, tcp or tls must be provided in virtual service/],
    [route({ ...to, redirect: { uri: '/x' } }), /cannot contain both route and redirect/],
    [route({ match: [{ uri: { regex: '(' } }], ...to }), /is not RE2/],
    [route({ match: [{ uri: { prefix: '' } }], ...to }), /prefix string match should not be empty/],
    [route({ ...to, fault: {} }), /must have an abort and\/or a delay/],
    [route({ ...to, fault: { abort: { httpStatus: 999 } } }), /200-599/],
    [route({ ...to, timeout: 'soon' }), /"soon" is not a duration/],
    [route(to, ['a b']), /domain name "a b" invalid/],
    [route(to, ['*']), /wildcard host \* is not allowed/],
    [route({ ...to, headers: { request: { set: { x: 'a\r\nb' } } } }), /may not contain line breaks/],
    [
      route({ route: [{ destination: { host: 'a' } }, { destination: { host: 'b' } }] }),
      /total destination weight = 0/,
    ],
    [route({ ...to, delegate: { name: 'b' } }), /delegate is not supported by this version of Meltemi/],
    [route({ ...to, mirror: { host: '' } }), /destination must have a host/],
    [verdict('DestinationRule', { host: '' }), /empty host/],
    [verdict('DestinationRule', { host: 'web', trafficPolicy: {} }), /traffic policy must have at least one field/],
    [verdict('DestinationRule', { host: 'w', subsets: [{ name: 'a' }, { name: 'a' }] }), /duplicate subset name: a/],
    [verdict('Gateway', { servers: [] }), /gateway must have at least one server/],
    [verdict('PeerAuthentication', {}, { sepc: {} }), /unknown field "sepc" on the initial object/],
  ];
  for (const [message, wanted] of cases) {
    assert.match(message, /^configuration is invalid: /);
    assert.match(message, wanted);
  }
});

test('kinds that would be ignored are refused by name', () => {
  for (const kind of ['AuthorizationPolicy', 'EnvoyFilter', 'Sidecar', 'Telemetry'])
    assert.equal(verdict(kind, {}), `${kind} is not supported by this version of Meltemi`);
});

test('deleting is always allowed', () => {
  const kind = { group: 'security.istio.io', version: 'v1', kind: 'AuthorizationPolicy' };
  const request = { uid: 'u', namespace: 'foo', operation: 'DELETE', object: null, kind };
  assert.equal(validateAdmission(request).allowed, true);
});
