// Puts the embedded Kubernetes together: network → API server → controllers → kubelet → DNS and Services.
// Called by main.ts.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import type { Server } from 'node:net';
import path from 'node:path';
import type { Clock } from '../base/runtime/clock.ts';
import type { Logger } from '../base/runtime/log.ts';
import { createSchemaRegistry, loadGeneratedSchemas } from './apiserver/schema/index.ts';
import { type ApiServer, ListenError, startApiServer } from './apiserver/server.ts';
import { startControllers } from './controllers/start.ts';
import { startDns } from './dns/dns-server.ts';
import { removeAllContainers } from './kubelet/remove-all.ts';
import { startKubelet } from './kubelet/start.ts';
import { type LocalNodeNetwork, removeNetwork, startNodeNetwork } from './network/node-network.ts';
import { startServiceProxy } from './network/service-proxy.ts';

export interface LocalKubeOptions {
  /** Absolute, real path; mode 0700. */
  readonly home: string;
  readonly repoRoot: string;
  readonly nodeBinary: string;
  readonly instance: string;
  /** Absent: 6443, or a free port when that is taken. */
  readonly apiPort: number | undefined;
  readonly clock: Clock;
  readonly log: Logger;
  readonly random: () => number;
  readonly onStep: (text: string) => void;
}

export interface LocalKube {
  readonly apiPort: number;
  readonly instance: string;
  /** Ends all pods and removes namespaces, rules and mounts; the state stays on disk. */
  stop(): Promise<void>;
}

export const CLUSTER_DOMAIN = 'cluster.local';
export const NODE_NAME = 'meltemi';
const SCHEMAS = 'generated/kubernetes/schemas.json';
const KUBERNETES_SERVICE = { ip: '10.96.0.1', port: 443 } as const;
const API_PORT_IN_NODE = 6443;
const DEFAULT_API_PORT = 6443;
const DEFAULT_SEARCH_PATH = '/usr/sbin:/usr/bin:/sbin:/bin';

export async function startLocalKube(options: LocalKubeOptions): Promise<LocalKube> {
  const { home, clock, log, random } = options;
  const dataDir = path.join(home, 'localkube');
  mkdirSync(dataDir, { recursive: true, mode: 0o700 });
  options.onStep('network');
  const network = await startNodeNetwork({ instance: options.instance, log: log.scope('network'), clock });
  options.onStep('api server');
  const api = await startApi(options, dataDir, network);
  options.onStep('controllers and node');
  const controllers = startControllers({
    client: api.client,
    clock,
    log: log.scope('controllers'),
    random,
    caPem: api.caPem,
    resourceTypes: api.resourceTypes,
  });
  const dns = await startDns({
    client: api.client,
    network,
    clusterDomain: CLUSTER_DOMAIN,
    clock,
    log: log.scope('dns'),
  });
  const services = startServiceProxy({ client: api.client, network, clock, log: log.scope('services') });
  const kubelet = await startKubelet({
    client: api.client,
    network,
    home,
    repoRoot: options.repoRoot,
    nodeBinary: options.nodeBinary,
    searchPath: process.env.PATH ?? DEFAULT_SEARCH_PATH,
    clusterDomain: CLUSTER_DOMAIN,
    nodeName: NODE_NAME,
    apiServer: { host: KUBERNETES_SERVICE.ip, port: KUBERNETES_SERVICE.port },
    clock,
    log: log.scope('kubelet'),
    random,
  });
  api.setBackend(kubelet.backend);
  api.writeKubeconfig(path.join(home, 'kubeconfig'));
  return {
    apiPort: api.port,
    instance: options.instance,
    async stop() {
      await kubelet.close();
      await controllers.close();
      services.close();
      await dns.close();
      await removeAllContainers(home);
      await api.close();
      await network.close();
      removeNetwork(options.instance);
    },
  };
}

async function startApi(options: LocalKubeOptions, dataDir: string, network: LocalNodeNetwork): Promise<ApiServer> {
  const common = {
    dataDir,
    schemas: createSchemaRegistry(() => loadGeneratedSchemas(path.join(options.repoRoot, SCHEMAS))),
    clock: options.clock,
    log: options.log.scope('apiserver'),
    dial: network.dial,
    kubernetesService: { ...KUBERNETES_SERVICE, endpointIp: network.nodeIp, endpointPort: API_PORT_IN_NODE },
    extraSans: [network.nodeIp],
    listenExtra: [{ listen: (server: Server) => network.listen(server, network.nodeIp, API_PORT_IN_NODE) }],
  };
  if (options.apiPort !== undefined) return startApiServer({ ...common, port: options.apiPort });
  // The port of last time first: kubeconfigs that were handed out stay right.
  const portFile = path.join(dataDir, 'api-port');
  const wanted = existsSync(portFile) ? Number(readFileSync(portFile, 'utf8')) : DEFAULT_API_PORT;
  const api = await startApiServer({ ...common, port: wanted }).catch((error: unknown) => {
    if (!(error instanceof ListenError) || error.code !== 'EADDRINUSE') throw error;
    options.log.warn('the API port is taken; another one is used', { port: wanted });
    return startApiServer({ ...common, port: 0 });
  });
  writeFileSync(portFile, String(api.port), { mode: 0o600 });
  return api;
}
