// The engine under a control plane: order of start, updates in place, refusals that keep the last good configuration,
// lost streams, secrets that rotate, and mode flips under load.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { Agent } from 'node:http';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { before, type TestContext, test } from 'node:test';
import { connect as tlsConnect } from 'node:tls';
import type { JsonObject } from '@bufbuild/protobuf';
import { dynamicBootstrap, edsCluster, rds, SDS_SOURCE, startAds, startSds } from './testing/discovery.ts';
import {
  type Answer,
  ask,
  bootstrap,
  type Ca,
  clientTls,
  createCa,
  hcm,
  type Identity,
  INSPECTORS,
  listener,
  raw,
  routes,
  serverTls,
  socketAddress,
  startApp,
  startEngine,
  staticCluster,
  type TestEngine,
  toCluster,
  until,
} from './testing/engine.ts';

const SERVER = 'spiffe://cluster.local/ns/foo/sa/httpbin';
const CLIENT = 'spiffe://cluster.local/ns/foo/sa/sleep';
const ISTIO_ALPN = ['istio-http/1.0', 'istio-http/1.1', 'istio-h2', 'istio-peer-exchange', 'istio'];

let ca: Ca;
before(async () => {
  ca = await createCa();
});

const assignment = (name: string, ports: readonly number[]): JsonObject => ({
  cluster_name: name,
  endpoints: [{ lb_endpoints: ports.map((port) => ({ endpoint: { address: socketAddress(port) } })) }],
});

function byRds(name: string, extra: JsonObject = {}): JsonObject {
  const { route_config: _none, ...rest } = (hcm({}) as { typed_config: JsonObject }).typed_config;
  return { name: 'envoy.filters.network.http_connection_manager', typed_config: { ...rest, rds: rds(name), ...extra } };
}

async function admin(engine: TestEngine, page: string, method = 'GET'): Promise<Answer> {
  const address = engine.engine.adminAddress;
  assert.ok(address?.kind === 'ip');
  return ask(address.port, page, { method });
}

test('nothing listens before clusters, endpoints, listeners and routes have come; then all does', async (t) => {
  const ads = await startAds(t);
  const app = await startApp(t, 'app');
  const engine = await startEngine(t, dynamicBootstrap(ads.port), false);
  await until(() => ads.requests.length > 0, 'the first request');
  const first = ads.requests[0]!;
  assert.equal(first.node?.id, 'sidecar~10.0.0.1~a.foo~foo.svc.cluster.local');
  assert.equal((await admin(engine, '/ready')).status, 503);
  ads.set('cds', 'app', edsCluster('app'));
  await until(() => ads.requests.some((request) => request.resourceNamesSubscribe.includes('app')), 'EDS is asked');
  assert.equal((await admin(engine, '/ready')).body, 'INITIALIZING\n');
  ads.set('eds', 'app', assignment('app', [app.port]));
  await until(() => ads.requests.some((request) => request.typeUrl.endsWith('Listener')), 'LDS is asked');
  ads.set('lds', 'in', listener('in', [{ filters: [byRds('80')] }]));
  await until(() => ads.requests.some((request) => request.resourceNamesSubscribe.includes('80')), 'RDS is asked');
  assert.equal((await admin(engine, '/ready')).status, 503);
  ads.set('rds', '80', { ...routes([toCluster('app')]), name: '80' });
  await engine.engine.whenLive();
  assert.equal((await ask(engine.port('in'))).body, 'app');
  assert.equal((await admin(engine, '/ready')).body, 'LIVE\n');
  const stats = (await admin(engine, '/stats?filter=update_success|workers_started|server.state')).body;
  assert.equal(engine.engine.stats.histogram('server.initialization_time_ms').count, 1);
  assert.match(stats, /cluster_manager\.cds\.update_success: [1-9]/);
  assert.match(stats, /listener_manager\.lds\.update_success: [1-9]/);
  assert.match(stats, /listener_manager\.workers_started: 1/);
  assert.match(stats, /server\.state: 0/);
  assert.equal(ads.requests.filter((request) => request.node).length, 1, 'the node is told once a stream');
});

test('endpoints of a cluster of the bootstrap come by ADS; what waits is named meanwhile', async (t) => {
  const ads = await startAds(t);
  const app = await startApp(t, 'app');
  const config = dynamicBootstrap(ads.port);
  const fixed = config.static_resources as unknown as { readonly clusters: readonly JsonObject[] };
  const { ads_config } = config.dynamic_resources as JsonObject;
  const engine = await startEngine(
    t,
    {
      ...config,
      dynamic_resources: { ads_config: ads_config! },
      static_resources: {
        clusters: [edsCluster('app'), ...fixed.clusters],
        listeners: [listener('in', [{ filters: [byRds('80')] }])],
      },
    },
    false,
  );
  assert.equal(engine.engine.state, 'PRE_INITIALIZING');
  const gauge = (name: string) => engine.engine.stats.gauges.get(`server.${name}`)?.value;
  assert.deepEqual([gauge('live'), gauge('state')], [1, 2]);
  assert.match((await admin(engine, '/clusters')).body, /^app::added_via_api::false$/m);
  assert.deepEqual(JSON.parse((await admin(engine, '/init_dump')).body), {
    unready_targets_dumps: [
      {
        name: 'init manager Listener-local-init-manager in',
        target_names: ['shared target RdsRouteConfigSubscription RDS init 80'],
      },
    ],
  });
  ads.set('eds', 'app', assignment('app', [app.port]));
  ads.set('rds', '80', { ...routes([toCluster('app')]), name: '80' });
  await engine.engine.whenLive();
  assert.equal((await ask(engine.port('in'))).body, 'app');
});

async function live(t: TestContext) {
  const ads = await startAds(t);
  const app = await startApp(t, 'one');
  ads.set('cds', 'app', edsCluster('app'));
  ads.set('eds', 'app', assignment('app', [app.port]));
  ads.set('lds', 'in', listener('in', [{ filters: [byRds('80')] }]));
  ads.set('rds', '80', { ...routes([toCluster('app')]), name: '80' });
  const engine = await startEngine(t, dynamicBootstrap(ads.port));
  return { ads, engine, app, port: engine.port('in') };
}

test('routes, endpoints and clusters change under a client that stays connected', async (t) => {
  const { ads, engine, port } = await live(t);
  const two = await startApp(t, 'two');
  const agent = new Agent({ keepAlive: true });
  t.after(() => agent.destroy());
  assert.equal((await ask(port, '/', { agent })).body, 'one');
  ads.set('eds', 'app', assignment('app', [two.port]));
  await until(
    () => engine.engine.clusters.find('app')?.hosts[0]?.key.endsWith(String(two.port)) === true,
    'new endpoint',
  );
  assert.equal((await ask(port, '/', { agent })).body, 'two');
  ads.set('rds', '80', { ...routes([{ match: { prefix: '/' }, direct_response: { status: 201 } }]), name: '80' });
  await until(() => ads.requests.at(-1)?.typeUrl.endsWith('RouteConfiguration') === true, 'the route is acknowledged');
  assert.equal((await ask(port, '/', { agent })).status, 201);
  ads.set('rds', '80', { ...routes([toCluster('app')]), name: '80' });
  ads.remove('cds', 'app');
  await until(() => engine.engine.clusters.find('app') === undefined, 'the cluster is gone');
  assert.equal((await ask(port, '/', { agent })).status, 503);
  assert.equal(engine.counter('listener.127.0.0.1_0.downstream_cx_total'), 1, 'one connection saw it all');
});

test('a bad resource is refused by name with its reason, the good ones of the same type and the old state stay', async (t) => {
  const { ads, engine, port } = await live(t);
  ads.set('lds', 'in', listener('in', [{ filters: [byRds('80', { server_name: 'x', proxy_status_config: {} })] }]));
  await until(() => ads.nacks().length === 1, 'a NACK');
  assert.match(
    ads.nacks()[0]!.message,
    /^Error adding\/updating listener\(s\) in: listener 'in'\.filter_chains\[0\]\.filters\[0\]\.typed_config\.proxy_status_config: field of .*HttpConnectionManager is not supported/,
  );
  assert.equal((await ask(port)).body, 'one');
  assert.equal(engine.counter('listener_manager.lds.update_rejected'), 1);
  ads.set('cds', 'bad', { name: 'bad', type: 'STATIC', lb_policy: 'CLUSTER_PROVIDED' });
  await until(() => ads.nacks().length === 2, 'the second NACK');
  const dump = JSON.parse((await admin(engine, '/config_dump')).body) as {
    configs: { '@type': string; dynamic_listeners?: JsonObject[] }[];
  };
  const listeners = dump.configs.find((entry) => entry['@type'].endsWith('ListenersConfigDump'))!.dynamic_listeners!;
  assert.equal(listeners[0]?.client_status, 'NACKED');
  assert.match(JSON.stringify(listeners[0]?.error_state), /proxy_status_config/);
  ads.set('lds', 'in', listener('in', [{ filters: [byRds('80')] }], { stat_prefix: 'again' }));
  await until(() => engine.engine.listeners.find('in')?.message.statPrefix === 'again', 'the mended listener');
  assert.equal((await ask(engine.port('in'))).body, 'one');
});

test('without the control plane everything serves on; the stream comes back with the versions held', async (t) => {
  const { ads, engine, port } = await live(t);
  ads.cut();
  await until(() => engine.counter('control_plane.connected_state') === 0, 'the loss is seen');
  assert.equal((await ask(port)).body, 'one');
  const seen = ads.requests.length;
  await until(() => ads.streams.count === 2, 'the second stream');
  await until(() => ads.requests.length >= seen + 4, 'four subscriptions');
  const again = ads.requests.slice(seen);
  const cds = again.find((request) => request.typeUrl.endsWith('Cluster'));
  assert.deepEqual(Object.keys(cds?.initialResourceVersions ?? {}), ['app']);
  assert.ok(again[0]?.node, 'the node is told again');
  assert.equal((await ask(port)).body, 'one');
});

// --- secrets

function socketDir(t: TestContext): string {
  const dir = mkdtempSync(path.join(tmpdir(), 'proxy-sds-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  return path.join(dir, 's');
}

const bySds = (sans: readonly JsonObject[], extra: JsonObject = {}): JsonObject => ({
  tls_certificate_sds_secret_configs: [{ name: 'default', sds_config: SDS_SOURCE }],
  combined_validation_context: {
    default_validation_context: {
      match_typed_subject_alt_names: sans.map((matcher) => ({ san_type: 'URI', matcher })),
    },
    validation_context_sds_secret_config: { name: 'ROOTCA', sds_config: SDS_SOURCE },
  },
  ...extra,
});
const secretOf = (identity: Identity): JsonObject => ({
  tls_certificate: {
    certificate_chain: { inline_string: identity.certificate },
    private_key: { inline_string: identity.key },
  },
});
const rootOf = (pem: string): JsonObject => ({ validation_context: { trusted_ca: { inline_string: pem } } });

function sdsServer(appPort: number, sdsPath: string, chains: JsonObject[]): JsonObject {
  const config = bootstrap(
    [listener('in', chains, { ...INSPECTORS, stat_prefix: 'in' })],
    [staticCluster('app', [appPort])],
  );
  const { clusters } = dynamicBootstrap(1, sdsPath).static_resources as { clusters: JsonObject[] };
  const resources = config.static_resources as { clusters: JsonObject[]; listeners: JsonObject[] };
  return {
    node: { id: 'n', cluster: 'c' },
    static_resources: { ...resources, clusters: [...resources.clusters, clusters[1]!] },
  };
}

const mtlsChain = (match: JsonObject = {}): JsonObject => ({
  filter_chain_match: { transport_protocol: 'tls', ...match },
  filters: [hcm(routes([toCluster('app')]))],
  transport_socket: serverTls(bySds([{ prefix: 'spiffe://cluster.local/' }], { alpn_protocols: ['h2', 'http/1.1'] })),
});

test('a listener waits for its secrets; rotation changes the certificate and drops no connection; a bad secret is refused', async (t) => {
  const app = await startApp(t, 'app');
  const sds = await startSds(t, socketDir(t));
  const engine = await startEngine(t, sdsServer(app.port, sds.path, [mtlsChain()]), false);
  await until(() => sds.requests.length >= 2, 'both secrets are asked for');
  assert.notEqual(engine.engine.state, 'LIVE');
  const first = await ca.issue(SERVER);
  sds.set('ROOTCA', rootOf(ca.pem));
  sds.set('default', secretOf(first));
  await engine.engine.whenLive();
  const client = await ca.issue(CLIENT);
  const open = () => {
    const socket = tlsConnect({
      port: engine.port('in'),
      host: '127.0.0.1',
      rejectUnauthorized: false,
      cert: client.certificate,
      key: client.key,
    });
    t.after(() => socket.destroy());
    return socket;
  };
  const request = (socket: ReturnType<typeof open>) =>
    new Promise<string>((resolve, reject) => {
      socket.once('data', (chunk: Buffer) => resolve(chunk.toString('latin1', 9, 12)));
      socket.once('error', reject);
      socket.once('close', () => reject(new Error('closed')));
      socket.write('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
    });
  const old = open();
  assert.equal(await request(old), '200');
  const serial = old.getPeerX509Certificate()?.serialNumber;
  sds.set('default', secretOf(await ca.issue(SERVER)));
  await until(() => engine.counter('sds.default.update_success') === 2, 'the new certificate is in');
  assert.equal(await request(old), '200', 'the old connection lives on');
  const fresh = open();
  assert.equal(await request(fresh), '200');
  assert.notEqual(fresh.getPeerX509Certificate()?.serialNumber, serial);
  const [mine, other] = [await ca.issue(SERVER), await ca.issue(SERVER)];
  sds.set('default', secretOf({ certificate: mine.certificate, key: other.key }));
  await until(() => engine.counter('sds.default.update_rejected') === 1, 'the mismatch is refused');
  const refusal = () => sds.requests.find((asked) => asked.errorDetail)?.errorDetail?.message;
  await until(() => refusal() !== undefined, 'the refusal arrives');
  assert.match(refusal() ?? '', /the key does not belong to the certificate/);
  assert.equal(await request(open()), '200', 'the last good certificate serves');
});

test('a secret is followed as long as somebody uses it, and no longer', async (t) => {
  const sds = await startSds(t, socketDir(t));
  sds.set('ROOTCA', rootOf(ca.pem));
  sds.set('default', secretOf(await ca.issue(SERVER)));
  const ads = await startAds(t);
  const upstream = (extra: JsonObject = {}): JsonObject => ({
    name: 'up',
    type: 'STATIC',
    load_assignment: { cluster_name: 'up' },
    transport_socket: clientTls(bySds([{ exact: SERVER }]), {}),
    ...extra,
  });
  const chain: JsonObject = {
    ...mtlsChain(),
    filters: [hcm(routes([{ match: { prefix: '/' }, direct_response: { status: 200 } }]))],
  };
  ads.set('cds', 'up', upstream());
  ads.set('lds', 'in', listener('in', [chain], INSPECTORS));
  const started = await startEngine(t, dynamicBootstrap(ads.port, sds.path));
  const { engine } = started;
  const names = () =>
    engine.secrets
      .views()
      .map(({ name }) => name)
      .sort()
      .join();
  assert.deepEqual([sds.following(), names()], [['ROOTCA', 'default'], 'ROOTCA,default']);
  // A new version of the last user takes them over.
  ads.remove('lds', 'in');
  await until(() => engine.listeners.find('in') === undefined, 'the listener is gone');
  const asked = sds.requests.length;
  ads.set('cds', 'up', upstream({ connect_timeout: '7s' }));
  await until(() => engine.clusters.find('up')?.settings.connectTimeoutMs === 7_000, 'the new cluster');
  assert.equal(sds.requests.length, asked, 'nobody asks anew');
  assert.equal(names(), 'ROOTCA,default');
  // What is refused leaves nothing behind.
  const refused: JsonObject = {
    ...chain,
    filters: [{ name: 'nobody', typed_config: { '@type': 'type.googleapis.com/google.protobuf.Struct' } }],
  };
  ads.set('lds', 'bad', listener('bad', [refused], INSPECTORS));
  await until(() => ads.nacks().length > 0, 'the refusal');
  ads.remove('cds', 'up');
  await until(() => sds.following().length === 0, 'the subscriptions end');
  assert.equal(names(), '');
  const { body } = await admin(started, '/config_dump');
  assert.doesNotMatch(body, /ROOTCA/);
  ads.set('cds', 'up', upstream());
  await until(() => engine.clusters.find('up') !== undefined, 'the cluster is back, with its secrets');
  assert.deepEqual([sds.following(), names()], [['ROOTCA', 'default'], 'ROOTCA,default']);
});

// --- listener updates

test('a change of chains keeps the connections of chains that stay; others are closed after their next answer', async (t) => {
  const app = await startApp(t, 'app');
  const ads = await startAds(t);
  ads.set('cds', 'app', edsCluster('app'));
  ads.set('eds', 'app', assignment('app', [app.port]));
  const chain = (port: number | undefined, server: string): JsonObject => ({
    ...(port === undefined ? {} : { filter_chain_match: { source_ports: [port] } }),
    filters: [hcm(routes([toCluster('app')]), { server_name: server, stat_prefix: server })],
  });
  ads.set('lds', 'in', listener('in', [chain(undefined, 'keep'), chain(65_535, 'never')]));
  const engine = await startEngine(t, dynamicBootstrap(ads.port));
  const client = connect(engine.port('in'), '127.0.0.1');
  t.after(() => client.destroy());
  let text = '';
  let ended = false;
  client.on('data', (chunk: Buffer) => {
    text += chunk.toString('latin1');
  });
  client.on('end', () => {
    ended = true;
  });
  const exchange = async (n: number) => {
    client.write('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
    await until(() => text.split('\r\napp\r\n0\r\n\r\n').length === n + 1, `answer ${n}`);
  };
  await exchange(1);
  ads.set('lds', 'in', listener('in', [chain(undefined, 'keep'), chain(65_534, 'other')]));
  await until(() => engine.counter('listener_manager.listener_in_place_updated') === 1, 'the swap in place');
  await exchange(2);
  assert.doesNotMatch(text, /connection: close/);
  ads.set('lds', 'in', listener('in', [chain(undefined, 'new')]));
  await until(() => engine.counter('listener_manager.listener_in_place_updated') === 2, 'the second swap');
  await exchange(3);
  assert.match(text, /connection: close/);
  await until(() => ended, 'the drained connection ends');
});

test('no in-mesh request fails while the server flips between PERMISSIVE and STRICT under load', async (t) => {
  const app = await startApp(t, 'app');
  const sds = await startSds(t, socketDir(t));
  sds.set('ROOTCA', rootOf(ca.pem));
  sds.set('default', secretOf(await ca.issue(SERVER)));
  const ads = await startAds(t);
  ads.set('cds', 'app', edsCluster('app'));
  ads.set('eds', 'app', assignment('app', [app.port]));
  const permissive = listener(
    'in',
    [
      mtlsChain({ application_protocols: ISTIO_ALPN }),
      { filter_chain_match: { transport_protocol: 'raw_buffer' }, filters: [hcm(routes([toCluster('app')]))] },
    ],
    INSPECTORS,
  );
  const strict = listener('in', [mtlsChain()], INSPECTORS);
  ads.set('lds', 'in', permissive);
  const server = await startEngine(t, dynamicBootstrap(ads.port, sds.path));
  const identity = await ca.issue(CLIENT);
  const socket = clientTls(
    {
      tls_certificates: [
        { certificate_chain: { inline_string: identity.certificate }, private_key: { inline_string: identity.key } },
      ],
      validation_context: {
        trusted_ca: { inline_string: ca.pem },
        match_typed_subject_alt_names: [{ san_type: 'URI', matcher: { exact: SERVER } }],
      },
      alpn_protocols: ['istio-http/1.1', 'istio', 'http/1.1'],
    },
    {},
  );
  const client = await startEngine(
    t,
    bootstrap(
      [listener('out', [{ filters: [hcm(routes([toCluster('up')]))] }])],
      [staticCluster('up', [server.port('in')], { transport_socket: socket })],
    ),
  );
  const TOTAL = 2_000;
  const WORKERS = 20;
  const results = new Map<number, number>();
  let sent = 0;
  let flips = 0;
  const load = Promise.all(
    Array.from({ length: WORKERS }, async () => {
      const agent = new Agent({ keepAlive: true, maxSockets: 1 });
      while (sent < TOTAL || flips < 10) {
        sent += 1;
        const { status } = await ask(client.port('out'), '/', { agent, method: 'POST', body: 'x' });
        results.set(status, (results.get(status) ?? 0) + 1);
      }
      agent.destroy();
    }),
  );
  for (flips = 0; flips < 10; flips++) {
    const seen = server.counter('listener_manager.listener_in_place_updated');
    const at = sent;
    ads.set('lds', 'in', flips % 2 === 0 ? strict : permissive);
    await until(
      () => server.counter('listener_manager.listener_in_place_updated') > seen && sent > at + 100,
      'a flip under load',
    );
  }
  await load;
  assert.deepEqual([...results.keys()], [200]);
  ads.set('lds', 'in', strict);
  await until(() => server.engine.listeners.find('in')?.chains().length === 1, 'STRICT at last');
  assert.equal((await raw(server.port('in'), 'GET / HTTP/1.1\r\nHost: a\r\n\r\n')).error, 'ECONNRESET');
});
