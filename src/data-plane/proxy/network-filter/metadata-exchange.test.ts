// TCP metadata exchange: the bytes of an introduction, hostile ones, and two proxies that count a connection by its peer
// while its own bytes pass untouched, whoever speaks first.
import assert from 'node:assert/strict';
import { createServer } from 'node:net';
import { test } from 'node:test';
import type { JsonObject } from '@bufbuild/protobuf';
import type { LocalPeer } from '../http-filter/peer.ts';
import { localPeer } from '../http-filter/peer.ts';
import {
  ask,
  bootstrap,
  clientTls,
  commonTls,
  createCa,
  INSPECTORS,
  listen,
  listener,
  raw,
  serverTls,
  startEngine,
  staticCluster,
  type TestEngine,
  tcpProxy,
  typed,
  until,
} from '../testing/engine.ts';
import { introduction, readIntroduction } from './metadata-exchange.ts';

const node = (workload: string, namespace: string): JsonObject => ({
  id: `sidecar~10.0.0.1~${workload}-1.${namespace}~${namespace}.svc.cluster.local`,
  cluster: `${workload}.${namespace}`,
  metadata: { WORKLOAD_NAME: workload, NAMESPACE: namespace, CLUSTER_ID: 'Kubernetes', LABELS: { app: workload } },
});

test('what we say is read back, in any pieces, and nothing more is taken', () => {
  const local: LocalPeer = localPeer('id', { WORKLOAD_NAME: 'w', NAMESPACE: 'n', LABELS: { app: 'a' } });
  const bytes = Buffer.concat([introduction(local), Buffer.from('rest')]);
  for (let end = 0; end < bytes.length - 4; end++) assert.equal(readIntroduction(bytes.subarray(0, end)).kind, 'more');
  const read = readIntroduction(bytes);
  assert.ok(read.kind === 'peer');
  assert.equal(read.length, bytes.length - 4);
  assert.deepEqual([read.peer.workload, read.peer.namespace, read.peer.app], ['w', 'n', 'a']);
});

test('other bytes are no introduction; one too large or unreadable is bad', () => {
  assert.deepEqual(readIntroduction(Buffer.from('GET / HTTP/1.1')), { kind: 'none' });
  assert.deepEqual(readIntroduction(Buffer.from([0x3d, 0x24])), { kind: 'none' });
  const head = (size: number) => {
    const out = Buffer.alloc(8);
    out.writeUInt32BE(0x3d230467, 0);
    out.writeUInt32BE(size, 4);
    return out;
  };
  assert.deepEqual(readIntroduction(head(0xffffffff)), { kind: 'bad', length: undefined });
  assert.deepEqual(readIntroduction(head(0)), { kind: 'bad', length: 8 });
  assert.deepEqual(readIntroduction(Buffer.concat([head(3), Buffer.from([255, 255, 255])])), {
    kind: 'bad',
    length: 11,
  });
});

const stats = (extra: JsonObject = {}) =>
  typed('istio.stats', 'stats.PluginConfig', { tcp_reporting_duration: '0.05s', ...extra });
const EXCHANGE = typed('istio.metadata_exchange', 'envoy.tcp.metadataexchange.config.MetadataExchange', {
  protocol: 'istio-peer-exchange',
});
const ADMIN: JsonObject = { admin: { address: { socket_address: { address: '127.0.0.1', port_value: 0 } } } };

async function opened(engine: TestEngine): Promise<string[]> {
  const address = engine.engine.adminAddress;
  assert.ok(address?.kind === 'ip');
  const { body } = await ask(address.port, '/stats/prometheus');
  return body
    .split('\n')
    .filter((line) => line.startsWith('istio_tcp_connections_opened_total{'))
    .map((line) =>
      ['source_workload', 'destination_workload'].map((name) => line.match(`[{,]${name}="([^"]*)"`)?.[1]).join('→'),
    );
}

for (const first of ['client', 'server'] as const)
  test(`two proxies learn who the other is when the ${first} speaks first`, async (t) => {
    const ca = await createCa();
    const app = createServer((socket) => {
      if (first === 'server') socket.write('hello from server');
      socket.on('data', (bytes) => socket.end(`echo ${bytes}`));
      socket.on('error', () => {});
    });
    const appPort = await listen(t, app as unknown as Parameters<typeof listen>[1]);
    const names = { client: 'spiffe://cluster.local/ns/foo/sa/c', server: 'spiffe://cluster.local/ns/bar/sa/s' };
    const server = await startEngine(t, {
      node: node('db', 'bar'),
      ...bootstrap(
        [
          listener(
            'in',
            [
              {
                filters: [EXCHANGE, stats(), tcpProxy('app')],
                transport_socket: serverTls(
                  commonTls(await ca.issue(names.server), ca.pem, [{ prefix: 'spiffe://cluster.local/' }], {
                    alpn_protocols: ['istio-peer-exchange', 'h2', 'http/1.1'],
                  }),
                ),
              },
            ],
            { ...INSPECTORS, traffic_direction: 'INBOUND' },
          ),
        ],
        [staticCluster('app', [appPort])],
      ),
      ...ADMIN,
    });
    const client = await startEngine(t, {
      node: node('web', 'foo'),
      ...bootstrap(
        [listener('out', [{ filters: [stats(), tcpProxy('up')] }], { traffic_direction: 'OUTBOUND' })],
        [
          staticCluster('up', [server.port('in')], {
            filters: [EXCHANGE],
            transport_socket: clientTls(
              commonTls(await ca.issue(names.client), ca.pem, [{ exact: names.server }], {
                alpn_protocols: ['istio-peer-exchange', 'istio'],
              }),
            ),
          }),
        ],
      ),
      ...ADMIN,
    });
    const answer = await raw(client.port('out'), 'question');
    assert.equal(answer.text, first === 'server' ? 'hello from serverecho question' : 'echo question');
    await until(() => server.counter('metadata_exchange.alpn_protocol_found') === 1, 'the exchange');
    let seen: string[] = [];
    const both = async () => [...(await opened(client)), ...(await opened(server))];
    for (let i = 0; i < 200 && seen.length < 2; i++) seen = await both();
    assert.deepEqual(seen, ['web→db', 'web→db']);
    assert.equal(client.counter('metadata_exchange.initial_header_not_found'), 0);
  });
