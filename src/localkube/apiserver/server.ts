// The API server of localkube: opens the store, boots the cluster's objects, listens. Called by wiring.ts.
import { chmodSync, mkdirSync } from 'node:fs';
import { createServer, type Server } from 'node:https';
import { connect, type Server as NetServer, type Socket } from 'node:net';
import { join } from 'node:path';
import type { KubeClient, ResourceType } from '../../base/kube/types.ts';
import type { Clock } from '../../base/runtime/clock.ts';
import type { Logger } from '../../base/runtime/log.ts';
import { type NodeBackend, NodeError } from '../node-backend.ts';
import { openStore, type Store } from '../store/store.ts';
import { createTokenIssuer } from './auth/tokens.ts';
import { bootstrap, type KubernetesService } from './bootstrap.ts';
import type { AccountSecrets, Core } from './core.ts';
import { followCrds } from './crd-watch.ts';
import { verbsOf } from './discovery.ts';
import { expireEvents } from './event-expiry.ts';
import { type HandlerServices, handleRequest, handleUpgrade } from './http/handler.ts';
import { writeKubeconfigFile } from './kubeconfig.ts';
import { createLocalClient } from './local-client.ts';
import { type ClusterPki, type KeyAndCertificate, openPki } from './pki.ts';
import { createRegistry, type Registry } from './resources.ts';
import {
  createOpenApi,
  createSchemaRegistry,
  loadGeneratedSchemas,
  type OpenApi,
  type SchemaRegistry,
} from './schema/index.ts';
import { createStreaming, type Streaming } from './streaming/index.ts';
import { createWebhookCaller, type Dial } from './webhooks/call.ts';

const SERVICE_PREFIX = '10.96';
const NODE_PORT_FIRST = 30_000;
const NODE_PORT_LAST = 32_767;
const MAX_CONNECTIONS = 4096;
/** Longer than any client keeps an idle connection, so that the server never closes one that is being used again. */
const KEEP_ALIVE_MS = 120_000;
const SERVICE_NAMES = [
  'kubernetes',
  'kubernetes.default',
  'kubernetes.default.svc',
  'kubernetes.default.svc.cluster.local',
];

export interface ApiServerOptions {
  readonly dataDir: string;
  readonly clock: Clock;
  readonly log: Logger;
  /** On `address`; 0 takes a free one. */
  readonly port: number;
  /** Default 127.0.0.1. */
  readonly address?: string;
  /** The same API on other listeners: each is given a server of its own to listen with. */
  readonly listenExtra?: readonly { readonly listen: (server: NetServer) => Promise<void> }[];
  /** TCP from where ClusterIPs work, for webhooks. Default: plain connections of this process. */
  readonly dial?: Dial;
  readonly kubernetesService?: KubernetesService;
  readonly extraSans?: readonly string[];
  readonly backend?: NodeBackend;
  /** For tests: the built-in schemas from elsewhere. */
  readonly schemas?: SchemaRegistry;
}

export interface ApiServer {
  readonly client: KubeClient;
  readonly caPem: string;
  readonly port: number;
  readonly url: string;
  /** Every kind that can be listed and watched now. */
  readonly resourceTypes: () => Promise<readonly ResourceType[]>;
  setBackend(backend: NodeBackend): void;
  setDial(dial: Dial): void;
  /** Writes the admin's kubeconfig, context `meltemi`, mode 0600. */
  writeKubeconfig(path: string): void;
  /** A client certificate for another user. */
  issueClient(user: string, groups: readonly string[]): KeyAndCertificate;
  close(): Promise<void>;
}

/** The address is taken: `code` EADDRINUSE. */
export class ListenError extends Error {
  readonly code: string;
  readonly port: number;
  constructor(code: string, port: number, message: string, cause: unknown) {
    super(message, { cause });
    this.name = 'ListenError';
    this.code = code;
    this.port = port;
  }
}

/** Rejects with {@link ListenError} when the port cannot be had, with StoreError when the state cannot be read. */
export async function startApiServer(options: ApiServerOptions): Promise<ApiServer> {
  mkdirSync(options.dataDir, { recursive: true, mode: 0o700 });
  const pki = openPki(join(options.dataDir, 'pki'), options.clock);
  const path = join(options.dataDir, 'state.db');
  const store = openStore({ path });
  chmodSync(path, 0o600);
  try {
    return await startWithStore(options, pki, store);
  } catch (error) {
    store.close();
    throw error;
  }
}

interface Switches {
  dial: Dial;
  backend: NodeBackend | undefined;
}

async function startWithStore(options: ApiServerOptions, pki: ClusterPki, store: Store): Promise<ApiServer> {
  const switches: Switches = { dial: options.dial ?? plainDial, backend: options.backend };
  const tokens = createTokenIssuer(store, options.clock, pki.serviceAccountKey);
  const core = createCore(options, store, switches, { caPem: pki.caPem, token: tokens.legacy });
  const stopCrds = followCrds(core);
  const stopExpiry = expireEvents(core);
  const dispatcher = { core, tokens };
  const backend = delegatingBackend(switches);
  let streaming: Streaming | undefined;
  let openApi: OpenApi | undefined;
  const services: HandlerServices = {
    core,
    tokens,
    dispatcher,
    backend,
    streaming: () => {
      streaming ??= createStreaming(backend);
      return streaming;
    },
    openApi: () => {
      openApi ??= createOpenApi(core.schemas, () =>
        core.registry.all().map((def) => ({ ...def, verbs: verbsOf(def) })),
      );
      return openApi;
    },
  };
  const address = options.address ?? '127.0.0.1';
  const serving = pki.issueServer([
    ...SERVICE_NAMES,
    'localhost',
    '127.0.0.1',
    ...(address === '127.0.0.1' ? [] : [address]),
    ...(options.kubernetesService ? [options.kubernetesService.ip] : []),
    ...(options.extraSans ?? []),
  ]);
  const servers: Server[] = [];
  const makeServer = (): Server => {
    const server = httpsServer(services, pki, serving);
    servers.push(server);
    return server;
  };
  const closeAll = async (): Promise<void> => {
    stopCrds();
    stopExpiry();
    streaming?.close();
    await Promise.all(servers.map(closeServer));
  };
  try {
    // The port first: a second start must fail before it changes anything.
    const port = await listen(makeServer(), address, options.port);
    await bootstrap(core, options.kubernetesService);
    for (const extra of options.listenExtra ?? []) await extra.listen(makeServer());
    const url = `https://${address}:${port}`;
    options.log.info('api server listens', { url });
    return {
      client: createLocalClient(dispatcher),
      caPem: pki.caPem,
      port,
      url,
      resourceTypes: async () => listable(core.registry),
      setBackend(next) {
        switches.backend = next;
      },
      setDial(next) {
        switches.dial = next;
      },
      writeKubeconfig: (path) =>
        writeKubeconfigFile(path, url, pki.caPem, pki.issueClient('meltemi:admin', ['system:masters'])),
      issueClient: pki.issueClient,
      async close() {
        await closeAll();
        store.close();
      },
    };
  } catch (error) {
    await closeAll();
    throw error;
  }
}

function createCore(options: ApiServerOptions, store: Store, switches: Switches, accountSecrets: AccountSecrets): Core {
  return {
    accountSecrets,
    store,
    registry: createRegistry(),
    schemas: options.schemas ?? createSchemaRegistry(loadGeneratedSchemas),
    clock: options.clock,
    log: options.log,
    webhooks: createWebhookCaller({
      service: (namespace, name) => store.get('/services', namespace, name) as Record<string, unknown> | undefined,
      dial: (ip, port, timeoutMs) => switches.dial(ip, port, timeoutMs),
    }),
    serviceIps: { prefix: SERVICE_PREFIX, nodePortFirst: NODE_PORT_FIRST, nodePortLast: NODE_PORT_LAST },
  };
}

function listable(registry: Registry): readonly ResourceType[] {
  return registry.all().filter((def) => !def.ephemeral && def.group !== 'events.k8s.io');
}

function httpsServer(services: HandlerServices, pki: ClusterPki, serving: KeyAndCertificate): Server {
  const server = createServer(
    {
      key: serving.keyPem,
      cert: serving.certPem,
      ca: pki.caPem,
      requestCert: true,
      // Tokens are the other way in: who has no certificate is asked for one later.
      rejectUnauthorized: false,
      minVersion: 'TLSv1.2',
      ALPNProtocols: ['http/1.1'],
      keepAliveTimeout: KEEP_ALIVE_MS,
    },
    (request, response) => void handleRequest(services, request, response),
  );
  server.maxConnections = MAX_CONNECTIONS;
  server.on('upgrade', (request, socket, head) => {
    socket.on('error', () => socket.destroy());
    handleUpgrade(services, request, socket, head);
  });
  server.on('tlsClientError', () => {});
  return server;
}

function listen(server: Server, address: string, port: number): Promise<number> {
  return new Promise((done, fail) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      const taken = error.code === 'EADDRINUSE';
      fail(
        new ListenError(
          error.code ?? 'UNKNOWN',
          port,
          taken
            ? `port ${port} on ${address} is already in use: stop what listens there, or choose another port`
            : `cannot listen on ${address}:${port}: ${error.message}`,
          error,
        ),
      );
    });
    server.listen(port, address, () => {
      const bound = server.address();
      done(typeof bound === 'object' && bound ? bound.port : port);
    });
  });
}

function closeServer(server: Server): Promise<void> {
  return new Promise((done) => {
    server.close(() => done());
    server.closeAllConnections();
  });
}

function plainDial(ip: string, port: number, timeoutMs: number): Promise<Socket> {
  return new Promise((done, fail) => {
    const socket = connect({ host: ip, port, timeout: timeoutMs });
    socket.once('error', fail);
    socket.once('timeout', () => socket.destroy(Object.assign(new Error('i/o timeout'), { code: 'ETIMEDOUT' })));
    socket.once('connect', () => {
      socket.setTimeout(0);
      done(socket);
    });
  });
}

/** The kubelet comes after the API server; until then streams are refused. */
function delegatingBackend(switches: Switches): NodeBackend {
  const current = (): NodeBackend => {
    if (!switches.backend) throw new NodeError(503, 'the node of this cluster is not ready yet: try again in a moment');
    return switches.backend;
  };
  return {
    exec: async (request, io) => current().exec(request, io),
    attach: async (request, io) => current().attach(request, io),
    logs: async (request, write, signal) => current().logs(request, write, signal),
    portForward: async (request) => current().portForward(request),
  };
}
