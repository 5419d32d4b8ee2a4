// Puts istiod together from its parts and opens its ports. Called by main.ts, and by tests with ports of their own.
import type { Server as HttpServer } from 'node:http';
import type { AddressInfo, Server as NetServer } from 'node:net';
import { Server as GrpcServer, ServerCredentials } from '@grpc/grpc-js';
import { createInformer } from '../base/kube/informer.ts';
import type { KubeClient, KubeObject } from '../base/kube/types.ts';
import type { Clock } from '../base/runtime/clock.ts';
import { errorText, type Logger } from '../base/runtime/log.ts';
import { createMetrics } from '../base/runtime/metrics.ts';
import { createAuthenticators, type OidcOptions } from './ca/authenticators.ts';
import { addCaService } from './ca/ca-service.ts';
import type { CacertsDirectory } from './ca/cacerts.ts';
import { loadCertificateAuthority } from './ca/load.ts';
import { startRootDistributor } from './ca/root-distributor.ts';
import { CONFIG_MAPS, type KubeConfigMap } from './config/kinds.ts';
import { createConfigStore, type InformerFactory } from './config/store.ts';
import { createDebug, type DebugHandler } from './serve/debug.ts';
import { createDiscovery, type Discovery } from './serve/discovery.ts';
import { addDiscoveryService } from './serve/grpc.ts';
import {
  createControlZServer,
  createMonitoringServer,
  createReadyServer,
  type HttpOptions,
  htmlEscape,
} from './serve/http.ts';
import { createServeMetrics } from './serve/metrics.ts';
import { startPipeline } from './serve/pipeline.ts';
import { createServerCertificate } from './serve/server-certificate.ts';
import { keepCaBundles } from './webhook/ca-bundle.ts';
import { createLiveInjector, type InjectionTexts } from './webhook/live-injection.ts';
import { createWebhookServer } from './webhook/server.ts';

export interface IstiodPorts {
  readonly plaintext: number;
  readonly secure: number;
  readonly monitoring: number;
  readonly webhook: number;
  readonly http: number;
  readonly controlZ: number;
}

export interface IstiodOptions {
  readonly client: KubeClient;
  readonly clock: Clock;
  readonly log: Logger;
  /** Numbers in [0, 1). */
  readonly random: () => number;
  readonly randomBytes: (bytes: number) => Buffer;
  readonly ports: IstiodPorts;
  /** Where the servers listen; ControlZ always on loopback. */
  readonly host: string;
  readonly podName: string;
  readonly namespace: string;
  readonly revision: string;
  readonly clusterId: string;
  readonly domain: string;
  readonly version: string;
  readonly meshConfigMap: string;
  readonly injectorConfigMap: string;
  readonly cacerts?: CacertsDirectory;
  readonly debugOnHttp: boolean;
  readonly debounceQuietMs: number;
  readonly debounceMaxMs: number;
  readonly pushThrottle: number;
  /** TOKEN_AUDIENCES; absent: istio-ca. */
  readonly tokenAudiences?: readonly string[];
  /** JWT_RULE: service account tokens checked by an issuer's keys, for clusters without TokenReview. */
  readonly oidc?: OidcOptions;
  readonly nativeSidecars: boolean;
  /** Names of the environment variables that are set, for ControlZ. */
  readonly environmentNames: readonly string[];
}

export interface Istiod {
  readonly ports: IstiodPorts;
  readonly discovery: Discovery;
  close(): Promise<void>;
}

const GRPC_OPTIONS = {
  'grpc.keepalive_time_ms': 30_000,
  'grpc.keepalive_timeout_ms': 10_000,
  'grpc.max_receive_message_length': 4 * 1024 * 1024,
  'grpc.max_send_message_length': -1,
  'grpc.max_concurrent_streams': 100_000,
} as const;

export async function startIstiod(options: IstiodOptions): Promise<Istiod> {
  const { client, clock, log } = options;
  const closers: (() => void | Promise<void>)[] = [];
  const registry = createMetrics();
  const metrics = createServeMetrics(registry, options.version);
  const informer: InformerFactory = <T extends KubeObject>(type: Parameters<InformerFactory>[0], list = {}) =>
    createInformer<T>(client, type, { ...list, clock, log: log.scope('kube'), random: options.random });

  const discovery = createDiscovery({
    clock,
    log: log.scope('ads'),
    metrics,
    version: options.version,
    pushThrottle: options.pushThrottle,
  });
  const store = createConfigStore({
    client,
    informer,
    rootNamespace: options.namespace,
    meshConfigMap: options.meshConfigMap,
    log: log.scope('config'),
  });
  closers.push(() => store.close());
  const texts = watchTexts(options, informer, closers);
  const pipeline = startPipeline({
    store,
    discovery,
    domain: options.domain,
    clock,
    log: log.scope('ads'),
    metrics,
    debounceQuietMs: options.debounceQuietMs,
    debounceMaxMs: options.debounceMaxMs,
  });
  closers.push(() => pipeline.close());

  // /ready answers 503 from the first moment; it turns to 200 when everything below is done.
  let ready = false;
  let debugPages: DebugHandler | undefined;
  let authenticate: HttpOptions['authenticate'] = () => Promise.resolve({ kind: 'refused', why: ['starting'] });
  const http: HttpOptions = {
    ready: () => ready && discovery.ready(),
    metrics: () => registry.render(),
    versionLine: `meltemi-${options.version}-Clean\n`,
    debug: options.debugOnHttp
      ? (path, query, caller) =>
          debugPages ? debugPages(path, query, caller) : Promise.reject(new Error('istiod is starting'))
      : undefined,
    authenticate: (metadata, peer) => authenticate(metadata, peer),
    controlZ: () => controlZPage(options),
  };
  const httpPort = await listen(createReadyServer(http), options.ports.http, options.host, closers);
  const monitoring = await listen(createMonitoringServer(http), options.ports.monitoring, options.host, closers);
  const controlZ = await listen(createControlZServer(http), options.ports.controlZ, '127.0.0.1', closers);

  // The CA's trust domain must be the mesh's, so the mesh config is read first.
  await store.synced;
  const { trustDomain } = store.read().mesh;
  const authority = await loadCertificateAuthority({
    client,
    namespace: options.namespace,
    trustDomain,
    ...(options.cacerts ? { cacerts: options.cacerts } : {}),
    clock,
    random: options.randomBytes,
    log: log.scope('ca'),
    metrics: registry,
  });
  closers.push(() => authority.close());
  const authenticators = createAuthenticators({
    client,
    trustDomain,
    clock,
    issuersPem: () => authority.issuersPem(),
    clusterId: options.clusterId,
    ...(options.tokenAudiences ? { audiences: options.tokenAudiences } : {}),
    ...(options.oidc ? { oidc: options.oidc } : {}),
  });
  authenticate = authenticators;
  const certificate = await createServerCertificate(authority, dnsNames(options), log.scope('ca'));
  const distributor = startRootDistributor({
    client,
    ca: authority,
    clock,
    log: log.scope('ca'),
    random: options.random,
  });
  closers.push(() => distributor.close());

  debugPages = createDebug({
    discovery,
    store,
    rootNamespace: options.namespace,
    injection: () => ({ config: texts.config(), values: texts.values() }),
    istiodName: options.podName,
    version: options.version,
  });
  const pages = debugPages;
  discovery.setDebug(async (path, caller) => {
    if (!caller) throw new Error('debug requests need an authenticated connection (port 15012)');
    const url = new URL(path, 'http://istiod/');
    return (await pages(url.pathname.slice(1), url.searchParams, caller)).body;
  });

  const secure = new GrpcServer(GRPC_OPTIONS);
  addDiscoveryService(secure, {
    discovery,
    authenticate: authenticators,
    identifier: options.podName,
    log: log.scope('ads'),
  });
  addCaService(secure, { authority, authenticate: authenticators, log: log.scope('ca'), metrics: registry, clock });
  const plaintext = new GrpcServer(GRPC_OPTIONS);
  addDiscoveryService(plaintext, { discovery, identifier: options.podName, log: log.scope('ads') });
  const injector = createLiveInjector({
    texts,
    revision: options.revision,
    nativeSidecars: options.nativeSidecars,
    log: log.scope('injector'),
    metrics: registry,
  });
  const webhookServer = createWebhookServer({
    certificate,
    injector,
    log: log.scope('webhook'),
    validated(kind, response) {
      const labels = { group: kind.group, version: kind.version, resource: kind.kind };
      (response.allowed ? metrics.validationPassed : metrics.validationFailed).inc(labels);
    },
  });
  await pipeline.ready;
  const [securePort, plaintextPort, webhook] = await Promise.all([
    bind(secure, options.ports.secure, options.host, certificate.grpcCredentials(), closers),
    bind(plaintext, options.ports.plaintext, options.host, ServerCredentials.createInsecure(), closers),
    listen(webhookServer, options.ports.webhook, options.host, closers),
  ]);
  ready = true;
  closers.push(
    keepCaBundles({
      client,
      informer,
      certificate,
      namespace: options.namespace,
      injectorName: `istio-sidecar-injector${revisionSuffix(options)}`,
      validatorName: `istio-validator${revisionSuffix(options)}-${options.namespace}`,
      clock,
      log: log.scope('webhook'),
    }),
  );
  const ports = { plaintext: plaintextPort, secure: securePort, monitoring, webhook, http: httpPort, controlZ };
  log.info('istiod is ready', { ...ports, services: discovery.snapshot().services.length });
  return {
    ports,
    discovery,
    async close() {
      for (const close of closers.reverse()) await close();
    },
  };
}

function revisionSuffix(options: IstiodOptions): string {
  return options.revision === 'default' || options.revision === '' ? '' : `-${options.revision}`;
}

function dnsNames(options: IstiodOptions): readonly string[] {
  const names = ['istiod', 'istiod-remote', 'istio-pilot'].map((n) => `${n}.${options.namespace}.svc`);
  const suffix = revisionSuffix(options);
  return suffix === '' ? names : [...names, `istiod${suffix}.${options.namespace}.svc`];
}

/** The injector's ConfigMap and the mesh config as texts, kept current. */
function watchTexts(options: IstiodOptions, informer: InformerFactory, closers: (() => void)[]): InjectionTexts {
  const watch = (name: string) => {
    const made = informer<KubeConfigMap>(CONFIG_MAPS, {
      namespace: options.namespace,
      fieldSelector: `metadata.name=${name}`,
    });
    closers.push(() => made.close());
    return (key: string) => made.get(options.namespace, name)?.data?.[key] ?? '';
  };
  const injector = watch(options.injectorConfigMap);
  const mesh = watch(options.meshConfigMap);
  return { config: () => injector('config'), values: () => injector('values'), mesh: () => mesh('mesh') };
}

function listen(
  server: NetServer | HttpServer,
  port: number,
  host: string,
  closers: (() => void | Promise<void>)[],
): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once('error', (error) => reject(new Error(`cannot listen on ${host}:${port}: ${errorText(error)}`)));
    server.listen(port, host, () => {
      closers.push(() => {
        server.close();
        if ('closeAllConnections' in server) server.closeAllConnections();
      });
      resolve((server.address() as AddressInfo).port);
    });
  });
}

function bind(
  server: GrpcServer,
  port: number,
  host: string,
  credentials: ServerCredentials,
  closers: (() => void)[],
): Promise<number> {
  return new Promise((resolve, reject) => {
    server.bindAsync(`${host}:${port}`, credentials, (error, bound) => {
      if (error) return reject(new Error(`cannot listen on ${host}:${port}: ${error.message}`));
      closers.push(() => server.forceShutdown());
      resolve(bound);
    });
  });
}

function controlZPage(options: IstiodOptions): string {
  const rows = [
    ['version', options.version],
    ['pod', `${options.podName}.${options.namespace}`],
    ['revision', options.revision],
    ['cluster', options.clusterId],
    ['domain', options.domain],
    ['environment variables set', options.environmentNames.join(', ')],
  ].map(([k, v]) => `<tr><th align="left">${htmlEscape(k ?? '')}</th><td>${htmlEscape(v ?? '')}</td></tr>`);
  return `<!doctype html><title>ControlZ</title><h1>istiod</h1><table>${rows.join('')}</table>\n`;
}
