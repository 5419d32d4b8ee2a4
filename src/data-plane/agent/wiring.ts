// Puts the agent together: identity, SDS, xDS relay, bootstrap, proxy, status. Called by main.ts and, without a proxy, by tests.
import { mkdir, readFile } from 'node:fs/promises';
import type { Server } from 'node:http';
import path from 'node:path';
import type { Clock } from '../../base/runtime/clock.ts';
import { errorText, type Logger } from '../../base/runtime/log.ts';
import { createMetrics, type MetricsRegistry } from '../../base/runtime/metrics.ts';
import { istioSpiffeId, type SpiffeId } from '../../base/spiffe/spiffe-id.ts';
import { parseProbers } from './app-probe.ts';
import { buildBootstrap } from './bootstrap.ts';
import { createCaClient } from './ca-client.ts';
import { type Envoy, envoyArguments, startEnvoy } from './envoy.ts';
import { createFileSecrets, type FileSecrets } from './file-secrets.ts';
import { readText } from './http.ts';
import { provisionedCerts, upstreamOptions } from './identity-source.ts';
import { buildNode } from './node.ts';
import { type AgentOptions, UsageError } from './options.ts';
import { writeCerts, writeWhole } from './output-certs.ts';
import { createReadiness, READY_STATS_PATH } from './readiness.ts';
import { createScrape } from './scrape.ts';
import { type SdsServer, startSdsServer } from './sds-server.ts';
import { createSecretCache, type SecretCache } from './secret-cache.ts';
import { startDebugServer, startStatusServer } from './status-server.ts';
import { isSocketAlive } from './uds.ts';
import { createUpstream } from './upstream.ts';
import { startXdsRelay } from './xds-relay.ts';

const XDS_SOCKET = 'etc/istio/proxy/XDS';
const SDS_DIRECTORY = 'var/run/secrets/workload-spiffe-uds';
const BOOTSTRAP = 'etc/istio/proxy/envoy-rev.json';
const POD_INFO = 'etc/istio/pod';
const ENVOY_PROMETHEUS_PORT = 15_090;
const STATS_TIMEOUT_MS = 2000;

export interface AgentDependencies {
  /** What stands for `/`: tests give a directory of their own. */
  readonly root: string;
  readonly options: AgentOptions;
  readonly clock: Clock;
  /** Numbers in [0, 1). */
  readonly random: () => number;
  readonly log: Logger;
  /** The proxy's program; undefined: the agent runs none (tests). */
  readonly envoyCommand: string | undefined;
  /** 15004; 0 lets the system choose. */
  readonly debugPort: number;
  readonly onExit: (code: number) => void;
}

export interface Agent {
  /** SIGTERM: not ready, drain, wait, end the proxy, close. */
  terminate(): Promise<void>;
  readonly secrets: SecretCache | undefined;
  readonly metrics: MetricsRegistry;
  /** Where the debug questions are taken. */
  readonly debugPort: number;
}

/** Rejects when a socket or port cannot be had, or the environment makes no identity. */
export async function startAgent(deps: AgentDependencies): Promise<Agent> {
  const { options, clock, log, root } = deps;
  const closers: (() => void)[] = [];
  const metrics = createMetrics();
  const identity = workloadIdentity(options);
  const sdsSocket = path.join(root, SDS_DIRECTORY, options.socketFile);
  const xdsSocket = path.join(root, XDS_SOCKET);
  const node = buildNode(options, await readPodInfo(root));
  const { cache } = await startSecrets(deps, identity, sdsSocket, metrics, closers);

  const upstream = createUpstream(upstreamOptions(root, options, 'xds'));
  const connections = metrics.counter('istio_agent_xds_connections_total', 'xDS streams to istiod, by what happened.');
  const relay = await startXdsRelay({
    socketPath: xdsSocket,
    upstream,
    nodeId: node.id,
    clock,
    log: log.scope('xdsproxy'),
    onConnection: (event) => connections.inc({ event }),
  });
  closers.push(() => relay.close(), upstream.close);

  const readiness = createReadiness({ readStats: () => readAdmin(options.adminPort, READY_STATS_PATH) });
  const bootstrap = path.join(root, BOOTSTRAP);
  await mkdir(path.dirname(bootstrap), { recursive: true });
  const config = buildBootstrap(node, options, { xds: xdsSocket, sds: sdsSocket });
  await writeWhole(bootstrap, `${JSON.stringify(config, null, 2)}\n`, 0o644);

  let envoy: Envoy | undefined;
  const exit = (code: number): void => {
    for (const close of closers) close();
    deps.onExit(code);
  };
  const quit = (): void => {
    readiness.terminating();
    Promise.resolve(envoy?.quit()).finally(() => exit(0));
  };
  const status = await startStatusServer({
    port: options.statusPort,
    readiness,
    probers: parseProbers(options.appProbers),
    podIp: options.instanceIp || '127.0.0.1',
    metrics: withExpiry(
      metrics,
      cache,
      clock,
      createScrape({
        metrics,
        envoyPort: ENVOY_PROMETHEUS_PORT,
        annotations: options.prometheus,
        podIp: options.instanceIp || '127.0.0.1',
        log,
      }),
    ),
    onQuit: quit,
    onDrain: async () => envoy?.drain(),
    log: log.scope('status'),
  });
  const debug = await startDebugServer({ port: deps.debugPort, debug: relay.debug, log });
  closers.push(
    () => status.close(),
    () => debug.close(),
  );

  if (deps.envoyCommand !== undefined) envoy = await launch(deps, deps.envoyCommand, bootstrap, exit);
  return {
    secrets: cache,
    metrics,
    debugPort: portOf(debug),
    async terminate() {
      log.info('agent is terminating');
      readiness.terminating();
      await envoy?.terminate();
      exit(0);
    },
  };
}

function portOf(server: Server): number {
  const address = server.address();
  return typeof address === 'object' && address !== null ? address.port : 0;
}

function workloadIdentity(options: AgentOptions): SpiffeId {
  const id = istioSpiffeId(options.trustDomain, options.namespace, options.serviceAccount);
  if (id.kind === 'ok') return id.value;
  const why = id.diagnostics.map((d) => d.message).join('; ');
  throw new UsageError(`TRUST_DOMAIN, POD_NAMESPACE and SERVICE_ACCOUNT make no identity: ${why}`);
}

/** SDS, and behind it the certificates from istiod unless somebody else provides them. */
async function startSecrets(
  deps: AgentDependencies,
  identity: SpiffeId,
  socketPath: string,
  metrics: MetricsRegistry,
  closers: (() => void)[],
): Promise<{ readonly cache: SecretCache | undefined; readonly sds: SdsServer | undefined }> {
  const { options, clock, log, root } = deps;
  const readFailures = metrics.counter('istio_agent_num_file_secret_failures_total', 'File secrets not readable.');
  const watchFailures = metrics.counter('istio_agent_num_file_watcher_failures_total', 'Directories not watchable.');
  const files: FileSecrets = createFileSecrets({
    root,
    clock,
    log: log.scope('sds'),
    debounceMs: options.fileDebounceMs,
    onReadFailure: () => readFailures.inc(),
    onWatchFailure: () => watchFailures.inc(),
  });
  closers.push(() => files.close());
  if (await isSocketAlive(socketPath)) {
    log.info('another process serves workload certificates: the agent uses its socket', { socket: socketPath });
    return { cache: undefined, sds: undefined };
  }
  const aliases = await provisionedCerts(root);
  const cache = aliases ? undefined : createCache(deps, identity, metrics, closers);
  if (aliases) log.info('workload certificates are files: no CSR is sent', aliases);
  const sds = await startSdsServer({ socketPath, cache, aliases, files, clock, log: log.scope('sds') });
  closers.push(() => sds.close());
  if (cache && options.outputCerts !== undefined) followOutput(cache, options, root, log);
  cache?.prewarm();
  return { cache, sds };
}

function createCache(
  deps: AgentDependencies,
  identity: SpiffeId,
  metrics: MetricsRegistry,
  closers: (() => void)[],
): SecretCache {
  const { options, clock, random, log } = deps;
  const requests = metrics.counter('istio_agent_num_outgoing_requests', 'Requests to the CA.');
  const failures = metrics.counter('istio_agent_num_failed_outgoing_requests', 'Requests to the CA that failed.');
  const latency = metrics.gauge('istio_agent_outgoing_latency', 'The last request to the CA, milliseconds.');
  const upstream = createUpstream(upstreamOptions(deps.root, options, 'ca'));
  const labels = { request_type: 'csr' };
  const ca = createCaClient({
    upstream,
    clock,
    random,
    log: log.scope('citadelclient'),
    onAttempt({ ok, ms }) {
      requests.inc(labels);
      if (!ok) failures.inc(labels);
      latency.set(ms, labels);
    },
  });
  const cache = createSecretCache({
    ca,
    identity,
    keyKind: options.keyKind,
    keyForm: options.keyForm,
    ttlSeconds: options.secretTtlSeconds,
    graceRatio: options.graceRatio,
    graceJitter: options.graceJitter,
    clock,
    random,
    log: log.scope('cache'),
  });
  closers.push(() => cache.close(), upstream.close);
  return cache;
}

function followOutput(cache: SecretCache, options: AgentOptions, root: string, log: Logger): void {
  const mode = options.env.KUBERNETES_SERVICE_HOST ? 0o644 : 0o600;
  const directory = path.resolve(root, options.outputCerts ?? '');
  cache.onChange((change, secret) => {
    if (change !== 'default') return;
    writeCerts(directory, secret, mode).catch((error) =>
      log.error('cannot write OUTPUT_CERTS', { directory, error: errorText(error) }),
    );
  });
}

function withExpiry(
  metrics: MetricsRegistry,
  cache: SecretCache | undefined,
  clock: Clock,
  scrape: () => Promise<string>,
): () => Promise<string> {
  const expiry = metrics.gauge('istio_agent_cert_expiry_seconds', 'Seconds left to the certificate.');
  return () => {
    const secret = cache?.peek();
    if (secret) expiry.set(Math.round((secret.expiresAt - clock.now()) / 1000), { resource_name: 'default' });
    return scrape();
  };
}

async function launch(
  deps: AgentDependencies,
  command: string,
  bootstrap: string,
  onExit: (code: number) => void,
): Promise<Envoy> {
  const { options, clock, random, log } = deps;
  return startEnvoy({
    command,
    args: envoyArguments({
      config: bootstrap,
      drainSeconds: options.drainDurationSeconds,
      logLevel: options.proxyLogLevel,
      componentLogLevel: options.componentLogLevel,
      concurrency: options.concurrency,
      configYaml: await bootstrapOverride(options),
    }),
    env: options.env,
    adminPort: options.adminPort,
    role: options.role,
    terminationDrainMs: options.terminationDrainMs,
    exitOnZeroConnections: options.exitOnZeroConnections,
    minimumDrainMs: options.minimumDrainMs,
    clock,
    random,
    log: log.scope('envoy'),
    onExit,
  });
}

async function bootstrapOverride(options: AgentOptions): Promise<string | undefined> {
  if (options.bootstrapOverride === undefined) return undefined;
  const text = await readFile(options.bootstrapOverride, 'utf8').catch((error) => {
    throw new UsageError(`cannot read ISTIO_BOOTSTRAP_OVERRIDE: ${errorText(error)}`);
  });
  return text.replaceAll('$(HOST_IP)', options.hostIp);
}

async function readPodInfo(root: string) {
  const read = (name: string) => readFile(path.join(root, POD_INFO, name), 'utf8').catch(() => '');
  const [labels, annotations] = await Promise.all([read('labels'), read('annotations')]);
  return { labels, annotations };
}

async function readAdmin(port: number, what: string): Promise<string> {
  const answer = await readText({ method: 'GET', port, path: what, timeoutMs: STATS_TIMEOUT_MS });
  if (answer.status !== 200) throw new Error(`the proxy's admin port answered ${answer.status}`);
  return answer.body;
}
