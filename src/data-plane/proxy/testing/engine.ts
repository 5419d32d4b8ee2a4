// Engines, certificates, upstream applications and clients for the tests of this folder. Loopback only, ports by the kernel.
import assert from 'node:assert/strict';
import { createPublicKey, randomBytes } from 'node:crypto';
import { readFileSync, watch } from 'node:fs';
import { createServer, request as httpRequest, type IncomingHttpHeaders, type Server } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import type { TestContext } from 'node:test';
import type { JsonObject, JsonValue } from '@bufbuild/protobuf';
import { parse as parseYaml } from 'yaml';
import { systemClock } from '../../../base/runtime/clock.ts';
import { silentLog } from '../../../base/runtime/log.ts';
import { certificatePem, type Issuer, issueLeaf, issueRoot } from '../../../base/x509/certificate.ts';
import { altName } from '../../../base/x509/extensions.ts';
import { generateKey, writePrivateKey } from '../../../base/x509/keys.ts';
import { loadBootstrap } from '../config/bootstrap.ts';
import { Engine } from '../engine.ts';
import type { EngineDeps, EngineOptions } from '../engine-deps.ts';
import type { WatchedFiles } from '../xds/file-source.ts';

export const T = 'type.googleapis.com/';
const HOUR = 3_600_000;

export function load(config: JsonObject) {
  const source = { name: 'test', text: JSON.stringify(config), kind: 'json' as const };
  return loadBootstrap([source], { parseYaml: () => ({}), allowUnknownFields: false });
}

export interface TestEngine {
  readonly engine: Engine;
  /** Access log lines by file. */
  readonly lines: Map<string, string[]>;
  /** The port a listener got. */
  port(listener: string): number;
  counter(name: string): number;
}

/** Real files, watched as the real proxy does. */
const testFiles: WatchedFiles = {
  read: (path) => readFileSync(path),
  watch(directory, changed) {
    const watcher = watch(directory, { persistent: false }, () => changed());
    return () => watcher.close();
  },
  parseYaml: async (text) => parseYaml(text) as JsonValue,
};

export interface EngineParts {
  readonly deps?: Partial<EngineDeps>;
  readonly options?: Partial<EngineOptions>;
}

/** Starts an engine on `config`; it ends with the test. */
export async function startEngine(
  t: TestContext,
  config: JsonObject,
  live = true,
  more: EngineParts = {},
): Promise<TestEngine> {
  const made = makeEngine(t, config, more);
  await made.engine.start();
  if (live) await made.engine.whenLive();
  return made;
}

/** An engine that somebody else starts. */
export function makeEngine(t: TestContext, config: JsonObject, more: EngineParts = {}): TestEngine {
  const lines = new Map<string, string[]>();
  const engine = new Engine(
    load(config),
    {
      drainMs: 2_000,
      drainStrategy: 'immediate',
      logFlushMs: 1,
      logFlushBytes: 64 * 1024,
      statsTags: [],
      unknownFields: 'warn',
      commandLine: {},
      nodeZone: '',
      nodeId: '',
      nodeCluster: '',
      version: 'test',
      logLevel: { current: () => 'info', set: () => true, all: () => [], setOne: () => true },
      onQuit: () => {},
      ...more.options,
    },
    {
      clock: systemClock,
      random: Math.random,
      log: silentLog,
      reader: {
        file: (path) => {
          throw new Error(path);
        },
        variable: () => undefined,
      },
      files: {
        append(path, bytes, done) {
          const list = lines.get(path) ?? [];
          lines.set(path, list);
          list.push(
            ...bytes
              .toString()
              .split('\n')
              .filter((line) => line !== ''),
          );
          done(undefined);
        },
        open() {},
        reopen() {},
      },
      resolve: async () => ({ addresses: ['127.0.0.1'], ttlMs: undefined }),
      memory: { heapBytes: () => 0, cgroup: () => undefined, shrink() {} },
      hostname: 'host.test',
      localAddress: '192.0.2.1',
      runtimeFiles: { list: () => undefined, read: () => '', watch: () => () => {} },
      watchedFiles: testFiles,
      ...more.deps,
    },
  );
  t.after(() => engine.stop());
  return {
    engine,
    lines,
    port(name) {
      const address = engine.listeners.views().find((view) => view.name === name)?.bound[0];
      assert.ok(address?.kind === 'ip', `listener ${name} is not bound`);
      return address.port;
    },
    counter: (name) => engine.stats.counters.get(name)?.value ?? engine.stats.gauges.get(name)?.value ?? 0,
  };
}

/** Waits, without sleeping a fixed time, until `test` is true. */
export async function until(test: () => boolean, what: string, ms = 10_000): Promise<void> {
  const deadline = Date.now() + ms;
  while (!test()) {
    if (Date.now() > deadline) throw new Error(`did not happen in ${ms} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

// --- configuration pieces

export const socketAddress = (port: number, address = '127.0.0.1'): JsonObject => ({
  socket_address: { address, port_value: port },
});

export function staticCluster(name: string, ports: readonly number[], extra: JsonObject = {}): JsonObject {
  return {
    name,
    type: 'STATIC',
    connect_timeout: '2s',
    load_assignment: {
      cluster_name: name,
      endpoints: [{ lb_endpoints: ports.map((port) => ({ endpoint: { address: socketAddress(port) } })) }],
    },
    ...extra,
  };
}

export function typed(name: string, type: string, config: JsonObject = {}): JsonObject {
  return { name, typed_config: { '@type': T + type, ...config } };
}

export const ROUTER = typed('envoy.filters.http.router', 'envoy.extensions.filters.http.router.v3.Router');

export function routes(list: readonly JsonObject[], extra: JsonObject = {}): JsonObject {
  return {
    name: 'r',
    virtual_hosts: [{ name: 'all', domains: ['*'], routes: [...list], ...extra }],
    // Some tests want a route to nowhere, others get their clusters later.
    validate_clusters: false,
  };
}

export const toCluster = (cluster: string, extra: JsonObject = {}): JsonObject => ({
  match: { prefix: '/' },
  route: { cluster, timeout: '10s', ...extra },
});

export function hcm(routeConfig: JsonValue, extra: JsonObject = {}): JsonObject {
  return typed(
    'envoy.filters.network.http_connection_manager',
    'envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager',
    { stat_prefix: 'test', route_config: routeConfig, http_filters: [ROUTER], stream_idle_timeout: '0s', ...extra },
  );
}

export function tcpProxy(cluster: string, extra: JsonObject = {}): JsonObject {
  return typed('envoy.filters.network.tcp_proxy', 'envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy', {
    stat_prefix: 'tcp',
    cluster,
    ...extra,
  });
}

export function listener(name: string, chains: readonly JsonObject[], extra: JsonObject = {}): JsonObject {
  return { name, address: socketAddress(0), filter_chains: [...chains], ...extra };
}

export const INSPECTORS: JsonObject = {
  listener_filters: [
    typed('envoy.filters.listener.tls_inspector', 'envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector'),
    typed('envoy.filters.listener.http_inspector', 'envoy.extensions.filters.listener.http_inspector.v3.HttpInspector'),
  ],
};

export function fileLog(path: string, format: string): JsonObject {
  return typed('envoy.access_loggers.file', 'envoy.extensions.access_loggers.file.v3.FileAccessLog', {
    path,
    log_format: { text_format_source: { inline_string: format } },
  });
}

export function bootstrap(
  listeners: readonly JsonObject[],
  clusters: readonly JsonObject[],
  extra: JsonObject = {},
): JsonObject {
  return { static_resources: { listeners: [...listeners], clusters: [...clusters] }, ...extra };
}

// --- certificates

export interface Identity {
  readonly certificate: string;
  readonly key: string;
}

export interface Ca {
  readonly issuer: Issuer;
  readonly pem: string;
  issue(uri: string, ttlMs?: number): Promise<Identity>;
}

export async function createCa(): Promise<Ca> {
  const key = await generateKey('p256');
  const now = Date.now();
  const certificate = await issueRoot({
    key,
    organization: 'cluster.local',
    now,
    ttlMs: 1000 * HOUR,
    random: randomBytes,
  });
  const issuer = { certificate, key };
  return {
    issuer,
    pem: certificatePem(certificate),
    async issue(uri, ttlMs = HOUR) {
      const leafKey = await generateKey('p256');
      const leaf = await issueLeaf(issuer, {
        publicKey: createPublicKey(leafKey),
        names: [altName(uri)],
        now: Date.now(),
        ttlMs,
        random: randomBytes,
      });
      return { certificate: certificatePem(leaf), key: writePrivateKey(leafKey, 'pkcs8') };
    },
  };
}

export function commonTls(
  identity: Identity | undefined,
  ca: string,
  sans: readonly JsonObject[],
  extra: JsonObject = {},
): JsonObject {
  return {
    ...(identity
      ? {
          tls_certificates: [
            {
              certificate_chain: { inline_string: identity.certificate },
              private_key: { inline_string: identity.key },
            },
          ],
        }
      : {}),
    validation_context: {
      trusted_ca: { inline_string: ca },
      match_typed_subject_alt_names: sans.map((matcher) => ({ san_type: 'URI', matcher })),
    },
    ...extra,
  };
}

export function serverTls(common: JsonObject): JsonObject {
  return typed('envoy.transport_sockets.tls', 'envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext', {
    require_client_certificate: true,
    common_tls_context: common,
  });
}

export function clientTls(common: JsonObject, extra: JsonObject = {}): JsonObject {
  return typed('envoy.transport_sockets.tls', 'envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext', {
    common_tls_context: common,
    ...extra,
  });
}

// --- applications and clients

export interface App {
  readonly port: number;
  readonly seen: { method: string; url: string; headers: IncomingHttpHeaders; body: string }[];
}

/** Answers every request with `name` and remembers it; `answer` may do otherwise. */
export async function startApp(
  t: TestContext,
  name: string,
  answer?: (
    request: App['seen'][number],
  ) => { status?: number; headers?: Record<string, string>; body?: string } | 'destroy',
): Promise<App> {
  const seen: App['seen'] = [];
  const server: Server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const entry = {
        method: request.method ?? '',
        url: request.url ?? '',
        headers: request.headers,
        body: Buffer.concat(chunks).toString('latin1'),
      };
      seen.push(entry);
      const reply = answer?.(entry) ?? {};
      if (reply === 'destroy') return request.socket.destroy();
      response.writeHead(reply.status ?? 200, { 'content-type': 'text/plain', ...reply.headers });
      return response.end(reply.body ?? name);
    });
  });
  const port = await listen(t, server);
  return { port, seen };
}

export async function listen(
  t: TestContext,
  server: { listen: Server['listen']; close: Server['close']; address: Server['address'] },
): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', () => resolve()));
  t.after(() => {
    server.close();
    (server as Partial<Server>).closeAllConnections?.();
  });
  return (server.address() as AddressInfo).port;
}

export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

export interface Ask {
  readonly method?: string;
  readonly headers?: Record<string, string>;
  readonly body?: string | Buffer;
  readonly agent?: import('node:http').Agent;
}

/** One request by Node's own client. Rejects with the socket's error code. */
export function ask(port: number, path = '/', options: Ask = {}): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const request = httpRequest(
      {
        host: '127.0.0.1',
        port,
        path,
        method: options.method ?? 'GET',
        headers: options.headers,
        agent: options.agent ?? false,
      },
      (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('error', reject);
        response.on('end', () =>
          resolve({
            status: response.statusCode ?? 0,
            headers: response.headers,
            body: Buffer.concat(chunks).toString('latin1'),
          }),
        );
      },
    );
    request.on('error', reject);
    request.end(options.body);
  });
}

/** Sends raw bytes and collects everything until the connection ends or `enough` says so. */
export function raw(
  port: number,
  bytes: string | Buffer,
  enough: (text: string) => boolean = () => false,
): Promise<{ text: string; error: string }> {
  return new Promise((resolve) => {
    const socket: Socket = connect(port, '127.0.0.1', () =>
      socket.write(typeof bytes === 'string' ? Buffer.from(bytes, 'latin1') : bytes),
    );
    let text = '';
    let error = '';
    const finish = () => {
      socket.destroy();
      resolve({ text, error });
    };
    socket.on('data', (chunk: Buffer) => {
      text += chunk.toString('latin1');
      if (enough(text)) finish();
    });
    socket.on('error', (problem: NodeJS.ErrnoException) => {
      error = problem.code ?? problem.message;
    });
    socket.on('end', finish);
    socket.on('close', finish);
  });
}
