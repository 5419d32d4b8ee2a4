// What stands behind a Service: the pure plan, and the controller on the fake API server.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startFakeCluster } from '../../../test/fakes/cluster.ts';
import { ENDPOINT_SLICES, type EndpointSlice } from '../../api/kubernetes/endpoint-slice.ts';
import { ENDPOINTS, type Endpoints } from '../../api/kubernetes/endpoints.ts';
import { PODS, type Pod } from '../../api/kubernetes/pod.ts';
import { SERVICES, type Service } from '../../api/kubernetes/service.ts';
import { desiredEndpoints, desiredSlices } from './endpoints-plan.ts';

const service = (spec: Partial<Service['spec']> = {}): Service => ({
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { name: 'web', namespace: 'foo', uid: 's', labels: { team: 'a' } },
  spec: { selector: { app: 'web' }, ports: [{ name: 'http', port: 80, targetPort: 'main' }], ...spec },
});
const pod = (
  name: string,
  ip: string,
  more: { ready?: boolean; port?: number; deleted?: boolean; phase?: 'Failed' } = {},
): Pod => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: {
    name,
    namespace: 'foo',
    uid: `uid-${name}`,
    labels: { app: 'web' },
    ...(more.deleted ? { deletionTimestamp: '2030-01-01T00:00:00Z' } : {}),
  },
  spec: {
    nodeName: 'n',
    hostname: name,
    subdomain: 'web',
    containers: [{ name: 'c', ports: [{ name: 'main', containerPort: more.port ?? 8080 }] }],
  },
  status: {
    podIP: ip,
    phase: more.phase ?? 'Running',
    conditions: [{ type: 'Ready', status: more.ready === false ? 'False' : 'True' }],
  },
});
const slicesOf = (s: Service, pods: readonly Pod[]): readonly EndpointSlice[] => desiredSlices(s, pods, () => 'zone-1');

test('ready, serving and terminating follow the pod', () => {
  const pods = [
    pod('a', '10.0.0.1'),
    pod('b', '10.0.0.2', { ready: false }),
    pod('c', '10.0.0.3', { deleted: true }),
    pod('d', '10.0.0.4', { phase: 'Failed' }),
  ];
  const [slice] = slicesOf(service(), pods);
  assert.deepEqual(slice!.ports, [{ name: 'http', port: 8080, protocol: 'TCP' }]);
  assert.deepEqual(
    slice!.endpoints.map((e) => [e.addresses[0], e.conditions]),
    [
      ['10.0.0.1', { ready: true, serving: true, terminating: false }],
      ['10.0.0.2', { ready: false, serving: false, terminating: false }],
      ['10.0.0.3', { ready: false, serving: true, terminating: true }],
    ],
  );
  const [first] = slice!.endpoints;
  assert.deepEqual(first!.targetRef, { kind: 'Pod', namespace: 'foo', name: 'a', uid: 'uid-a' });
  assert.equal(first!.nodeName, 'n');
  assert.equal(first!.zone, 'zone-1');
  assert.equal(first!.hostname, 'a');
  assert.equal(slice!.metadata.labels?.team, 'a');
  const all = slicesOf(service({ publishNotReadyAddresses: true }), pods)[0]!;
  assert.ok(all.endpoints.every((e) => e.conditions?.ready));
});

test('pods that name a port differently get slices of their own', () => {
  const slices = slicesOf(service(), [
    pod('a', '10.0.0.1'),
    pod('b', '10.0.0.2', { port: 9090 }),
    pod('c', '10.0.0.3'),
  ]);
  assert.deepEqual(
    slices.map((s) => [s.ports?.[0]?.port, s.endpoints.length]),
    [
      [8080, 2],
      [9090, 1],
    ],
  );
  assert.equal(new Set(slices.map((s) => s.metadata.name)).size, 2);
  const other = slicesOf(service({ ports: [{ port: 80, targetPort: 'nosuch' }] }), [pod('a', '10.0.0.1')]);
  assert.deepEqual(other[0]!.endpoints, []);
});

test('many pods are spread over slices, and the older kind lists the same', () => {
  const pods = Array.from({ length: 250 }, (_, i) => pod(`p${String(i).padStart(3, '0')}`, `10.0.1.${i}`));
  const slices = slicesOf(service(), pods);
  assert.deepEqual(
    slices.map((s) => s.endpoints.length),
    [100, 100, 50],
  );
  assert.equal(desiredEndpoints(service(), pods).subsets?.[0]?.addresses?.length, 250);
});

test('a headless service without ports lists addresses, and a service without pods has one empty slice', () => {
  const headless = service({ clusterIP: 'None', ports: undefined });
  const [slice] = slicesOf(headless, [pod('a', '10.0.0.1')]);
  assert.equal(slice!.endpoints.length, 1);
  assert.equal(slice!.metadata.labels?.['service.kubernetes.io/headless'], '');
  assert.deepEqual(
    slicesOf(service(), []).map((s) => s.endpoints),
    [[]],
  );
});

test('the controller follows pods, repairs slices, and cleans up', async () => {
  const cluster = await startFakeCluster();
  try {
    await cluster.kube.create(SERVICES, service());
    await cluster.kube.create(PODS, { ...pod('a', ''), status: undefined });
    const ready = (): number =>
      cluster
        .stored<EndpointSlice>(ENDPOINT_SLICES)
        .flatMap((s) => s.endpoints)
        .filter((e) => e.conditions?.ready).length;
    const listed = (): number => cluster.stored<Endpoints>(ENDPOINTS)[0]?.subsets?.[0]?.addresses?.length ?? 0;
    await cluster.until('one endpoint', () => ready() === 1 && listed() === 1);
    await cluster.until('no empty slice is left', () => cluster.stored(ENDPOINT_SLICES).length === 1);
    const [slice] = cluster.stored<EndpointSlice>(ENDPOINT_SLICES);
    await cluster.kube.delete(ENDPOINT_SLICES, 'foo', slice!.metadata.name);
    await cluster.until(
      'repaired',
      () => ready() === 1 && cluster.stored<EndpointSlice>(ENDPOINT_SLICES)[0]?.metadata.uid !== slice!.metadata.uid,
    );
    await cluster.kube.delete(PODS, 'foo', 'a');
    await cluster.until('none ready', () => ready() === 0 && listed() === 0);
    await cluster.kube.delete(SERVICES, 'foo', 'web');
    await cluster.until(
      'gone',
      () => cluster.stored(ENDPOINT_SLICES).length === 0 && cluster.stored(ENDPOINTS).length === 0,
    );
  } finally {
    cluster.close();
  }
});

test('Endpoints written by hand for a service without selector become slices, and go with them', async () => {
  const cluster = await startFakeCluster();
  try {
    await cluster.kube.create(SERVICES, service({ selector: undefined }));
    const endpoints: Endpoints = {
      apiVersion: 'v1',
      kind: 'Endpoints',
      metadata: { name: 'web', namespace: 'foo' },
      subsets: [{ addresses: [{ ip: '192.0.2.1' }, { ip: 'fd00::1' }], ports: [{ name: 'http', port: 80 }] }],
    };
    await cluster.kube.create(ENDPOINTS, endpoints);
    const slices = (): readonly EndpointSlice[] => cluster.stored<EndpointSlice>(ENDPOINT_SLICES);
    await cluster.until('mirrored', () => slices().length === 2);
    assert.deepEqual(
      slices().map((s) => [
        s.addressType,
        s.endpoints[0]!.addresses,
        s.ports?.[0]?.port,
        s.metadata.labels?.['kubernetes.io/service-name'],
      ]),
      [
        ['IPv4', ['192.0.2.1'], 80, 'web'],
        ['IPv6', ['fd00::1'], 80, 'web'],
      ],
    );
    await cluster.kube.patch(ENDPOINTS, 'foo', 'web', 'merge', {
      subsets: [{ addresses: [{ ip: '192.0.2.2' }], ports: [{ port: 81 }] }],
    });
    await cluster.until(
      'followed',
      () => slices().length === 1 && slices()[0]!.endpoints[0]!.addresses[0] === '192.0.2.2',
    );
    await cluster.kube.delete(ENDPOINTS, 'foo', 'web');
    await cluster.until('gone', () => slices().length === 0);
  } finally {
    cluster.close();
  }
});
