import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Namespace } from '../../api/kubernetes/namespace.ts';
import type { Pod } from '../../api/kubernetes/pod.ts';
import type { Service } from '../../api/kubernetes/service.ts';
import { type AnalysisInput, analyze, type IstioObject } from './analyzers.ts';

const EMPTY: AnalysisInput = {
  namespaces: [],
  services: [],
  pods: [],
  virtualServices: [],
  destinationRules: [],
  serviceEntries: [],
  gateways: [],
  peerAuthentications: [],
  scope: undefined,
  clusterDomain: 'cluster.local',
  originOf: () => undefined,
};
function namespace(name: string, labels: Record<string, string> = {}): Namespace {
  return { apiVersion: 'v1', kind: 'Namespace', metadata: { name, labels } };
}
function service(name: string, ports: { name: string; port: number }[]): Service {
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name, namespace: 'default' },
    spec: { selector: { app: name }, ports },
  } as Service;
}
function pod(name: string, labels: Record<string, string>, containers = ['app']): Pod {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace: 'default', labels },
    spec: { containers: containers.map((c) => ({ name: c, image: 'x' })) },
  } as Pod;
}
function istio(kind: string, name: string, spec: Record<string, unknown>): IstioObject {
  return { apiVersion: 'networking.istio.io/v1', kind, metadata: { name, namespace: 'default' }, spec };
}
const lines = (input: Partial<AnalysisInput>): string[] =>
  analyze({ ...EMPTY, ...input }).map(
    (m) => `${m.level} [${m.code}] (${m.kind} ${m.namespace ?? ''}/${m.name}) ${m.text}`,
  );

test('a namespace without injection is an Info, a pod without its proxy a Warning', () => {
  assert.match(lines({ namespaces: [namespace('default')] })[0]!, /^Info \[IST0102\].*not enabled for Istio injection/);
  const enabled = namespace('default', { 'istio-injection': 'enabled' });
  assert.match(lines({ namespaces: [enabled], pods: [pod('a', {})] })[0]!, /^Warning \[IST0103\]/);
  assert.deepEqual(lines({ namespaces: [enabled], pods: [pod('a', {}, ['app', 'istio-proxy'])] }), []);
  assert.deepEqual(lines({ namespaces: [enabled], pods: [pod('a', { 'sidecar.istio.io/inject': 'false' })] }), []);
  assert.deepEqual(lines({ namespaces: [namespace('kube-system')] }), []);
});

test('a route to a host or subset that is not there is an Error with its name', () => {
  const services = [service('reviews', [{ name: 'http', port: 9080 }])];
  const vs = (destination: Record<string, unknown>) =>
    istio('VirtualService', 'reviews', { hosts: ['reviews'], http: [{ route: [{ destination }] }] });
  assert.deepEqual(lines({ services, virtualServices: [vs({ host: 'reviews', subset: 'v9' })] }), [
    'Error [IST0101] (VirtualService default/reviews) Referenced host+subset in destinationrule not found: "reviews+v9"',
  ]);
  assert.deepEqual(lines({ services, virtualServices: [vs({ host: 'nobody' })] }), [
    'Error [IST0101] (VirtualService default/reviews) Referenced host not found: "nobody"',
  ]);
  assert.deepEqual(lines({ services, virtualServices: [vs({ host: 'reviews' })] }), []);
});

test('gateways: missing, without pods, without the host', () => {
  const vs = istio('VirtualService', 'v', { hosts: ['a.io'], gateways: ['gw'], http: [] });
  assert.match(lines({ virtualServices: [vs] })[0]!, /IST0101.*Referenced gateway not found: "gw"/);
  const gw = istio('Gateway', 'gw', { selector: { istio: 'ingress' }, servers: [{ hosts: ['b.io'] }] });
  const found = lines({ virtualServices: [vs], gateways: [gw] });
  assert.match(found[0]!, /^Error \[IST0101\] \(Gateway.*Referenced selector not found: "istio=ingress"/);
  assert.match(found[1]!, /^Warning \[IST0132\]/);
});

test('port names, subsets without pods, selectors without workloads', () => {
  assert.match(lines({ services: [service('a', [{ name: 'web', port: 80 }])] })[0]!, /^Info \[IST0118\]/);
  const services = [service('a', [{ name: 'http-web', port: 80 }])];
  const dr = istio('DestinationRule', 'a', { host: 'a', subsets: [{ name: 'v2', labels: { version: 'v2' } }] });
  assert.match(
    lines({ services, destinationRules: [dr], pods: [pod('p', { app: 'a' })] })[0]!,
    /^Error \[IST0173\].*v2/,
  );
  const pa = istio('PeerAuthentication', 'x', { selector: { matchLabels: { app: 'none' } } });
  assert.match(lines({ peerAuthentications: [pa] })[0]!, /^Warning \[IST0127\].*app=none/);
});

test('scope keeps only one namespace, errors come first', () => {
  const found = analyze({ ...EMPTY, scope: 'other', namespaces: [namespace('default'), namespace('other')] });
  assert.deepEqual(
    found.map((m) => m.name),
    ['other'],
  );
});

test('a host of a ServiceEntry is a host of the mesh', () => {
  const serviceEntries = [istio('ServiceEntry', 'e', { hosts: ['db.example', '*.sites.example'] })];
  const rule = (host: string): IstioObject => istio('DestinationRule', 'd', { host });
  assert.match(lines({ destinationRules: [rule('db.example')] })[0]!, /IST0174/);
  assert.deepEqual(lines({ serviceEntries, destinationRules: [rule('db.example'), rule('a.sites.example')] }), []);
});
