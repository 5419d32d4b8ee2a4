// One mesh under test, running: control plane, certificates, proxies, applications, on loopback. Called by run.ts.
import type { Server, Socket } from 'node:net';
import { performance } from 'node:perf_hooks';
import { stringify } from 'yaml';
import { errorText } from '../../base/runtime/log.ts';
import { type OfflineProblem, startOfflineControlPlane } from '../../control-plane/offline/wiring.ts';
import { type SdsServer, startOfflineSecrets } from '../../data-plane/offline/wiring.ts';
import { adaptResources, type EngineName } from './adapt.ts';
import { addressesOf } from './addresses.ts';
import { type App, type AppState, createApp } from './apps.ts';
import type { Authorities } from './authorities.ts';
import { proxyBootstrap } from './bootstrap.ts';
import { dial } from './engine-embedded.ts';
import { Fabric, type IpPort, type LoopbackPool } from './fabric.ts';
import type { MeshTest, TestRequest } from './format.ts';
import { MAX_LOG_LINES } from './limits.ts';
import { createNames, defaultGateway, type Names, namespaceOf } from './names.ts';
import { DOMAIN, hasProxy, meshObjects, ROOT_NAMESPACE, selects, type TestPod } from './objects.ts';
import { portsOf } from './ports.ts';
import type { RunningProxy, StartProxy } from './proxy.ts';
import { substituteCertificates } from './substitute.ts';

export interface LogLine {
  /** `<namespace>/<workload>` of the proxy. */
  readonly proxy: string;
  readonly text: string;
}

export interface MeshOptions {
  readonly engine: EngineName;
  readonly startProxy: StartProxy;
  readonly pool: LoopbackPool;
  readonly authorities: Authorities;
  /** An empty directory of this mesh, for sockets. */
  readonly directory: string;
}

export interface Mesh {
  readonly state: AppState;
  readonly logs: readonly LogLine[];
  readonly problems: readonly OfflineProblem[];
  connect(request: TestRequest): Promise<Socket>;
  readonly clientRoots: string;
  clientCert(name: string): { readonly certificatePem: string; readonly keyPem: string };
  close(): Promise<void>;
}

const READY_MS = 20_000;
/** The address of a client outside the cluster (TEST-NET-3). */
const OUTSIDE_IP = '203.0.113.10';

/** Rejects when the mesh does not get ready; everything started is stopped then. */
export async function startMesh(test: MeshTest, options: MeshOptions): Promise<Mesh> {
  const closers: (() => void | Promise<void>)[] = [];
  const close = async (): Promise<void> => {
    for (const run of closers.reverse()) await run();
  };
  try {
    return await start(test, options, closers, close);
  } catch (error) {
    await close();
    throw error;
  }
}

async function start(
  given: MeshTest,
  options: MeshOptions,
  closers: (() => void | Promise<void>)[],
  close: () => Promise<void>,
): Promise<Mesh> {
  const publicCa = await options.authorities.outside();
  const test: MeshTest = {
    ...given,
    resources: JSON.parse(await substituteInJson(JSON.stringify(given.resources), publicCa)) as MeshTest['resources'],
  };
  const addresses = addressesOf(test.services, test.workloads);
  const names = createNames(test, addresses);
  const { objects, pods } = meshObjects(test, addresses, (value) => stringify(value));
  const fabric = new Fabric(options.pool);
  closers.push(() => fabric.close());
  const logs: LogLine[] = [];
  const state: AppState = {
    arrived: [],
    script: [],
    serverFirst: false,
    certificate: (serverName) => publicCa.issue([serverName]),
  };
  const proxies = new Map<string, RunningProxy>();
  for (const service of test.services) {
    const ip = addresses.clusterIps.get(`${service.namespace}/${service.name}`);
    const own = pods.filter((pod) => selects(service, pod));
    if (ip !== undefined)
      for (const { port, targetPort } of service.ports)
        fabric.virtual(
          { ip, port },
          own.map((pod) => ({ ip: pod.ip, port: targetPort })),
        );
  }
  const fronts = await serve(test, pods, names, fabric, state, proxies, closers);
  const byIp = new Map(pods.map((pod) => [pod.ip, pod]));
  const control = await startOfflineControlPlane({
    objects,
    rootNamespace: ROOT_NAMESPACE,
    domain: DOMAIN,
    adapt(resources, proxy, typeUrl) {
      const ip = proxy.ips.find((one) => byIp.has(one)) ?? '';
      return adaptResources(resources, typeUrl, {
        engine: options.engine,
        source: fabric.sourceOf(ip),
        reach: (at) => fabric.reach(at),
        resolve: names.external,
      });
    },
  });
  closers.push(() => control.close());
  const authority = await options.authorities.mesh(test.trustDomain);
  await all(
    pods
      .filter((pod) => hasProxy(pod.workload))
      .map(async (pod, i) => {
        const sdsPath = `${options.directory}/s${i}`;
        const sds: SdsServer = await startOfflineSecrets({
          socketPath: sdsPath,
          root: options.directory,
          secret: () =>
            authority.issueWorkload(
              `spiffe://${test.trustDomain}/ns/${pod.workload.namespace}/sa/${pod.workload.serviceAccount}`,
            ),
        });
        closers.push(() => sds.close());
        const said: string[] = [];
        const proxy = options.startProxy({
          pod,
          fabric,
          directory: options.directory,
          bootstrap: proxyBootstrap({
            pod,
            xdsPort: control.port,
            sdsPath,
            metadata: options.engine === 'envoy' ? { ENGINE: 'envoy' } : {},
          }),
          onLogLine(text) {
            if (logs.length < MAX_LOG_LINES) logs.push({ proxy: pod.key, text });
          },
          onMessage: (line) => void said.push(line.trim()),
          resolve: names.external,
        });
        proxies.set(pod.ip, proxy);
        closers.push(() => proxy.stop());
        await readyOf(proxy, pod, said);
      }),
  );
  const [refused] = control.rejections();
  if (refused !== undefined) throw new Error(refused);
  for (const { at, server, pod } of fronts) if (!proxies.get(pod.ip)?.serves(at.port)) fabric.unfront(at, server);
  const dialling = createDialling(test, pods, names, fabric, proxies, addresses.clusterIps);
  return {
    state,
    logs,
    problems: control.problems,
    connect: dialling,
    clientRoots: publicCa.rootPem,
    clientCert: (name) => secretPair(test, name),
    close,
  };
}

/** Waits for all even when one fails: what they started must be known before it is stopped. */
async function all(work: readonly Promise<unknown>[]): Promise<void> {
  const failed = (await Promise.allSettled(work)).find((w) => w.status === 'rejected');
  if (failed) throw failed.reason;
}

async function substituteInJson(
  json: string,
  authority: Parameters<typeof substituteCertificates>[1],
): Promise<string> {
  const escaped = (pem: string): string => JSON.stringify(pem).slice(1, -1);
  return substituteCertificates(json, {
    rootPem: escaped(authority.rootPem),
    async issue(hosts) {
      const issued = await authority.issue(hosts);
      return { certificatePem: escaped(issued.certificatePem), keyPem: escaped(issued.keyPem) };
    },
  });
}

function readyOf(proxy: RunningProxy, pod: TestPod, said: readonly string[]): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => {
      const why = said.slice(-5).join('\n  ') || 'it said nothing';
      reject(
        new Error(`the proxy of ${pod.workload.namespace}/${pod.name} (${proxy.engine}) did not get ready: ${why}`),
      );
    }, READY_MS);
  });
  const ended = proxy.ready.catch((error: unknown) => {
    const words = said.length > 0 ? `; it said: ${said.slice(-3).join('\n  ')}` : '';
    throw new Error(`the proxy of ${pod.workload.namespace}/${pod.name}: ${errorText(error)}${words}`);
  });
  return Promise.race([ended, late]).finally(() => clearTimeout(timer));
}

interface Front {
  readonly at: IpPort;
  readonly server: Server;
  readonly pod: TestPod;
}

/** Applications, and what stands before them: the proxy's capture, or nothing. */
async function serve(
  test: MeshTest,
  pods: readonly TestPod[],
  names: Names,
  fabric: Fabric,
  state: AppState,
  proxies: ReadonlyMap<string, RunningProxy>,
  closers: (() => void)[],
): Promise<readonly Front[]> {
  const fronts: Front[] = [];
  await Promise.all(
    pods.flatMap((pod) =>
      portsOf(test, pod, names).map(async (port) => {
        const at = { ip: pod.ip, port };
        if (pod.workload.image.kind !== 'gateway') {
          const app: App = createApp({ pod, port, state });
          closers.push(() => app.close());
          await fabric.app(at, (socket) => app.accept(socket));
          if (!hasProxy(pod.workload)) {
            await fabric.front(at, (socket) => {
              app.accept(socket);
              socket.resume();
            });
            return;
          }
        }
        const server = await fabric.front(at, (socket) => {
          if (!proxies.get(pod.ip)?.accept(socket, at)) socket.resetAndDestroy();
        });
        fronts.push({ at, server, pod });
      }),
    ),
  );
  return fronts;
}

/** How the connection of a request is made. */
function createDialling(
  test: MeshTest,
  pods: readonly TestPod[],
  names: Names,
  fabric: Fabric,
  proxies: ReadonlyMap<string, RunningProxy>,
  clusterIps: ReadonlyMap<string, string>,
): (request: TestRequest) => Promise<Socket> {
  const turns = new Map<string, number>();
  const rotate = <T>(key: string, list: readonly T[]): T | undefined => {
    const turn = turns.get(key) ?? 0;
    turns.set(key, turn + 1);
    return list[turn % list.length];
  };
  const gatewayAddress = (): readonly string[] => {
    const gateway = defaultGateway(test);
    const pod = pods.find((p) => p.key === gateway);
    const service = pod && test.services.find((s) => selects(s, pod));
    const ip = service && clusterIps.get(`${service.namespace}/${service.name}`);
    return ip !== undefined ? [ip] : pod ? [pod.ip] : [];
  };
  return async (request) => {
    const external = request.from === 'external';
    const known =
      request.resolveTo === undefined
        ? names.resolve(request.host, namespaceOf(request))
        : names.target(request.resolveTo, request.port);
    const candidates = known.length === 0 && external ? gatewayAddress() : known;
    const ip = rotate(`${request.from} ${request.host}`, candidates);
    if (ip === undefined)
      throw Object.assign(new Error(`the client cannot resolve the name ${request.resolveTo ?? request.host}`), {
        code: 'ENOTFOUND',
      });
    const destination = { ip, port: request.port };
    const from = pods.find((p) => p.key === request.from);
    const proxy = from && proxies.get(from.ip);
    if (proxy && from.workload.image.kind !== 'gateway') return proxy.connect(destination);
    const socket = await dial(
      fabric.reach(destination),
      fabric.sourceOf(external ? OUTSIDE_IP : (from?.ip ?? OUTSIDE_IP)),
    );
    fabric.track(socket);
    return socket;
  };
}

function secretPair(test: MeshTest, name: string): { readonly certificatePem: string; readonly keyPem: string } {
  const found = test.resources.find(
    ({ object }) => object.kind === 'Secret' && `${object.metadata.namespace}/${object.metadata.name}` === name,
  )?.object as { data?: Record<string, string>; stringData?: Record<string, string> } | undefined;
  const of = (key: string): string =>
    found?.stringData?.[key] ?? Buffer.from(found?.data?.[key] ?? '', 'base64').toString('utf8');
  return { certificatePem: of('tls.crt'), keyPem: of('tls.key') };
}

export const nowMs = (): number => performance.now();
