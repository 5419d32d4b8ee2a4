// Network and listener filters that are discovered (ECDS): they are waited for, change for new connections only, and nobody
// is let in while one is missing. HTTP filters: engine-discovery.test.ts.
import assert from 'node:assert/strict';
import { Agent } from 'node:http';
import { test } from 'node:test';
import type { JsonObject } from '@bufbuild/protobuf';
import { type ControlPlane, startControlPlane } from './testing/control-plane.ts';
import { discoveryCluster } from './testing/discovery.ts';
import {
  ask,
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

const own = (type: 'GRPC' | 'DELTA_GRPC'): JsonObject => ({
  api_config_source: {
    api_type: type,
    transport_api_version: 'V3',
    grpc_services: [{ envoy_grpc: { cluster_name: 'xds' } }],
  },
  initial_fetch_timeout: '0s',
  resource_api_version: 'V3',
});

function bootstrapFor(plane: ControlPlane, source: JsonObject): JsonObject {
  return {
    node: { id: 'n', cluster: 'c' },
    dynamic_resources: { lds_config: source, cds_config: source },
    static_resources: { clusters: [discoveryCluster('xds', socketAddress(plane.port))] },
  };
}

const RBAC = 'envoy.extensions.filters.network.rbac.v3.RBAC';
/** Lets everybody in, or nobody. */
const gate = (action: 'ALLOW' | 'DENY'): JsonObject => ({
  '@type': T + RBAC,
  stat_prefix: 'gate.',
  rules: { action, policies: { all: { permissions: [{ any: true }], principals: [{ any: true }] } } },
});
const by = (name: string, types: readonly string[], source: JsonObject, extra: JsonObject = {}): JsonObject => ({
  name,
  config_discovery: { config_source: source, type_urls: types.map((type) => T + type), ...extra },
});
/** The answer's status, or what became of the connection. */
const outcome = (port: number): Promise<number | 'closed'> =>
  ask(port).then(
    ({ status }) => status,
    () => 'closed',
  );

test('network filters come, change for new connections, and close them while they are missing', async (t) => {
  const plane = await startControlPlane(t);
  const app = await startApp(t, 'app');
  const source = own('DELTA_GRPC');
  const manager = hcm(routes([toCluster('app')]));
  plane.set('cds', 'app', staticCluster('app', [app.port]));
  plane.set('lds', 'in', listener('in', [{ filters: [by('gate', [RBAC], source), manager] }], { stat_prefix: 'in' }));
  const engine = await startEngine(t, bootstrapFor(plane, source), false);
  await until(() => plane.seen.some((request) => request.names.includes('gate')), 'ECDS is asked');
  assert.equal(engine.engine.state, 'INITIALIZING', 'the listener waits');
  const set = (name: string, config: JsonObject): void => plane.set('ecds', name, { name, typed_config: config });
  set('gate', gate('ALLOW'));
  await engine.engine.whenLive();
  const port = engine.port('in');
  assert.equal(await outcome(port), 200);
  // A connection keeps the filters it came in by.
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  t.after(() => agent.destroy());
  const kept = () => ask(port, '/', { agent }).then(({ status }) => status);
  assert.equal(await kept(), 200);
  set('gate', gate('DENY'));
  const updates = 'extension_config_discovery.network_filter.gate.update_success';
  await until(() => engine.counter(updates) === 2, 'the new filter');
  assert.equal(await outcome(port), 'closed');
  assert.equal(await kept(), 200);
  const refusals = () => plane.seen.flatMap(({ error }) => error ?? []);
  set('gate', (manager as { typed_config: JsonObject }).typed_config);
  await until(() => refusals().length === 1, 'another type is refused');
  assert.match(refusals()[0]!, /filter config has type URL .*HttpConnectionManager but expect .*RBAC/);
  set('gate', gate('ALLOW'));
  await until(() => engine.counter(updates) === 3, 'open again');
  assert.equal(await outcome(port), 200);
  plane.remove('ecds', 'gate');
  await until(() => engine.engine.hub.book(ECDS).get('gate') === undefined, 'it is gone');
  assert.equal(await outcome(port), 'closed');
  assert.equal(engine.counter('listener.in.network_extension_config_missing'), 1);
});

test('terminal filters stand at the end, and old ones serve as long as they have connections', async (t) => {
  const plane = await startControlPlane(t);
  const [one, two] = [await startApp(t, 'one'), await startApp(t, 'two')];
  const source = own('GRPC');
  const TCP = 'envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy';
  const HCM = 'envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager';
  plane.set('cds', 'one', staticCluster('one', [one.port]));
  plane.set('cds', 'two', staticCluster('two', [two.port]));
  const tcp = (cluster: string): JsonObject => ({ '@type': T + TCP, stat_prefix: 'tcp', cluster });
  const set = (name: string, config: JsonObject): void => plane.set('ecds', name, { name, typed_config: config });
  set('end', tcp('one'));
  set('first', gate('ALLOW'));
  const types = [TCP, HCM, RBAC];
  const filters = [by('first', types, source), by('end', types, source)];
  plane.set('lds', 'in', listener('in', [{ filters }], { stat_prefix: 'in' }));
  const engine = await startEngine(t, bootstrapFor(plane, source));
  const port = engine.port('in');
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  t.after(() => agent.destroy());
  const kept = () => ask(port, '/', { agent }).then(({ body }) => body);
  assert.equal(await kept(), 'one');
  const refusals = () => plane.seen.flatMap(({ error }) => error ?? []);
  set('first', tcp('two'));
  await until(() => refusals().length === 1, 'a terminal filter in front is refused');
  assert.match(refusals()[0]!, /terminal filter named first must be the last filter in a network filter chain/);
  set('end', gate('ALLOW'));
  await until(() => refusals().length === 2, 'one that is not terminal is refused at the end');
  assert.match(refusals()[1]!, /non-terminal filter named end is the last filter/);
  // Another kind of filter, whose routes come later still.
  const updates = () => engine.counter('extension_config_discovery.network_filter.end.update_success');
  const before = updates();
  set('end', (hcm(routes([toCluster('two')])) as { typed_config: JsonObject }).typed_config);
  await until(() => updates() === before + 1, 'the new end');
  assert.equal((await ask(port)).body, 'two');
  assert.equal(await kept(), 'one', 'the old connection has its old filter');
  plane.remove('lds', 'in');
  await until(() => engine.engine.listeners.find('in') === undefined, 'the listener is gone');
  assert.equal(await outcome(port), 'closed');
});

test('listener filters come and change; a default stands in, and nobody is let in without', async (t) => {
  const plane = await startControlPlane(t);
  const source = own('DELTA_GRPC');
  const TLS = 'envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector';
  const HTTP = 'envoy.extensions.filters.listener.http_inspector.v3.HttpInspector';
  const PROXY = 'envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol';
  const answer = (status: number): JsonObject => hcm(routes([{ match: { prefix: '/' }, direct_response: { status } }]));
  // Whether somebody looked shows in the chain that is chosen.
  const chains: JsonObject[] = [
    { filter_chain_match: { application_protocols: ['http/1.1'] }, filters: [answer(201)] },
    { filters: [answer(202)] },
  ];
  const set = (name: string, type: string): void =>
    plane.set('ecds', name, { name, typed_config: { '@type': T + type } });
  plane.set(
    'lds',
    'in',
    listener('in', chains, {
      stat_prefix: 'in',
      listener_filters: [by('look', [TLS, HTTP, PROXY], source), { name: 'tls', typed_config: { '@type': T + TLS } }],
    }),
  );
  const withDefault = { default_config: { '@type': T + HTTP }, apply_default_config_without_warming: true };
  plane.set(
    'lds',
    'eager',
    listener('eager', chains, { listener_filters: [by('later', [TLS, HTTP], source, withDefault)] }),
  );
  const engine = await startEngine(t, bootstrapFor(plane, source), false);
  await until(() => plane.seen.some((request) => request.names.includes('look')), 'ECDS is asked');
  assert.equal(engine.engine.state, 'INITIALIZING', 'the listener waits');
  set('look', HTTP);
  await engine.engine.whenLive();
  assert.equal(await outcome(engine.port('in')), 201);
  assert.equal(await outcome(engine.port('eager')), 201, 'the default looks');
  set('later', TLS);
  await until(
    () => engine.counter('extension_config_discovery.tcp_listener_filter.later.update_success') === 1,
    'it came',
  );
  assert.equal(await outcome(engine.port('eager')), 202);
  const refusals = () => plane.seen.flatMap(({ error }) => error ?? []);
  set('look', TLS);
  await until(() => refusals().length === 1, 'it is there already');
  assert.match(refusals()[0]!, /tls is listed twice/);
  const updates = () => engine.counter('extension_config_discovery.tcp_listener_filter.look.update_success');
  const before = updates();
  set('look', PROXY);
  await until(() => updates() === before + 1, 'PROXY protocol');
  assert.equal(await outcome(engine.port('in')), 'closed', 'there is no header');
  plane.remove('ecds', 'look');
  await until(() => engine.engine.hub.book(ECDS).get('look') === undefined, 'it is gone');
  assert.equal(await outcome(engine.port('in')), 'closed');
  assert.equal(engine.counter('listener.in.extension_config_missing'), 1);
  plane.remove('ecds', 'later');
  await until(() => engine.engine.hub.book(ECDS).get('later') === undefined, 'the other is gone too');
  assert.equal(await outcome(engine.port('eager')), 201, 'the default again');
});
