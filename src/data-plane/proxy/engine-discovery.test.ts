// Where configuration can come from: state of the world and incremental, ADS and streams of one type, files; runtime layers,
// times to live, and what the control plane is told.
import assert from 'node:assert/strict';
import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import type { JsonObject } from '@bufbuild/protobuf';
import { ServerCredentials } from '@grpc/grpc-js';
import { type ControlPlane, startControlPlane } from './testing/control-plane.ts';
import { discoveryCluster } from './testing/discovery.ts';
import {
  ask,
  clientTls,
  commonTls,
  createCa,
  hcm,
  listener,
  routes,
  socketAddress,
  startApp,
  startEngine,
  staticCluster,
  T,
  toCluster,
  until,
} from './testing/engine.ts';
import { ECDS } from './xds/kinds.ts';

/** A port where nobody listens. */
async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}

type Api = 'GRPC' | 'DELTA_GRPC';
const APIS: readonly Api[] = ['GRPC', 'DELTA_GRPC'];

const api = (type: Api, extra: JsonObject = {}): JsonObject => ({
  api_type: type,
  transport_api_version: 'V3',
  grpc_services: [{ envoy_grpc: { cluster_name: 'xds' } }],
  ...extra,
});
const own = (type: Api, extra: JsonObject = {}): JsonObject => ({
  api_config_source: api(type, extra),
  initial_fetch_timeout: '0s',
  resource_api_version: 'V3',
});
const ADS: JsonObject = { ads: {}, initial_fetch_timeout: '0s', resource_api_version: 'V3' };

const edsCluster = (name: string, source: JsonObject): JsonObject => ({
  name,
  type: 'EDS',
  connect_timeout: '1s',
  eds_cluster_config: { eds_config: source },
});
const assignment = (name: string, port: number): JsonObject => ({
  cluster_name: name,
  endpoints: [{ lb_endpoints: [{ endpoint: { address: socketAddress(port) } }] }],
});
function byRds(name: string, source: JsonObject): JsonObject {
  const { route_config: _none, ...rest } = (hcm({}) as { typed_config: JsonObject }).typed_config;
  const rds = { route_config_name: name, config_source: source };
  return { name: 'envoy.filters.network.http_connection_manager', typed_config: { ...rest, rds } };
}
const table = (name: string, cluster: string): JsonObject => ({ ...routes([toCluster(cluster)]), name });

function bootstrapFor(plane: ControlPlane, source: JsonObject, extra: JsonObject = {}, ads?: JsonObject): JsonObject {
  return {
    node: { id: 'n', cluster: 'c' },
    dynamic_resources: { lds_config: source, cds_config: source, ...(ads ? { ads_config: ads } : {}) },
    static_resources: { clusters: [discoveryCluster('xds', socketAddress(plane.port))] },
    ...extra,
  };
}

function fill(plane: ControlPlane, source: JsonObject, port: number): void {
  plane.set('cds', 'app', edsCluster('app', source));
  plane.set('eds', 'app', assignment('app', port));
  plane.set('lds', 'in', listener('in', [{ filters: [byRds('80', source)] }]));
  plane.set('rds', '80', table('80', 'app'));
}

for (const type of APIS) {
  test(`${type}: everything comes through ADS`, async (t) => {
    const plane = await startControlPlane(t);
    const [one, two] = [await startApp(t, 'one'), await startApp(t, 'two')];
    fill(plane, ADS, one.port);
    const engine = await startEngine(t, bootstrapFor(plane, ADS, {}, api(type)));
    assert.equal((await ask(engine.port('in'))).body, 'one');
    assert.equal(plane.opened.count, 1);
    // Without set_node_on_first_message_only every request says who asks.
    assert.ok(plane.seen.every((request) => request.hasNode));
    plane.set('eds', 'app', assignment('app', two.port));
    await until(() => engine.counter('cluster.app.update_success') === 2, 'the second answer');
    assert.equal((await ask(engine.port('in'))).body, 'two');
    assert.equal(engine.counter('http.test.rds.80.update_success'), 1);
    assert.equal(engine.counter('control_plane.connected_state'), 1);
  });

  test(`${type}: each type has a stream of its own`, async (t) => {
    const plane = await startControlPlane(t);
    const app = await startApp(t, 'app');
    const source = own(type, { set_node_on_first_message_only: true });
    fill(plane, source, app.port);
    const engine = await startEngine(t, bootstrapFor(plane, source));
    assert.equal((await ask(engine.port('in'))).body, 'app');
    const what = type === 'GRPC' ? 'Stream' : 'Delta';
    assert.deepEqual(
      [...new Set(plane.seen.map((request) => request.method.split('/')[2]))].sort(),
      ['Clusters', 'Endpoints', 'Listeners', 'Routes'].map((name) => what + name),
    );
    assert.equal(plane.seen.filter((request) => request.hasNode).length, plane.opened.count);
  });

  test(`${type}: a removed resource goes, a bad one is refused with its reason and the old one stays`, async (t) => {
    const plane = await startControlPlane(t);
    const app = await startApp(t, 'app');
    fill(plane, ADS, app.port);
    plane.set('cds', 'other', staticCluster('other', [app.port]));
    const engine = await startEngine(t, bootstrapFor(plane, ADS, {}, api(type)));
    plane.remove('cds', 'other');
    await until(() => engine.engine.clusters.find('other') === undefined, 'the cluster is gone');
    plane.set('rds', '80', { name: '80', virtual_hosts: [{ name: 'v', domains: ['*'], routes: [{ match: {} }] }] });
    await until(() => plane.seen.some((request) => request.error !== undefined), 'a NACK');
    const nack = plane.seen.find((request) => request.error !== undefined)!;
    assert.match(nack.error!, /RouteMatchValidationError|path_specifier/);
    assert.equal(engine.counter('http.test.rds.80.update_rejected'), 1);
    assert.equal((await ask(engine.port('in'))).body, 'app');
  });

  test(`${type}: a resource with a time to live goes when nobody confirms it`, async (t) => {
    const plane = await startControlPlane(t);
    const app = await startApp(t, 'app');
    fill(plane, ADS, app.port);
    plane.set('cds', 'short', staticCluster('short', [app.port]), { ttlMs: 300 });
    const engine = await startEngine(t, bootstrapFor(plane, ADS, {}, api(type)));
    assert.ok(engine.engine.clusters.find('short'));
    // A heartbeat lists only what it keeps alive: nothing else may go by it.
    plane.heartbeat('cds', 'short', 100);
    await until(() => engine.engine.clusters.find('short') === undefined, 'the cluster is gone');
    assert.ok(engine.engine.clusters.find('app'), 'others stay');
    assert.equal((await ask(engine.port('in'))).body, 'app');
  });

  test(`${type}: after a lost stream what is held is told again and stays in use`, async (t) => {
    const plane = await startControlPlane(t);
    const app = await startApp(t, 'app');
    fill(plane, ADS, app.port);
    const fast = api(type, {
      grpc_services: [
        {
          envoy_grpc: {
            cluster_name: 'xds',
            retry_policy: { retry_back_off: { base_interval: '0.02s', max_interval: '0.1s' } },
          },
        },
      ],
    });
    const engine = await startEngine(t, bootstrapFor(plane, ADS, {}, fast));
    plane.cut();
    await until(() => plane.opened.count === 2, 'the client comes back');
    assert.equal((await ask(engine.port('in'))).body, 'app');
    plane.set('rds', '80', table('80', 'nowhere'));
    await until(() => engine.counter('http.test.rds.80.update_success') >= 2, 'the new table');
    assert.equal((await ask(engine.port('in'))).status, 503);
  });
}

test('runtime layers come by RTDS before clusters, and change what they steer', async (t) => {
  const plane = await startControlPlane(t);
  const app = await startApp(t, 'app');
  const source = own('DELTA_GRPC');
  const layered: JsonObject = {
    layered_runtime: {
      layers: [
        { name: 'base', static_layer: { 'routing.canary': 0 } },
        { name: 'live', rtds_layer: { name: 'steering', rtds_config: source } },
      ],
    },
  };
  plane.set('cds', 'app', staticCluster('app', [app.port]));
  const canary = {
    match: { prefix: '/', runtime_fraction: { default_value: { numerator: 0 }, runtime_key: 'routing.canary' } },
    direct_response: { status: 418 },
  };
  plane.set('lds', 'in', listener('in', [{ filters: [hcm(routes([canary, toCluster('app')]))] }]));
  const engine = await startEngine(t, bootstrapFor(plane, source, layered), false);
  await until(() => plane.seen.some((request) => request.names.includes('steering')), 'RTDS is asked');
  assert.ok(!plane.seen.some((request) => request.typeUrl.endsWith('Cluster')), 'clusters wait for the runtime');
  plane.set('rtds', 'steering', { name: 'steering', layer: {} });
  await engine.engine.whenLive();
  assert.equal((await ask(engine.port('in'))).status, 200);
  plane.set('rtds', 'steering', { name: 'steering', layer: { 'routing.canary': 100 } });
  await until(() => engine.counter('runtime.steering.update_success') === 2, 'the new layer');
  assert.equal((await ask(engine.port('in'))).status, 418);
});

// --- files

function folder(t: TestContext): string {
  const made = mkdtempSync(path.join(tmpdir(), 'meltemi-xds-'));
  t.after(() => rmSync(made, { recursive: true, force: true }));
  return made;
}

/** Moved into place, as Envoy's users are told to. */
function put(file: string, text: string): void {
  writeFileSync(`${file}.new`, text);
  renameSync(`${file}.new`, file);
}

const any = (type: string, json: JsonObject): JsonObject => ({ '@type': T + type, ...json });

test('files: clusters, listeners, routes and endpoints; what is moved into place takes effect, nonsense does not', async (t) => {
  const home = folder(t);
  const [one, two] = [await startApp(t, 'one'), await startApp(t, 'two')];
  const at = (name: string): string => path.join(home, name);
  const from = (name: string): JsonObject => ({ path_config_source: { path: at(name) }, resource_api_version: 'V3' });
  const write = (name: string, version: string, resources: readonly JsonObject[]): void =>
    put(at(name), JSON.stringify({ version_info: version, resources: [...resources] }));
  const CLUSTER = 'envoy.config.cluster.v3.Cluster';
  const ENDPOINTS = 'envoy.config.endpoint.v3.ClusterLoadAssignment';
  const ROUTES = 'envoy.config.route.v3.RouteConfiguration';
  write('cds.json', '1', [any(CLUSTER, edsCluster('app', from('eds.json')))]);
  write('eds.json', '1', [any(ENDPOINTS, assignment('app', one.port))]);
  write('lds.json', '1', [
    any('envoy.config.listener.v3.Listener', listener('in', [{ filters: [byRds('80', from('rds.yaml'))] }])),
  ]);
  put(
    at('rds.yaml'),
    [
      'version_info: "7"',
      'resources:',
      `- "@type": ${T}${ROUTES}`,
      '  name: "80"',
      '  virtual_hosts: [{name: v, domains: ["*"], routes: [{match: {prefix: /}, route: {cluster: app}}]}]',
    ].join('\n'),
  );
  const engine = await startEngine(t, {
    node: { id: 'n', cluster: 'c' },
    dynamic_resources: { lds_config: from('lds.json'), cds_config: from('cds.json') },
  });
  assert.equal((await ask(engine.port('in'))).body, 'one');
  assert.equal(engine.engine.stats.texts.get('http.test.rds.80.version_text'), '7');
  write('eds.json', '2', [any(ENDPOINTS, assignment('app', two.port))]);
  await until(() => engine.counter('cluster.app.update_success') === 2, 'the new endpoints');
  assert.equal((await ask(engine.port('in'))).body, 'two');
  put(at('eds.json'), '{ this is no JSON');
  await until(() => engine.counter('cluster.app.update_failure') === 1, 'the broken file is noticed');
  write('rds.yaml', '8', []);
  write('cds.json', '3', [any(CLUSTER, { ...staticCluster('app', [one.port]), no_such_field: 1 } as JsonObject)]);
  await until(() => engine.counter('cluster_manager.cds.update_failure') === 1, 'the unknown field is noticed');
  assert.equal((await ask(engine.port('in'))).body, 'two');
});

test('what cannot be used is refused by name and path', async (t) => {
  const plane = await startControlPlane(t);
  const cases: readonly (readonly [JsonObject, RegExp])[] = [
    [{ self: {} }, /^dynamic_resources\.cds_config\.self: field of .*ConfigSource is not supported/],
    [ADS, /dynamic_resources\.cds_config: dynamic_resources\.ads_config is required by `ads`/],
    [
      { api_config_source: { api_type: 'REST', cluster_names: ['xds'] } },
      /cds_config\.api_config_source\.cluster_names: field of .*ApiConfigSource is not supported/,
    ],
    [
      { api_config_source: api('GRPC', { grpc_services: [{ google_grpc: { target_uri: 'x', stat_prefix: 's' } }] }) },
      /grpc_services\[0\]/,
    ],
  ];
  for (const [source, message] of cases)
    await assert.rejects(startEngine(t, bootstrapFor(plane, source)), { message }, JSON.stringify(source));
});

// --- ECDS

const FAULT = 'envoy.extensions.filters.http.fault.v3.HTTPFault';
const abort = (status: number): JsonObject => ({
  '@type': T + FAULT,
  abort: { http_status: status, percentage: { numerator: 100 } },
});

function discovered(name: string, source: JsonObject, extra: JsonObject = {}): JsonObject {
  return { name, config_discovery: { config_source: source, type_urls: [T + FAULT], ...extra } };
}

function chainWith(filter: JsonObject): JsonObject {
  const { http_filters: filters, ...rest } = (hcm(routes([toCluster('app')])) as { typed_config: JsonObject })
    .typed_config as { http_filters: JsonObject[] } & JsonObject;
  return {
    name: 'envoy.filters.network.http_connection_manager',
    typed_config: { ...rest, http_filters: [filter, ...filters] },
  };
}

test('ECDS: the listener waits for the filter, takes new ones while it runs, and refuses others', async (t) => {
  const plane = await startControlPlane(t);
  const app = await startApp(t, 'app');
  const source = own('DELTA_GRPC');
  plane.set('cds', 'app', staticCluster('app', [app.port]));
  plane.set('lds', 'in', listener('in', [{ filters: [chainWith(discovered('chaos', source))] }]));
  const engine = await startEngine(t, bootstrapFor(plane, source), false);
  await until(() => plane.seen.some((request) => request.names.includes('chaos')), 'ECDS is asked');
  assert.equal(engine.engine.state, 'INITIALIZING');
  const config = (status: number): JsonObject => ({ name: 'chaos', typed_config: abort(status) });
  plane.set('ecds', 'chaos', config(418));
  await engine.engine.whenLive();
  assert.equal((await ask(engine.port('in'))).status, 418);
  plane.set('ecds', 'chaos', config(503));
  const counted = 'extension_config_discovery.http_filter.chaos.update_success';
  await until(() => engine.counter(counted) === 2, 'the new filter');
  assert.equal((await ask(engine.port('in'))).status, 503);
  plane.set('ecds', 'chaos', {
    name: 'chaos',
    typed_config: { '@type': `${T}envoy.extensions.filters.http.router.v3.Router` },
  });
  await until(() => plane.seen.some((request) => request.error !== undefined), 'a NACK');
  assert.match(
    plane.seen.find((request) => request.error !== undefined)!.error!,
    /^Error: filter config has type URL envoy\.extensions\.filters\.http\.router\.v3\.Router but expect .*HTTPFault/,
  );
  assert.equal((await ask(engine.port('in'))).status, 503, 'the last good one stays');
  plane.remove('ecds', 'chaos');
  await until(() => engine.engine.hub.book(ECDS).get('chaos') === undefined, 'it is gone');
  assert.equal((await ask(engine.port('in'))).status, 500, 'a place without a filter answers 500');
});

test('ECDS: a default serves at once where it may, and after the wait where nothing comes', async (t) => {
  const plane = await startControlPlane(t);
  const source = own('GRPC');
  const fallback = { default_config: abort(418) };
  plane.set(
    'lds',
    'eager',
    listener('eager', [
      { filters: [chainWith(discovered('x', source, { ...fallback, apply_default_config_without_warming: true }))] },
    ]),
  );
  const impatient = { ...source, initial_fetch_timeout: '0.05s' };
  plane.set('lds', 'late', listener('late', [{ filters: [chainWith(discovered('y', impatient, fallback))] }]));
  const engine = await startEngine(t, bootstrapFor(plane, source));
  assert.equal((await ask(engine.port('eager'))).status, 418);
  assert.equal((await ask(engine.port('late'))).status, 418);
  assert.equal(engine.counter('extension_config_discovery.http_filter.y.init_fetch_timeout'), 1);
});

// --- the discovery cluster is a cluster like any other

test('the control plane is reached by TLS with a checked name, and the next server is asked when one is gone', async (t) => {
  const ca = await createCa();
  const server = await ca.issue('spiffe://cluster.local/ns/istio-system/sa/istiod');
  const credentials = ServerCredentials.createSsl(null, [
    { private_key: Buffer.from(server.key), cert_chain: Buffer.from(server.certificate) },
  ]);
  const plane = await startControlPlane(t, credentials);
  plane.set('cds', 'app', staticCluster('app', [1]));
  const gone = await freePort();
  const cluster = (san: string): JsonObject => {
    const one = discoveryCluster('xds', socketAddress(plane.port));
    return {
      ...one,
      connect_timeout: '0.5s',
      transport_socket: clientTls(commonTls(undefined, ca.pem, [{ exact: san }])),
      load_assignment: {
        cluster_name: 'xds',
        endpoints: [
          { lb_endpoints: [gone, plane.port].map((port) => ({ endpoint: { address: socketAddress(port) } })) },
        ],
      },
    };
  };
  const fast = api('DELTA_GRPC', {
    grpc_services: [
      {
        envoy_grpc: {
          cluster_name: 'xds',
          retry_policy: { retry_back_off: { base_interval: '0.01s', max_interval: '0.02s' } },
        },
      },
    ],
  });
  const config = (san: string): JsonObject => ({
    node: { id: 'n', cluster: 'c' },
    dynamic_resources: { cds_config: ADS, ads_config: fast },
    static_resources: { clusters: [cluster(san)] },
  });
  const engine = await startEngine(t, config('spiffe://cluster.local/ns/istio-system/sa/istiod'));
  assert.ok(engine.engine.clusters.find('app'));
  const before = plane.opened.count;
  const stranger = await startEngine(t, config('spiffe://cluster.local/ns/istio-system/sa/other'), false);
  await until(() => stranger.counter('cluster.xds.ssl.fail_verify_san') >= 2, 'the wrong name is noticed');
  assert.equal(plane.opened.count, before, 'nothing is said to a server with another name');
});
