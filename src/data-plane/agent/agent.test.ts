// The agent against a real CA service over TLS and a fake ADS: SDS through the socket, rotation, refusal, relay, status.
import assert from 'node:assert/strict';
import { createHash, createPublicKey, randomBytes, X509Certificate } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { fromBinary, fromJson } from '@bufbuild/protobuf';
import { Client, credentials, status } from '@grpc/grpc-js';
import { SecretSchema } from '#proto/envoy/extensions/transport_sockets/tls/v3/secret_pb.js';
import { DiscoveryResponseSchema } from '#proto/envoy/service/discovery/v3/discovery_pb.js';
import { createFakeClock, type FakeClock } from '../../../test/fakes/fake-clock.ts';
import { silentLog } from '../../base/runtime/log.ts';
import { certificatePem } from '../../base/x509/certificate.ts';
import { ADS, HOUR, IDENTITY, type Istiod, LIMITS, newRoot, same, startIstiod } from './fake-istiod.ts';
import { readText } from './http.ts';
import { parseAgentOptions } from './options.ts';
import { encodeDiscoveryRequest, SECRET_TYPE } from './wire.ts';
import type { Agent } from './wiring.ts';
import { startAgent } from './wiring.ts';

const SDS = '/envoy.service.secret.v3.SecretDiscoveryService';

interface Setup {
  readonly root: string;
  readonly clock: FakeClock;
  readonly istiod: Istiod;
  readonly start: (env?: Readonly<Record<string, string>>) => Promise<Agent>;
  readonly statusPort: number;
}

async function setUp(t: TestContext): Promise<Setup> {
  const clock = createFakeClock(Date.now());
  const istiod = await startIstiod(t, clock);
  const root = mkdtempSync(path.join(tmpdir(), 'identity-agent-'));
  t.after(() => rmSync(root, { recursive: true, force: true }));
  const put = (name: string, text: string) => {
    mkdirSync(path.dirname(path.join(root, name)), { recursive: true });
    writeFileSync(path.join(root, name), text);
  };
  put('var/run/secrets/tokens/istio-token', 'token-1\n');
  put('var/run/secrets/istio/root-cert.pem', istiod.roots);
  put('etc/istio/pod/labels', 'app="web"\npod-template-hash="1"\nversion="v1"\n');
  put('etc/istio/pod/annotations', 'sidecar.istio.io/statsInclusionPrefixes="http.,tcp."\n');
  const statusPort = await freePort();
  const start = async (env: Readonly<Record<string, string>> = {}): Promise<Agent> => {
    const address = `127.0.0.1:${istiod.port}`;
    const options = parseAgentOptions(['sidecar', '--domain', 'foo.svc.cluster.local'], {
      POD_NAME: 'web-1',
      POD_NAMESPACE: 'foo',
      SERVICE_ACCOUNT: 'bar',
      INSTANCE_IP: '127.0.0.1',
      CA_ADDR: address,
      ISTIOD_SAN: 'istiod.istio-system.svc',
      PROXY_CONFIG: JSON.stringify({ discoveryAddress: address, statusPort }),
      ...env,
    });
    const agent = await startAgent({
      root,
      options,
      clock,
      random: () => 0.5,
      log: silentLog,
      envoyCommand: undefined,
      debugPort: 0,
      onExit: () => {},
    });
    t.after(() => agent.terminate());
    return agent;
  };
  return { root, clock, istiod, start, statusPort };
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

interface SdsClient {
  /** The next answer: resource name → PEM texts. */
  next(): Promise<{ readonly nonce: string; readonly secrets: Readonly<Record<string, string>> }>;
  send(names: readonly string[], nonce?: string, error?: string): void;
}

function sdsClient(t: TestContext, root: string, method = 'StreamSecrets'): SdsClient {
  const client = new Client(`unix:${root}/var/run/secrets/workload-spiffe-uds/socket`, credentials.createInsecure());
  const call = client.makeBidiStreamRequest<Buffer, Buffer>(`${SDS}/${method}`, same, same);
  const queue: (Buffer | Error)[] = [];
  let wake: (() => void) | undefined;
  const push = (item: Buffer | Error) => {
    queue.push(item);
    wake?.();
  };
  call.on('data', push);
  call.on('error', push);
  t.after(() => {
    call.cancel();
    client.close();
  });
  return {
    send: (names, nonce, error) =>
      call.write(encodeDiscoveryRequest({ resourceNames: names, typeUrl: SECRET_TYPE, responseNonce: nonce, error })),
    async next() {
      while (queue.length === 0)
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      const item = queue.shift();
      if (item instanceof Error) throw item;
      const response = fromBinary(DiscoveryResponseSchema, item ?? Buffer.alloc(0));
      const secrets: Record<string, string> = {};
      for (const any of response.resources) {
        assert.equal(any.typeUrl, SECRET_TYPE);
        const secret = fromBinary(SecretSchema, any.value);
        const source =
          secret.type.case === 'tlsCertificate'
            ? secret.type.value.certificateChain
            : secret.type.case === 'validationContext'
              ? secret.type.value.trustedCa
              : undefined;
        assert.ok(source?.specifier.case === 'inlineBytes');
        secrets[secret.name] = Buffer.from(source.specifier.value).toString();
        if (secret.type.case === 'tlsCertificate') {
          const key = secret.type.value.privateKey?.specifier;
          assert.ok(key?.case === 'inlineBytes');
          secrets[`${secret.name}.key`] = Buffer.from(key.value).toString();
        }
      }
      return { nonce: response.nonce, secrets };
    },
  };
}

test('default and ROOTCA come through the socket from one CSR; the key fits and never left', async (t) => {
  const { root, istiod, start } = await setUp(t);
  await start();
  const [leaf, roots] = [sdsClient(t, root), sdsClient(t, root)];
  leaf.send(['default']);
  roots.send(['ROOTCA']);
  const [one, two] = await Promise.all([leaf.next(), roots.next()]);
  const certificate = new X509Certificate(one.secrets.default ?? '');
  assert.equal(certificate.subjectAltName, `URI:${IDENTITY}`);
  assert.ok(certificate.publicKey.equals(createPublicKey(one.secrets['default.key'] ?? '')));
  assert.equal(two.secrets.ROOTCA, istiod.roots);
  assert.deepEqual(istiod.csrs, [{ token: 'Bearer token-1', clusterId: 'Kubernetes' }]);
});

test('renewed at half of its life: pushed once, on the open stream, with a fresh token; roots only when they change', async (t) => {
  const { root, clock, istiod, start } = await setUp(t);
  await start();
  const [leaf, roots] = [sdsClient(t, root), sdsClient(t, root)];
  leaf.send(['default']);
  roots.send(['ROOTCA']);
  const [first, firstRoots] = await Promise.all([leaf.next(), roots.next()]);
  leaf.send(['default'], first.nonce);
  roots.send(['ROOTCA'], firstRoots.nonce);
  writeFileSync(path.join(root, 'var/run/secrets/tokens/istio-token'), 'token-2');
  assert.ok(Math.abs((clock.nextIn() ?? 0) - 12 * HOUR) < 15 * 60_000);
  await clock.advance(12 * HOUR + 60_000);
  const second = await leaf.next();
  assert.notEqual(
    new X509Certificate(second.secrets.default ?? '').serialNumber,
    new X509Certificate(first.secrets.default ?? '').serialNumber,
  );
  assert.equal(istiod.csrs[1]?.token, 'Bearer token-2');
  leaf.send(['default'], second.nonce);
  istiod.signer = await newRoot(clock.now());
  istiod.roots += certificatePem(istiod.signer.certificate);
  await clock.advance(12 * HOUR + 60_000);
  const [third, newRoots] = await Promise.all([leaf.next(), roots.next()]);
  assert.equal(newRoots.secrets.ROOTCA, istiod.roots);
  assert.ok(new X509Certificate(third.secrets.default ?? '').verify(createPublicKey(istiod.signer.key)));
  assert.equal(istiod.csrs.length, 3);
});

test('while the CA is gone the old certificate stays; it is renewed when the CA is back', async (t) => {
  const { root, clock, istiod, start } = await setUp(t);
  const agent = await start();
  const leaf = sdsClient(t, root);
  leaf.send(['default']);
  const first = await leaf.next();
  istiod.refuse = { code: status.UNAUTHENTICATED, details: 'request authenticate failure' };
  istiod.refusals = 1;
  await clock.advance(12 * HOUR + 60_000);
  while (istiod.csrs.length < 2) await new Promise((resolve) => setImmediate(resolve));
  assert.equal(agent.secrets?.peek()?.chainPem, first.secrets.default);
  const again = leaf.next();
  while (istiod.csrs.length < 3) await clock.advance(1000);
  assert.notEqual((await again).secrets.default, first.secrets.default);
});

test('a refused token ends the SDS stream with the text of the CA, without retries of the same call', async (t) => {
  const { root, istiod, start } = await setUp(t);
  istiod.refuse = { code: status.UNAUTHENTICATED, details: 'request authenticate failure' };
  await start();
  const leaf = sdsClient(t, root);
  leaf.send(['default']);
  await assert.rejects(
    leaf.next(),
    /UNAVAILABLE.*failed to generate secret for default:.*request authenticate failure/,
  );
  assert.ok(istiod.csrs.length <= 2, `${istiod.csrs.length} calls`);
});

test('a call that may succeed later is retried five times', async (t) => {
  const { clock, istiod, start } = await setUp(t);
  istiod.refuse = { code: status.UNAVAILABLE, details: 'later' };
  istiod.refusals = 4;
  const agent = await start();
  while (!agent.secrets?.peek()) await clock.advance(1000);
  assert.equal(istiod.csrs.length, 5);
  assert.match(agent.metrics.render(), /istio_agent_num_failed_outgoing_requests\{request_type="csr"\} 4\n/);
});

test('unknown names and the other SDS methods are refused', async (t) => {
  const { root, start } = await setUp(t);
  await start();
  const unknown = sdsClient(t, root);
  unknown.send(['kubernetes://x']);
  await assert.rejects(unknown.next(), /only default, ROOTCA, file-cert: and file-root:/);
  const delta = sdsClient(t, root, 'DeltaSecrets');
  delta.send(['default']);
  await assert.rejects(delta.next(), /UNIMPLEMENTED/);
});

test('file secrets are served and pushed when the file changes', async (t) => {
  const { root, clock, start } = await setUp(t);
  await start();
  const file = path.join(root, 'mine.pem');
  writeFileSync(file, 'first');
  const client = sdsClient(t, root);
  client.send([`file-root:${file}`]);
  const first = await client.next();
  assert.equal(first.secrets[`file-root:${file}`], 'first');
  client.send([`file-root:${file}`], first.nonce);
  const second = client.next();
  writeFileSync(file, 'second');
  let done = false;
  second.finally(() => {
    done = true;
  });
  while (!done) await clock.advance(200);
  assert.equal((await second).secrets[`file-root:${file}`], 'second');
});

test('provisioned certificates are served as default and ROOTCA, and no CSR is sent', async (t) => {
  const { root, istiod, start } = await setUp(t);
  const directory = path.join(root, 'var/run/secrets/workload-spiffe-credentials');
  mkdirSync(directory, { recursive: true });
  for (const name of ['cert-chain.pem', 'key.pem', 'root-cert.pem']) writeFileSync(path.join(directory, name), name);
  await start();
  const client = sdsClient(t, root);
  client.send(['default', 'ROOTCA']);
  assert.deepEqual((await client.next()).secrets, {
    default: 'cert-chain.pem',
    'default.key': 'key.pem',
    ROOTCA: 'root-cert.pem',
  });
  assert.equal(istiod.csrs.length, 0);
});

test('the xDS relay passes bytes both ways with credentials, and an error of istiod ends the stream', async (t) => {
  const { root, istiod, start } = await setUp(t);
  await start();
  const client = new Client(`unix:${root}/etc/istio/proxy/XDS`, credentials.createInsecure(), LIMITS);
  t.after(() => client.close());
  const open = () => client.makeBidiStreamRequest<Buffer, Buffer>(`${ADS}/DeltaAggregatedResources`, same, same);
  const call = open();
  const big = randomBytes(6_000_000);
  call.write(big);
  const answer = await new Promise<Buffer>((resolve, reject) => call.once('data', resolve).once('error', reject));
  const hash = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex');
  assert.equal(hash(answer.subarray(5)), hash(big));
  assert.equal(istiod.streams[0]?.get('authorization')[0], 'Bearer token-1');
  assert.equal(istiod.streams[0]?.get('clusterid')[0], 'Kubernetes');
  const failed = new Promise<Error>((resolve) => call.once('error', resolve));
  call.write(Buffer.from('fail'));
  assert.match((await failed).message, /PERMISSION_DENIED: authorization failed: no/);
  const first = open();
  first.write(Buffer.from('a'));
  await new Promise((resolve) => first.once('data', resolve));
  const replaced = new Promise<Error>((resolve) => first.once('error', resolve));
  const second = open();
  second.write(Buffer.from('b'));
  assert.match((await replaced).message, /replaced by a newer xDS stream/);
  assert.equal(String(await new Promise((resolve) => second.once('data', resolve))), 'echo:b');
  second.on('error', () => {});
  second.cancel();
});

test('istiod answers debug questions through the local port', async (t) => {
  const { start } = await setUp(t);
  const agent = await start();
  const ask = (what: string) => readText({ method: 'GET', port: agent.debugPort, path: what, timeoutMs: 5000 });
  assert.deepEqual(await ask('/debug/syncz'), {
    status: 200,
    contentType: 'application/json',
    body: '{"asked":["syncz"]}',
  });
  assert.equal((await ask('/debug/../x')).status, 404);
});

test('status: not ready without a proxy, metrics, local-only control, unknown probes', async (t) => {
  const { root, statusPort, start, istiod } = await setUp(t);
  const app = createServer((request, response) => {
    response.statusCode = request.url === '/health' && request.headers['x-a'] === 'b' ? 204 : 500;
    response.end(`from ${request.socket.remoteAddress}`);
  });
  await new Promise<void>((resolve) => app.listen(0, '0.0.0.0', resolve));
  t.after(() => app.close());
  const { port } = app.address() as AddressInfo;
  const closed = await freePort();
  const agent = await start({
    OUTPUT_CERTS: 'certs',
    ISTIO_KUBE_APP_PROBERS: JSON.stringify({
      '/app-health/web/readyz': { httpGet: { path: '/health', port, httpHeaders: [{ name: 'X-A', value: 'b' }] } },
      '/app-health/web/livez': { httpGet: { path: '/bad', port } },
      '/app-health/tcp/readyz': { tcpSocket: { port } },
      '/app-health/tcp/livez': { tcpSocket: { port: closed } },
    }),
  });
  while (!agent.secrets?.peek()) await new Promise((resolve) => setImmediate(resolve));
  const ask = (what: string, method = 'GET') => readText({ method, port: statusPort, path: what, timeoutMs: 5000 });
  const ready = await ask('/healthz/ready');
  assert.equal(ready.status, 503);
  assert.match(ready.body, /failed to get readiness stats/);
  assert.match(
    (await ask('/stats/prometheus')).body,
    /\nistio_agent_cert_expiry_seconds\{resource_name="default"\} 86[34]\d\d\n/,
  );
  assert.equal((await ask('/quitquitquit')).status, 405);
  assert.equal((await ask('/app-health/other/readyz')).status, 400);
  assert.equal((await ask('/app-health/web/readyz')).status, 204);
  const bad = await ask('/app-health/web/livez');
  assert.deepEqual([bad.status, bad.body], [500, 'from 127.0.0.6']);
  assert.equal((await ask('/app-health/tcp/readyz')).status, 200);
  assert.equal((await ask('/app-health/tcp/livez')).status, 500);
  assert.equal((await ask('/nothing')).status, 404);
  const key = path.join(root, 'certs/key.pem');
  while (!statSync(path.join(root, 'certs/root-cert.pem'), { throwIfNoEntry: false }))
    await new Promise((resolve) => setImmediate(resolve));
  assert.equal(statSync(key).mode & 0o777, 0o600);
  assert.equal(readFileSync(path.join(root, 'certs/root-cert.pem'), 'utf8'), istiod.roots);
});

test('the bootstrap written is one Envoy reads, with the node of the pod', async (t) => {
  const { root, start } = await setUp(t);
  await start({ ISTIO_META_WORKLOAD_NAME: 'web', ISTIO_META_POD_PORTS: '[{"containerPort":80}]' });
  const json = JSON.parse(readFileSync(path.join(root, 'etc/istio/proxy/envoy-rev.json'), 'utf8'));
  const [
    { createRegistry },
    { BootstrapSchema },
    { HttpConnectionManagerSchema },
    { RouterSchema },
    { HttpProtocolOptionsSchema },
    { FileAccessLogSchema },
    { DownstreamConnectionsConfigSchema },
  ] = await Promise.all([
    import('@bufbuild/protobuf'),
    import('#proto/envoy/config/bootstrap/v3/bootstrap_pb.js'),
    import('#proto/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js'),
    import('#proto/envoy/extensions/filters/http/router/v3/router_pb.js'),
    import('#proto/envoy/extensions/upstreams/http/v3/http_protocol_options_pb.js'),
    import('#proto/envoy/extensions/access_loggers/file/v3/file_pb.js'),
    import('#proto/envoy/extensions/resource_monitors/downstream_connections/v3/downstream_connections_pb.js'),
  ]);
  const registry = createRegistry(
    HttpConnectionManagerSchema,
    RouterSchema,
    HttpProtocolOptionsSchema,
    FileAccessLogSchema,
    DownstreamConnectionsConfigSchema,
  );
  const read = fromJson(BootstrapSchema, json, { registry });
  assert.equal(read.node?.id, 'sidecar~127.0.0.1~web-1.foo~foo.svc.cluster.local');
  assert.equal(read.node?.cluster, 'web.foo');
  assert.deepEqual(
    read.staticResources?.listeners.map((l) => l.name),
    ['0.0.0.0_15090', '0.0.0.0_15021'],
  );
  assert.ok(
    json.stats_config.stats_matcher.inclusion_list.patterns.some((p: { prefix?: string }) => p.prefix === 'tcp.'),
  );
  assert.deepEqual(json.node.metadata.LABELS, { app: 'web', version: 'v1' });
  assert.deepEqual(json.node.metadata.POD_PORTS, [{ containerPort: 80 }]);
});
