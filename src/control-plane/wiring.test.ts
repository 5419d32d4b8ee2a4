// istiod as a whole over real gRPC and HTTPS, with a fake Kubernetes: both forms of the protocol, policy changes, refusals.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { request as httpsRequest } from 'node:https';
import { after, before, test } from 'node:test';
import { create, fromBinary } from '@bufbuild/protobuf';
import { Client, type ClientDuplexStream, credentials, Metadata, type ServiceError, status } from '@grpc/grpc-js';
import { ClusterSchema } from '#proto/envoy/config/cluster/v3/cluster_pb.js';
import { ClusterLoadAssignmentSchema } from '#proto/envoy/config/endpoint/v3/endpoint_pb.js';
import {
  type DeltaDiscoveryRequest,
  DeltaDiscoveryRequestSchema,
  type DeltaDiscoveryResponse,
  type DiscoveryRequest,
  DiscoveryRequestSchema,
  type DiscoveryResponse,
} from '#proto/envoy/service/discovery/v3/discovery_pb.js';
import { createFakeKube, type FakeKube } from '../../test/fakes/kube-client.ts';
import type { KubeObject, ResourceType } from '../base/kube/types.ts';
import { systemClock } from '../base/runtime/clock.ts';
import { silentLog } from '../base/runtime/log.ts';
import { TYPE_URL } from '../base/xds/type-urls.ts';
import { CONFIG_MAPS, ENDPOINT_SLICES, NAMESPACES, PODS, SERVICES } from './config/kinds.ts';
import { ADS_DEFINITION, DELTA_PATH, SOTW_PATH } from './serve/grpc.ts';
import { type Istiod, startIstiod } from './wiring.ts';

const PEER_AUTHENTICATIONS: ResourceType = {
  group: 'security.istio.io',
  version: 'v1',
  resource: 'peerauthentications',
  kind: 'PeerAuthentication',
  namespaced: true,
};

const object = (apiVersion: string, kind: string, namespace: string | undefined, name: string, rest: object = {}) =>
  ({
    apiVersion,
    kind,
    metadata: { name, ...(namespace ? { namespace } : {}), ...('metadata' in rest ? (rest.metadata as object) : {}) },
    ...Object.fromEntries(Object.entries(rest).filter(([k]) => k !== 'metadata')),
  }) as KubeObject;

function app(name: string, ip: string, port: number) {
  const labels = { app: name, 'security.istio.io/tlsMode': 'istio' };
  return [
    {
      type: SERVICES,
      object: object('v1', 'Service', 'istioinaction', name, {
        spec: {
          clusterIP: `10.96.0.${ip.split('.')[3]}`,
          selector: { app: name },
          ports: [{ name: 'http', port: 80, targetPort: port }],
        },
      }),
    },
    {
      type: PODS,
      object: object('v1', 'Pod', 'istioinaction', `${name}-1`, {
        metadata: { labels },
        spec: { serviceAccountName: name, containers: [{ name, ports: [{ containerPort: port }] }] },
        status: { phase: 'Running', podIP: ip },
      }),
    },
    {
      type: ENDPOINT_SLICES,
      object: object('discovery.k8s.io/v1', 'EndpointSlice', 'istioinaction', `${name}-x`, {
        metadata: { labels: { 'kubernetes.io/service-name': name } },
        addressType: 'IPv4',
        ports: [{ name: 'http', port }],
        endpoints: [{ addresses: [ip], conditions: { ready: true }, targetRef: { kind: 'Pod', name: `${name}-1` } }],
      }),
    },
  ];
}

let kube: FakeKube;
let istiod: Istiod;
const clients: Client[] = [];

before(async () => {
  kube = createFakeKube({
    objects: [
      { type: NAMESPACES, object: object('v1', 'Namespace', undefined, 'istio-system') },
      { type: NAMESPACES, object: object('v1', 'Namespace', undefined, 'istioinaction') },
      {
        type: CONFIG_MAPS,
        object: object('v1', 'ConfigMap', 'istio-system', 'istio', { data: { mesh: 'accessLogFile: /dev/stdout\n' } }),
      },
      ...app('catalog', '10.244.0.7', 3000),
      ...app('webapp', '10.244.0.8', 8080),
    ],
    onPost(_path, body) {
      const { token } = (body as { spec: { token: string } }).spec;
      const [namespace, account] = token.split('/');
      return {
        status: {
          authenticated: true,
          audiences: ['istio-ca'],
          user: { username: `system:serviceaccount:${namespace}:${account}`, groups: ['system:serviceaccounts'] },
        },
      };
    },
  });
  istiod = await startIstiod({
    client: kube,
    clock: systemClock,
    log: silentLog,
    random: Math.random,
    randomBytes,
    ports: { plaintext: 0, secure: 0, monitoring: 0, webhook: 0, http: 0, controlZ: 0 },
    host: '127.0.0.1',
    podName: 'istiod-1',
    namespace: 'istio-system',
    revision: 'default',
    clusterId: 'Kubernetes',
    domain: 'cluster.local',
    version: 'test',
    meshConfigMap: 'istio',
    injectorConfigMap: 'istio-sidecar-injector',
    debugOnHttp: true,
    debounceQuietMs: 5,
    debounceMaxMs: 100,
    pushThrottle: 10,
    nativeSidecars: false,
    environmentNames: [],
  });
});

after(async () => {
  for (const client of clients) client.close();
  await istiod.close();
});

/** Answers in order, and waits for those that are not there yet. */
function inbox<Q, T>(stream: ClientDuplexStream<Q, T>) {
  const messages: T[] = [];
  const waiting: ((message: T) => void)[] = [];
  stream.on('data', (message: T) => {
    const next = waiting.shift();
    if (next) next(message);
    else messages.push(message);
  });
  const failure = new Promise<ServiceError>((resolve) => stream.on('error', resolve));
  return {
    failure,
    pending: messages,
    next: (): Promise<T> => {
      const message = messages.shift();
      if (message) return Promise.resolve(message);
      const later = new Promise<T>((resolve) => waiting.push(resolve));
      return Promise.race([later, failure.then((error) => Promise.reject(error))]);
    },
  };
}

function open<Q, A>(path: string, method: 'StreamAggregatedResources' | 'DeltaAggregatedResources', token?: string) {
  const definition = ADS_DEFINITION[method];
  assert.ok(definition);
  const creds = token ? credentials.createSsl(Buffer.from(rootPem())) : credentials.createInsecure();
  const client = new Client(`127.0.0.1:${token ? istiod.ports.secure : istiod.ports.plaintext}`, creds, {
    'grpc.ssl_target_name_override': 'istiod.istio-system.svc',
  });
  clients.push(client);
  const metadata = new Metadata();
  if (token) metadata.set('authorization', `Bearer ${token}`);
  return client.makeBidiStreamRequest<Q, A>(
    path,
    definition.requestSerialize as (m: Q) => Buffer,
    definition.responseDeserialize as (b: Buffer) => A,
    metadata,
  );
}

function rootPem(): string {
  const map = kube.stored(CONFIG_MAPS).find((m) => m.metadata.name === 'istio-ca-root-cert') as unknown as {
    data: Record<string, string>;
  };
  return map.data['root-cert.pem'] ?? '';
}

const node = (app: string, ip: string, account = app) => ({
  id: `sidecar~${ip}~${app}-1.istioinaction~istioinaction.svc.cluster.local`,
  metadata: { NAMESPACE: 'istioinaction', SERVICE_ACCOUNT: account, LABELS: { app }, CLUSTER_ID: 'Kubernetes' },
});

const sotw = (init: object) => create(DiscoveryRequestSchema, init);
const delta = (init: object) => create(DeltaDiscoveryRequestSchema, init);
const names = (response: DiscoveryResponse): readonly string[] =>
  response.resources.map((r) =>
    response.typeUrl === TYPE_URL.cluster
      ? fromBinary(ClusterSchema, r.value).name
      : fromBinary(ClusterLoadAssignmentSchema, r.value).clusterName,
  );

test('a state-of-the-world client gets clusters, endpoints, and keeps its state after a NACK', async () => {
  const stream = open<DiscoveryRequest, DiscoveryResponse>(SOTW_PATH, 'StreamAggregatedResources');
  const box = inbox(stream);
  stream.write(sotw({ node: node('webapp', '10.244.0.8'), typeUrl: TYPE_URL.cluster }));
  const clusters = await box.next();
  const cluster = 'outbound|80||catalog.istioinaction.svc.cluster.local';
  assert.ok(names(clusters).includes(cluster));
  assert.ok(names(clusters).includes('inbound|8080||'));
  assert.ok(!names(clusters).includes('inbound|3000||'));
  assert.equal(clusters.controlPlane?.identifier, 'istiod-1');
  assert.match(clusters.versionInfo, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\/\d+$/);

  stream.write(sotw({ typeUrl: TYPE_URL.endpoint, resourceNames: [cluster] }));
  const endpoints = await box.next();
  assert.deepEqual(names(endpoints), [cluster]);
  const lb = fromBinary(ClusterLoadAssignmentSchema, endpoints.resources[0]?.value ?? new Uint8Array());
  assert.deepEqual(lb.endpoints[0]?.lbEndpoints[0]?.metadata?.filterMetadata['envoy.transport_socket_match'], {
    tlsMode: 'istio',
  });

  stream.write(
    sotw({
      typeUrl: TYPE_URL.endpoint,
      resourceNames: [cluster],
      responseNonce: endpoints.nonce,
      errorDetail: { code: 13, message: 'no thanks' },
    }),
  );
  // The NACK gets no answer: what comes next is the answer to the name asked for afterwards.
  stream.write(
    sotw({ typeUrl: TYPE_URL.endpoint, resourceNames: [cluster, 'outbound|1||gone'], responseNonce: endpoints.nonce }),
  );
  assert.deepEqual(names(await box.next()), ['outbound|1||gone']);
  stream.cancel();
  await box.failure;
});

test('a policy change reaches a delta client as one changed listener', async () => {
  const stream = open<DeltaDiscoveryRequest, DeltaDiscoveryResponse>(
    DELTA_PATH,
    'DeltaAggregatedResources',
    'istioinaction/catalog',
  );
  const box = inbox(stream);
  stream.write(delta({ node: node('catalog', '10.244.0.7'), typeUrl: TYPE_URL.cluster }));
  const clusters = await box.next();
  stream.write(delta({ typeUrl: TYPE_URL.cluster, responseNonce: clusters.nonce }));
  stream.write(delta({ typeUrl: TYPE_URL.listener }));
  const listeners = await box.next();
  assert.deepEqual(
    listeners.resources
      .map((r) => r.name)
      .filter((n) => n.startsWith('virtual') || n.startsWith('0.0.0.0'))
      .sort(),
    ['0.0.0.0_80', 'virtualInbound', 'virtualOutbound'],
  );
  stream.write(delta({ typeUrl: TYPE_URL.listener, responseNonce: listeners.nonce }));
  stream.write(delta({ typeUrl: TYPE_URL.route, resourceNamesSubscribe: ['80', 'nothing'] }));
  const routes = await box.next();
  assert.deepEqual(
    routes.resources.map((r) => r.name),
    ['80'],
  );
  assert.deepEqual(routes.removedResources, ['nothing']);

  const strict = object('security.istio.io/v1', 'PeerAuthentication', 'istio-system', 'default', {
    spec: { mtls: { mode: 'STRICT' } },
  });
  await kube.create(PEER_AUTHENTICATIONS, strict);
  const pushed = await box.next();
  assert.equal(pushed.typeUrl, TYPE_URL.listener);
  assert.deepEqual(
    pushed.resources.map((r) => r.name),
    ['virtualInbound'],
  );

  // A broken edit changes nothing; deleting it brings the old state back.
  await kube.patch(PEER_AUTHENTICATIONS, 'istio-system', 'default', 'merge', { spec: { mtls: { mode: 'NOPE' } } });
  await kube.delete(PEER_AUTHENTICATIONS, 'istio-system', 'default');
  const back = await box.next();
  assert.deepEqual(
    back.resources.map((r) => r.name),
    ['virtualInbound'],
  );
  const before = listeners.resources.find((r) => r.name === 'virtualInbound')?.version;
  assert.equal(back.resources[0]?.version, before);
  stream.cancel();
  await box.failure;
});

test('a caller that is not the proxy it says it is is refused', async () => {
  const stream = open<DiscoveryRequest, DiscoveryResponse>(
    SOTW_PATH,
    'StreamAggregatedResources',
    'istioinaction/webapp',
  );
  const box = inbox(stream);
  stream.write(sotw({ node: node('catalog', '10.244.0.7'), typeUrl: TYPE_URL.cluster }));
  const error = await box.failure;
  assert.equal(error.code, status.PERMISSION_DENIED);
  assert.match(error.details, /^authorization failed: /);
});

test('a stream without node information is refused', async () => {
  const stream = open<DiscoveryRequest, DiscoveryResponse>(SOTW_PATH, 'StreamAggregatedResources');
  const box = inbox(stream);
  stream.write(sotw({ typeUrl: TYPE_URL.cluster }));
  const error = await box.failure;
  assert.equal(error.code, status.INVALID_ARGUMENT);
  assert.equal(error.details, 'missing node information');
});

function review(path: string, request: object): Promise<{ response: Record<string, unknown> }> {
  return new Promise((resolve, reject) => {
    const call = httpsRequest(
      {
        host: '127.0.0.1',
        port: istiod.ports.webhook,
        path,
        method: 'POST',
        ca: rootPem(),
        servername: 'istiod.istio-system.svc',
      },
      async (response) => {
        const parts: Buffer[] = [];
        for await (const part of response) parts.push(part);
        resolve(JSON.parse(Buffer.concat(parts).toString()));
      },
    );
    call.on('error', reject);
    call.end(
      JSON.stringify({
        apiVersion: 'admission.k8s.io/v1',
        kind: 'AdmissionReview',
        request: { uid: 'u1', operation: 'CREATE', namespace: 'x', ...request },
      }),
    );
  });
}

test('the validation webhook refuses what is wrong and what is not supported', async () => {
  const kind = (group: string, name: string) => ({ group, version: 'v1', kind: name });
  const bad = await review('/validate', {
    kind: kind('security.istio.io', 'PeerAuthentication'),
    object: {
      apiVersion: 'security.istio.io/v1',
      kind: 'PeerAuthentication',
      metadata: {},
      spec: { portLevelMtls: { 80: { mode: 'STRICT' } } },
    },
  });
  assert.equal(bad.response.allowed, false);
  assert.match(
    (bad.response.status as { message: string }).message,
    /^configuration is invalid: mesh\/namespace peer authentication cannot have port level mTLS$/,
  );
  const deny = await review('/validate', {
    kind: kind('security.istio.io', 'AuthorizationPolicy'),
    object: { spec: { action: 'DENY' } },
  });
  assert.equal(
    (deny.response.status as { message: string }).message,
    'AuthorizationPolicy is not supported by this version of Meltemi',
  );
});

test('the HTTP ports answer: ready, metrics, version, debug', async () => {
  const get = async (port: number, path: string) => {
    const response = await fetch(`http://127.0.0.1:${port}${path}`);
    return { code: response.status, body: await response.text() };
  };
  assert.equal((await get(istiod.ports.http, '/ready')).code, 200);
  assert.match((await get(istiod.ports.monitoring, '/metrics')).body, /^pilot_xds_pushes\{type="cds"\} /m);
  assert.match((await get(istiod.ports.monitoring, '/version')).body, /test/);
  const registry = JSON.parse((await get(istiod.ports.http, '/debug/registryz')).body) as { hostname: string }[];
  assert.ok(registry.some((s) => s.hostname === 'catalog.istioinaction.svc.cluster.local'));
  const missing = await get(istiod.ports.http, '/debug/config_dump?proxyID=nobody.nowhere');
  assert.equal(missing.code, 404);
  assert.equal((await get(istiod.ports.controlZ, '/')).code, 200);
});
