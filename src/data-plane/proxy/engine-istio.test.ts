// Istio's filters between two engines, the metrics they make, and the admin interface that shows everything.
import assert from 'node:assert/strict';
import { before, type TestContext, test } from 'node:test';
import type { JsonObject } from '@bufbuild/protobuf';
import {
  type Answer,
  ask,
  bootstrap,
  type Ca,
  clientTls,
  commonTls,
  createCa,
  hcm,
  INSPECTORS,
  listener,
  ROUTER,
  routes,
  serverTls,
  startApp,
  startEngine,
  staticCluster,
  type TestEngine,
  tcpProxy,
  toCluster,
  typed,
} from './testing/engine.ts';

const CLIENT = 'spiffe://cluster.local/ns/foo/sa/sleep';
const SERVER = 'spiffe://cluster.local/ns/bar/sa/httpbin';
let ca: Ca;
before(async () => {
  ca = await createCa();
});

const node = (workload: string, namespace: string): JsonObject => ({
  id: `sidecar~10.0.0.1~${workload}-1.${namespace}~${namespace}.svc.cluster.local`,
  cluster: `${workload}.${namespace}`,
  metadata: {
    WORKLOAD_NAME: workload,
    NAMESPACE: namespace,
    CLUSTER_ID: 'Kubernetes',
    ISTIO_VERSION: '1.30.0',
    LABELS: {
      app: workload,
      version: 'v1',
      'service.istio.io/canonical-name': workload,
      'service.istio.io/canonical-revision': 'v1',
    },
  },
});
const stats = (extra: JsonObject = {}) => typed('istio.stats', 'stats.PluginConfig', extra);
const exchange = (config: JsonObject) => typed('istio.metadata_exchange', 'io.istio.http.peer_metadata.Config', config);
// As Istio asks for it: without it no decorator goes out.
const TRACING: JsonObject = { random_sampling: { value: 1 } };
const HEADERS = [{ istio_headers: {} }];
const ALPN = typed('istio.alpn', 'istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig', {
  alpn_override: [{ upstream_protocol: 'HTTP11', alpn_override: ['istio-http/1.1', 'istio', 'http/1.1'] }],
});
const ADMIN: JsonObject = { admin: { address: { socket_address: { address: '127.0.0.1', port_value: 0 } } } };

async function pair(t: TestContext) {
  const app = await startApp(t, 'app');
  const mesh = [{ prefix: 'spiffe://cluster.local/' }];
  const inbound = hcm(
    routes([{ ...toCluster('inbound'), decorator: { operation: 'httpbin.bar.svc.cluster.local:80/*' } }]),
    {
      server_name: 'istio-envoy',
      tracing: TRACING,
      http_filters: [
        exchange({ downstream_discovery: HEADERS, downstream_propagation: HEADERS }),
        stats({ disable_host_header_fallback: true }),
        ROUTER,
      ],
    },
  );
  const serverSocket = serverTls(
    commonTls(await ca.issue(SERVER), ca.pem, mesh, { alpn_protocols: ['h2', 'http/1.1'] }),
  );
  const chains: JsonObject[] = [
    {
      filter_chain_match: { transport_protocol: 'tls', application_protocols: ['istio-http/1.1'] },
      filters: [inbound],
      transport_socket: serverSocket,
    },
    { filter_chain_match: { transport_protocol: 'raw_buffer' }, filters: [inbound] },
  ];
  const service: JsonObject = {
    filter_metadata: {
      istio: { services: [{ host: 'httpbin.bar.svc.cluster.local', name: 'httpbin', namespace: 'bar' }] },
    },
  };
  const server = await startEngine(t, {
    node: node('httpbin', 'bar'),
    ...bootstrap(
      [listener('in', chains, { ...INSPECTORS, traffic_direction: 'INBOUND' })],
      [staticCluster('inbound', [app.port], { metadata: service })],
    ),
    ...ADMIN,
  });
  const outbound = hcm(
    routes([{ ...toCluster('up'), decorator: { operation: 'httpbin.bar.svc.cluster.local:80/*' } }]),
    {
      tracing: TRACING,
      http_filters: [exchange({ upstream_discovery: HEADERS, upstream_propagation: HEADERS }), ALPN, stats(), ROUTER],
    },
  );
  const clientSocket = clientTls(
    commonTls(await ca.issue(CLIENT), ca.pem, [{ exact: SERVER }], {
      alpn_protocols: ['istio-peer-exchange', 'istio'],
    }),
  );
  const client = await startEngine(t, {
    node: node('sleep', 'foo'),
    ...bootstrap(
      [
        listener('out', [{ filters: [outbound] }], { traffic_direction: 'OUTBOUND' }),
        listener('tcp', [{ filters: [stats(), tcpProxy('plain')] }], { traffic_direction: 'OUTBOUND' }),
      ],
      [
        staticCluster('up', [server.port('in')], { transport_socket: clientSocket, metadata: service }),
        staticCluster('plain', [app.port]),
      ],
    ),
    ...ADMIN,
  });
  return { app, server, client };
}

function admin(engine: TestEngine, page: string, method = 'GET'): Promise<Answer> {
  const address = engine.engine.adminAddress;
  assert.ok(address?.kind === 'ip');
  return ask(address.port, page, { method });
}

/** The labels of the one series of `name`. */
async function series(engine: TestEngine, name: string): Promise<{ labels: Record<string, string>; value: number }[]> {
  const { body } = await admin(engine, '/stats/prometheus');
  return body
    .split('\n')
    .filter((line) => line.startsWith(`${name}{`))
    .map((line) => ({
      labels: Object.fromEntries([...line.matchAll(/(\w+)="([^"]*)"/g)].map((match) => [match[1], match[2]])),
      value: Number(line.slice(line.lastIndexOf(' ') + 1)),
    }));
}

test('two sidecars learn who the other is, count the request from both sides, and tell the application nothing', async (t) => {
  const { app, server, client } = await pair(t);
  const answer = await ask(client.port('out'), '/', { method: 'POST', body: 'abc', headers: { host: 'httpbin.bar' } });
  assert.equal(answer.status, 200);
  assert.equal(answer.headers.server, 'envoy');
  for (const name of ['x-envoy-peer-metadata', 'x-envoy-peer-metadata-id', 'x-envoy-decorator-operation']) {
    assert.equal(app.seen[0]!.headers[name], undefined, name);
    assert.equal(answer.headers[name], undefined, name);
  }
  const [source] = await series(client, 'istio_requests_total');
  assert.deepEqual(source, {
    value: 1,
    labels: {
      reporter: 'source',
      source_workload: 'sleep',
      source_canonical_service: 'sleep',
      source_canonical_revision: 'v1',
      source_workload_namespace: 'foo',
      source_principal: CLIENT,
      source_app: 'sleep',
      source_version: 'v1',
      source_cluster: 'Kubernetes',
      destination_workload: 'httpbin',
      destination_workload_namespace: 'bar',
      destination_principal: SERVER,
      destination_app: 'httpbin',
      destination_version: 'v1',
      destination_service: 'httpbin.bar.svc.cluster.local',
      destination_canonical_service: 'httpbin',
      destination_canonical_revision: 'v1',
      destination_service_name: 'httpbin',
      destination_service_namespace: 'bar',
      destination_cluster: 'Kubernetes',
      request_protocol: 'http',
      response_code: '200',
      response_flags: '-',
      connection_security_policy: 'unknown',
    },
  });
  const [destination] = await series(server, 'istio_requests_total');
  assert.deepEqual(
    { ...destination?.labels },
    { ...source.labels, reporter: 'destination', connection_security_policy: 'mutual_tls' },
  );
  const [bytes] = await series(server, 'istio_request_bytes_count');
  assert.equal(bytes?.value, 1);
  assert.match((await admin(server, '/stats/prometheus')).body, /istio_build\{component="proxy",tag="1\.30\.0"\} 1/);
});

test('a caller outside the mesh is counted as unknown and without mTLS', async (t) => {
  const { server } = await pair(t);
  const answer = await ask(server.port('in'));
  assert.equal(answer.headers.server, 'istio-envoy');
  assert.equal(answer.headers['x-envoy-decorator-operation'], 'httpbin.bar.svc.cluster.local:80/*');
  const [point] = await series(server, 'istio_requests_total');
  assert.equal(point?.labels.source_workload, 'unknown');
  assert.equal(point?.labels.source_principal, 'unknown');
  assert.equal(point?.labels.connection_security_policy, 'none');
});

test('TCP connections are counted when they close', async (t) => {
  const { client } = await pair(t);
  await ask(client.port('tcp'), '/', { headers: { connection: 'close' } });
  const [opened] = await series(client, 'istio_tcp_connections_opened_total');
  assert.deepEqual([opened?.value, opened?.labels.request_protocol, opened?.labels.reporter], [1, 'tcp', 'source']);
  const [sent] = await series(client, 'istio_tcp_sent_bytes_total');
  assert.ok((sent?.value ?? 0) > 50);
});

test('the admin interface: pages, refusals, and no private key anywhere', async (t) => {
  const { server, client } = await pair(t);
  await ask(client.port('out'));
  assert.deepEqual((await admin(server, '/ready')).body, 'LIVE\n');
  assert.match((await admin(server, '/')).body, /<table>/);
  const help = await admin(server, '/help');
  assert.match(help.body, /^admin commands are:\n {2}\/: Admin home page\n/);
  const wrong = await admin(server, '/quitquitquit');
  assert.deepEqual([wrong.status, wrong.body], [405, 'Method GET not allowed, POST required.']);
  assert.equal((await admin(server, '/nope')).status, 404);
  const info = JSON.parse((await admin(server, '/server_info')).body) as JsonObject;
  assert.deepEqual([info.state, (info.node as JsonObject).cluster], ['LIVE', 'httpbin.bar']);
  assert.match((await admin(server, '/listeners')).body, /^in::127\.0\.0\.1:\d+\n$/);
  assert.match((await admin(client, '/clusters')).body, /up::127\.0\.0\.1:\d+::cx_active::1\n/);
  const clusters = JSON.parse((await admin(client, '/clusters?format=json')).body) as {
    cluster_statuses: { name: string }[];
  };
  assert.deepEqual(
    clusters.cluster_statuses.map((cluster) => cluster.name),
    ['up', 'plain'],
  );
  const dump = await admin(server, '/config_dump?include_eds');
  assert.doesNotMatch(dump.body, /PRIVATE KEY/);
  assert.match(dump.body, /"private_key": \{\s+"inline_string": "\[redacted\]"/);
  const types = (JSON.parse(dump.body) as { configs: { '@type': string }[] }).configs.map((entry) =>
    entry['@type'].split('.').pop(),
  );
  assert.deepEqual(types, [
    'BootstrapConfigDump',
    'ClustersConfigDump',
    'EndpointsConfigDump',
    'ListenersConfigDump',
    'ScopedRoutesConfigDump',
    'RoutesConfigDump',
    'SecretsConfigDump',
  ]);
  assert.match((await admin(server, '/config_dump?resource=static_listeners')).body, /"name": "in"/);
  assert.doesNotMatch(
    (await admin(client, '/config_dump?name_regex=pl.*&resource=static_clusters')).body,
    /"name": "up"/,
  );
  const certs = JSON.parse((await admin(server, '/certs')).body) as {
    certificates: { cert_chain: { subject_alt_names: JsonObject[] }[] }[];
  };
  assert.deepEqual(certs.certificates[0]?.cert_chain[0]?.subject_alt_names, [{ uri: SERVER }]);
  assert.match((await admin(server, '/stats?filter=^server\\.')).body, /^server\.concurrency: 1\n/);
  assert.equal((await admin(server, '/stats?filter=(')).status, 400);
  assert.match(
    (await admin(server, '/stats?usedonly&format=json')).body,
    /"name":"http\.test\.downstream_rq_total","value":1/,
  );
  assert.equal((await admin(server, '/logging?level=debug', 'POST')).status, 200);
  assert.equal((await admin(server, '/healthcheck/fail', 'POST')).body, 'OK\n');
  assert.deepEqual(
    [(await admin(server, '/ready')).status, (await ask(server.port('in'))).headers.connection],
    [503, 'close'],
  );
});

test('gracefully drained, answers close their connections; drained at once, nobody is let in', async (t) => {
  const { server } = await pair(t);
  const port = server.port('in');
  assert.equal((await admin(server, '/drain_listeners?inboundonly&graceful', 'POST')).body, 'OK\n');
  assert.equal((await ask(port)).headers.connection, 'close');
  await admin(server, '/drain_listeners', 'POST');
  await assert.rejects(ask(port), { code: 'ECONNREFUSED' });
});
