// Two engines and mutual TLS between them: identities, secure naming, the chain tables of STRICT and PERMISSIVE, plain text refused.
import assert from 'node:assert/strict';
import { connect as netConnect } from 'node:net';
import { before, type TestContext, test } from 'node:test';
import { type ConnectionOptions, connect as tlsConnect } from 'node:tls';
import type { JsonObject } from '@bufbuild/protobuf';
import {
  ask,
  bootstrap,
  type Ca,
  clientTls,
  commonTls,
  createCa,
  fileLog,
  hcm,
  type Identity,
  INSPECTORS,
  listener,
  raw,
  routes,
  serverTls,
  startApp,
  startEngine,
  staticCluster,
  tcpProxy,
  toCluster,
  typed,
  until,
} from './testing/engine.ts';

const MESH = [{ prefix: 'spiffe://cluster.local/' }];
const CLIENT = 'spiffe://cluster.local/ns/foo/sa/sleep';
const SERVER = 'spiffe://cluster.local/ns/foo/sa/httpbin';
const ISTIO_ALPN = ['istio-http/1.0', 'istio-http/1.1', 'istio-h2', 'istio-peer-exchange', 'istio'];

let ca: Ca;
let other: Ca;
let client: Identity;
let server: Identity;
before(async () => {
  ca = await createCa();
  other = await createCa();
  client = await ca.issue(CLIENT);
  server = await ca.issue(SERVER);
});

const mtls = (identity = server, params: JsonObject = {}) =>
  serverTls(commonTls(identity, ca.pem, MESH, { alpn_protocols: ['h2', 'http/1.1'], ...params }));

const inbound = (extra: JsonObject = {}) =>
  hcm(routes([toCluster('app')]), {
    server_name: 'istio-envoy',
    forward_client_cert_details: 'APPEND_FORWARD',
    set_current_client_cert_details: { subject: true, uri: true, dns: true },
    ...extra,
  });

type Mode = 'STRICT' | 'PERMISSIVE' | 'DISABLE';

/** The chains of an HTTP port (mtls.md §3.1). */
function httpChains(mode: Mode, extra: JsonObject = {}): JsonObject[] {
  const tls = (match: JsonObject) => ({
    filter_chain_match: { transport_protocol: 'tls', ...match },
    filters: [inbound(extra)],
    transport_socket: mtls(),
  });
  const plain = { filter_chain_match: { transport_protocol: 'raw_buffer' }, filters: [inbound(extra)] };
  if (mode === 'STRICT') return [tls({})];
  if (mode === 'DISABLE') return [plain];
  return [tls({ application_protocols: ISTIO_ALPN }), plain];
}

async function startServer(t: TestContext, mode: Mode, extra: JsonObject = {}) {
  const app = await startApp(t, 'app');
  const engine = await startEngine(
    t,
    bootstrap(
      [
        listener('in', httpChains(mode), {
          ...INSPECTORS,
          access_log: [fileLog('nr', '%RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS%\n')],
          stat_prefix: 'in',
          ...extra,
        }),
      ],
      [staticCluster('app', [app.port])],
    ),
  );
  return { app, engine, port: engine.port('in') };
}

/** As the agent's bootstrap says it: callers in the mesh learn why a connection failed. */
const TELL_WHY: JsonObject = {
  layered_runtime: {
    layers: [
      {
        name: 'mesh',
        static_layer: { 'envoy.reloadable_features.hide_transport_failure_reason_in_response_body': false },
      },
    ],
  },
};

/** A client engine whose cluster `up` speaks mTLS to `port`. */
function startClient(
  t: TestContext,
  port: number,
  sans: readonly JsonObject[],
  options: { identity?: Identity; alpn?: string[]; trust?: string } = {},
) {
  const socket = clientTls(
    commonTls(options.identity ?? client, options.trust ?? ca.pem, sans, {
      alpn_protocols: options.alpn ?? ['istio-http/1.1', 'istio', 'http/1.1'],
    }),
    { sni: 'outbound_.80_._.httpbin.foo.svc.cluster.local' },
  );
  return startEngine(
    t,
    bootstrap(
      [
        listener('out', [
          {
            filters: [
              hcm(routes([toCluster('up')]), {
                access_log: [fileLog('log', '%RESPONSE_FLAGS% %UPSTREAM_TRANSPORT_FAILURE_REASON%\n')],
              }),
            ],
          },
        ]),
      ],
      [staticCluster('up', [port], { transport_socket: socket })],
      TELL_WHY,
    ),
  );
}

test('a meshed client reaches a STRICT server and the application learns who called', async (t) => {
  const { app, engine, port } = await startServer(t, 'STRICT');
  const out = await startClient(t, port, [{ exact: SERVER }]);
  for (let i = 0; i < 3; i++)
    assert.equal(
      (await ask(out.port('out'), '/headers', { headers: { 'x-forwarded-client-cert': 'By=forged' } })).body,
      'app',
    );
  const xfcc = String(app.seen[0]!.headers['x-forwarded-client-cert']);
  // The client's outbound sidecar removes what the application claims.
  assert.match(xfcc, new RegExp(`^By=${SERVER};Hash=[0-9a-f]{64};Subject="";URI=${CLIENT}$`));
  assert.equal(engine.counter('listener.in.ssl.handshake'), 1, 'one connection served all requests');
  assert.equal(out.counter('cluster.up.ssl.handshake'), 1);
});

test('plain text to STRICT is reset unread; to PERMISSIVE and DISABLE it is served without certificate headers', async (t) => {
  const strict = await startServer(t, 'STRICT');
  assert.deepEqual(await raw(strict.port, 'GET / HTTP/1.1\r\nHost: a\r\n\r\n'), { text: '', error: 'ECONNRESET' });
  assert.equal(strict.engine.counter('listener.in.no_filter_chain_match'), 1);
  await until(() => strict.engine.lines.get('nr')?.length === 1, 'the NR line');
  assert.deepEqual(strict.engine.lines.get('nr'), ['NR filter_chain_not_found']);
  assert.equal(strict.app.seen.length, 0);
  for (const mode of ['PERMISSIVE', 'DISABLE'] as const) {
    const { app, port } = await startServer(t, mode);
    const answer = await ask(port, '/', { headers: { 'x-forwarded-client-cert': 'By=forged' } });
    assert.deepEqual([answer.status, answer.headers.server], [200, 'istio-envoy']);
    assert.equal(app.seen[0]!.headers['x-forwarded-client-cert'], undefined);
  }
});

test('a meshed client uses mTLS with PERMISSIVE too; foreign TLS finds no chain on an HTTP port', async (t) => {
  const { app, port } = await startServer(t, 'PERMISSIVE');
  const out = await startClient(t, port, [{ exact: SERVER }]);
  assert.equal((await ask(out.port('out'))).status, 200);
  assert.ok(app.seen[0]!.headers['x-forwarded-client-cert']);
  const foreign = await startClient(t, port, [], { alpn: ['http/1.1'] });
  const refused = await ask(foreign.port('out'));
  assert.equal(refused.status, 503);
  assert.match(refused.body, /reset reason: remote connection failure/);
});

test('a server with another identity, or of another mesh, is not talked to: 503 UF and fail_verify_san', async (t) => {
  const { port, app } = await startServer(t, 'STRICT');
  const wrongName = await startClient(t, port, [{ exact: 'spiffe://cluster.local/ns/foo/sa/other' }]);
  const answer = await ask(wrongName.port('out'));
  assert.equal(answer.status, 503);
  assert.match(
    answer.body,
    /reset reason: remote connection failure, transport failure reason: .*CERTIFICATE_VERIFY_FAILED/,
  );
  assert.equal(wrongName.counter('cluster.up.ssl.fail_verify_san'), 1);
  await until(() => wrongName.lines.get('log')?.length === 1, 'the log line');
  assert.match(wrongName.lines.get('log')![0]!, /^UF TLS_error:.*CERTIFICATE_VERIFY_FAILED/);
  const wrongRoot = await startClient(t, port, [{ exact: SERVER }], { trust: other.pem });
  assert.equal((await ask(wrongRoot.port('out'))).status, 503);
  assert.equal(wrongRoot.counter('cluster.up.ssl.fail_verify_error'), 1);
  assert.equal(app.seen.length, 0);
});

/** What a bare TLS client sees: the protocol, or the error, and whether the server's certificate was shown. */
function handshake(
  port: number,
  options: ConnectionOptions,
): Promise<{ result: string; shown: boolean; alpn: string | false | null }> {
  return new Promise((resolve) => {
    let shown = false;
    const socket = tlsConnect({ port, host: '127.0.0.1', rejectUnauthorized: false, ...options }, () => {
      shown = socket.getPeerX509Certificate() !== undefined;
      socket.write('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
    });
    const done = (result: string) => {
      resolve({ result, shown, alpn: socket.alpnProtocol });
      socket.destroy();
    };
    socket.once('data', (chunk: Buffer) => done(chunk.toString('latin1', 0, 12)));
    socket.once('error', (error: NodeJS.ErrnoException) => done(error.code ?? error.message));
    socket.once('close', () => done('closed'));
  });
}

test('the server wants a client certificate of its mesh, shows its own all the same, and refuses TLS 1.1', async (t) => {
  const { engine, port, app } = await startServer(t, 'STRICT');
  const none = await handshake(port, {});
  assert.equal(none.result, 'ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED');
  assert.equal(none.shown, true);
  assert.equal(engine.counter('listener.in.ssl.fail_verify_no_cert'), 1);
  const stranger = await other.issue(CLIENT);
  const foreign = await handshake(port, { cert: stranger.certificate, key: stranger.key });
  assert.notEqual(foreign.result, 'HTTP/1.1 200');
  assert.equal(engine.counter('listener.in.ssl.fail_verify_error'), 1);
  const outsider = await ca.issue('spiffe://elsewhere/ns/foo/sa/sleep');
  const outside = await handshake(port, { cert: outsider.certificate, key: outsider.key });
  assert.notEqual(outside.result, 'HTTP/1.1 200');
  assert.equal(engine.counter('listener.in.ssl.fail_verify_san'), 1);
  const own = { cert: client.certificate, key: client.key };
  assert.match(
    (await handshake(port, { ...own, minVersion: 'TLSv1.1', maxVersion: 'TLSv1.1' })).result,
    /ERR_SSL|ECONNRESET/,
  );
  for (const version of ['TLSv1.2', 'TLSv1.3'] as const)
    assert.equal((await handshake(port, { ...own, minVersion: version, maxVersion: version })).result, 'HTTP/1.1 200');
  const negotiated = await handshake(port, { ...own, ALPNProtocols: ['istio-http/1.1', 'istio', 'http/1.1'] });
  assert.deepEqual([negotiated.result, negotiated.alpn], ['HTTP/1.1 200', 'http/1.1']);
  assert.equal(app.seen.length, 3);
});

test('an expired client certificate is refused', async (t) => {
  const { engine, port } = await startServer(t, 'STRICT');
  // Valid for two minutes before "now" only: CLOCK_SKEW of the issuer.
  const old = await ca.issue(CLIENT, -1);
  const answer = await handshake(port, { cert: old.certificate, key: old.key });
  assert.notEqual(answer.result, 'HTTP/1.1 200');
  assert.equal(engine.counter('listener.in.ssl.fail_verify_error'), 1);
});

test('TCP port, PERMISSIVE: mesh TLS is ended here, foreign TLS and plain bytes pass untouched', async (t) => {
  const app = await startApp(t, 'plain app');
  const chains: JsonObject[] = [
    {
      filter_chain_match: { transport_protocol: 'tls', application_protocols: ISTIO_ALPN },
      filters: [tcpProxy('app')],
      transport_socket: serverTls(
        commonTls(server, ca.pem, MESH, { alpn_protocols: ['istio-peer-exchange', 'h2', 'http/1.1'] }),
      ),
    },
    { filter_chain_match: { transport_protocol: 'tls' }, filters: [tcpProxy('app', { stat_prefix: 'foreign' })] },
    { filter_chain_match: { transport_protocol: 'raw_buffer' }, filters: [tcpProxy('app', { stat_prefix: 'raw' })] },
  ];
  const engine = await startEngine(
    t,
    bootstrap([listener('in', chains, INSPECTORS)], [staticCluster('app', [app.port])]),
  );
  assert.equal((await ask(engine.port('in'))).body, 'plain app');
  const socket = clientTls(
    commonTls(client, ca.pem, [{ exact: SERVER }], { alpn_protocols: ['istio-peer-exchange', 'istio'] }),
  );
  const out = await startEngine(
    t,
    bootstrap(
      [listener('out', [{ filters: [tcpProxy('up')] }])],
      [staticCluster('up', [engine.port('in')], { transport_socket: socket })],
    ),
  );
  assert.equal((await ask(out.port('out'))).body, 'plain app');
  // A ClientHello without Istio's ALPN goes to the application as it is: Node's HTTP server answers 400 in clear.
  const foreign = await handshake(engine.port('in'), {});
  assert.match(foreign.result, /WRONG_VERSION|PACKET_LENGTH|ERR_SSL/);
});

test('endpoints decide: one cluster talks mTLS to meshed and plain text to other hosts', async (t) => {
  const { app, port } = await startServer(t, 'STRICT');
  const plain = await startApp(t, 'plain');
  const endpoint = (to: number, metadata?: JsonObject): JsonObject => ({
    endpoint: { address: { socket_address: { address: '127.0.0.1', port_value: to } } },
    ...(metadata ? { metadata: { filter_metadata: { 'envoy.transport_socket_match': metadata } } } : {}),
  });
  const cluster: JsonObject = {
    name: 'up',
    type: 'STATIC',
    lb_policy: 'ROUND_ROBIN',
    load_assignment: {
      cluster_name: 'up',
      endpoints: [{ lb_endpoints: [endpoint(port, { tlsMode: 'istio' }), endpoint(plain.port)] }],
    },
    transport_socket_matches: [
      {
        name: 'tlsMode-istio',
        match: { tlsMode: 'istio' },
        transport_socket: clientTls(commonTls(client, ca.pem, [{ exact: SERVER }])),
      },
      {
        name: 'tlsMode-disabled',
        match: {},
        transport_socket: typed(
          'envoy.transport_sockets.raw_buffer',
          'envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer',
        ),
      },
    ],
  };
  const out = await startEngine(
    t,
    bootstrap([listener('out', [{ filters: [hcm(routes([toCluster('up')]))] }])], [cluster]),
  );
  const bodies = new Set<string>();
  for (let i = 0; i < 4; i++) bodies.add((await ask(out.port('out'))).body);
  assert.deepEqual([...bodies].sort(), ['app', 'plain']);
  assert.ok(app.seen.every((entry) => entry.headers['x-forwarded-client-cert']));
});

test('a client that says nothing is served when the filter time-out ends, if the configuration says so', async (t) => {
  const app = await startApp(t, 'app');
  const chains = [{ filters: [tcpProxy('app')] }];
  const engine = await startEngine(
    t,
    bootstrap(
      [
        listener('in', chains, {
          ...INSPECTORS,
          listener_filters_timeout: '0.05s',
          continue_on_listener_filters_timeout: true,
          stat_prefix: 'in',
        }),
        listener('cut', chains, { ...INSPECTORS, listener_filters_timeout: '0.05s', stat_prefix: 'cut' }),
      ],
      [staticCluster('app', [app.port])],
    ),
  );
  const silent = netConnect(engine.port('in'), '127.0.0.1');
  t.after(() => silent.destroy());
  await until(() => engine.counter('cluster.app.upstream_cx_total') === 1, 'the connection went on');
  assert.equal(engine.counter('listener.in.downstream_pre_cx_timeout'), 1);
  const { text, error } = await raw(engine.port('cut'), '');
  assert.deepEqual([text, error], ['', '']);
  assert.equal(engine.counter('listener.cut.downstream_pre_cx_timeout'), 1);
});
