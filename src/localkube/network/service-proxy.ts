// Keeps the kernel of the node's namespace and the host's listeners in step with Services and EndpointSlices
// (what kube-proxy and a cloud's load balancer do). Started by localkube's wiring.
import { ENDPOINT_SLICES, type EndpointSlice } from '../../api/kubernetes/endpoint-slice.ts';
import { EVENTS, type Event } from '../../api/kubernetes/event.ts';
import { SERVICES, type Service } from '../../api/kubernetes/service.ts';
import { createInformer } from '../../base/kube/informer.ts';
import { type KubeClient, KubeError } from '../../base/kube/types.ts';
import { createBackoff } from '../../base/runtime/backoff.ts';
import type { Clock } from '../../base/runtime/clock.ts';
import { errorText, type Logger } from '../../base/runtime/log.ts';
import { createHostPorts, type HostPortFailure } from './host-ports.ts';
import { FIRST_POD_OCTET, LAST_POD_OCTET, type LocalNodeNetwork, POD_IP_PREFIX } from './node-network.ts';
import {
  compileServices,
  EMPTY_RULES,
  initialTable,
  isOurLoadBalancer,
  type RuleState,
  transition,
} from './service-rules.ts';

/** Changes that come within this time make one kernel transaction. */
const COALESCE_MS = 5;
const RETRY_BASE_MS = 200;
const RETRY_MAX_MS = 30_000;
/** How often a host port that was busy is tried again. */
const BUSY_PORT_RETRY_MS = 5_000;
/** Events told before; beyond that the memory starts anew and a warning may repeat. */
const MAX_TOLD = 1_000;
const MAX_NFT_OUTPUT = 16_384;
const LOAD_BALANCER_IP = '127.0.0.1';
const COMPONENT = 'meltemi-service-proxy';

export interface ServiceProxyOptions {
  readonly client: KubeClient;
  readonly network: LocalNodeNetwork;
  readonly clock: Clock;
  readonly log: Logger;
  /** For the jitter of retries. */
  readonly random?: () => number;
}

export interface ServiceProxy {
  /** Resolves once the first rules are in the kernel. */
  readonly ready: Promise<void>;
  /** Stops following; the rules stay in the kernel so that running pods keep talking. */
  close(): void;
}

export function startServiceProxy(options: ServiceProxyOptions): ServiceProxy {
  const { client, network, clock, log, random = Math.random } = options;
  const services = createInformer<Service>(client, SERVICES, { clock, log, random });
  const slices = createInformer<EndpointSlice>(client, ENDPOINT_SLICES, { clock, log, random });
  const hostPorts = createHostPorts(network, log);
  const backoff = createBackoff({ baseMs: RETRY_BASE_MS, maxMs: RETRY_MAX_MS, jitter: 0.1, random });
  const tell = createTeller(client, clock, log);
  /** What the kernel holds; undefined when that is not known. */
  let applied: RuleState | undefined;
  let timer: { readonly due: number; readonly cancel: () => void } | undefined;
  let running = false;
  let dirty = false;
  let closed = false;
  const { promise: ready, resolve: becomeReady } = Promise.withResolvers<void>();

  const schedule = (delayMs: number): void => {
    dirty = true;
    if (closed || running) return;
    const due = clock.now() + delayMs;
    // A change must not wait behind a retry that is far away.
    if (timer && timer.due <= due) return;
    timer?.cancel();
    const cancel = clock.after(delayMs, () => {
      timer = undefined;
      void run();
    });
    timer = { due, cancel };
  };
  const run = async (): Promise<void> => {
    running = true;
    dirty = false;
    let again: number | undefined;
    try {
      const busy = await step();
      backoff.reset();
      becomeReady();
      if (busy) again = BUSY_PORT_RETRY_MS;
    } catch (error) {
      applied = undefined;
      again = backoff.next();
      log.error('cannot program Services into the node', { error: errorText(error), retryMs: Math.round(again) });
    }
    running = false;
    if (dirty) schedule(COALESCE_MS);
    else if (again !== undefined) schedule(again);
  };
  const step = async (): Promise<boolean> => {
    const compiled = compileServices(services.list(), slices.list(), network);
    const started = applied;
    const text =
      (started ? '' : initialTable({ ...networkFacts(network), podIps: allPodIps() })) +
      transition(started ?? EMPTY_RULES, compiled.rules);
    if (text !== '') await runNft(network, text);
    applied = compiled.rules;
    if (closed) return false;
    const failures = await hostPorts.apply(compiled.hostPorts);
    for (const failure of failures) tell(failure.wanted.service, 'HostPortUnavailable', failure.message);
    for (const { service, message } of compiled.unsupported) tell(service, 'Unsupported', message);
    await Promise.all(
      services
        .list()
        .filter(needsIngress)
        .map((service) => publishIngress(client, service, log)),
    );
    return failures.some(isTemporary);
  };
  const start = async (): Promise<void> => {
    await Promise.all([services.synced, slices.synced]);
    if (closed) return;
    services.onChange(() => schedule(COALESCE_MS));
    slices.onChange(() => schedule(COALESCE_MS));
    schedule(0);
  };
  void start();
  return {
    ready,
    close() {
      closed = true;
      timer?.cancel();
      services.close();
      slices.close();
      hostPorts.close();
    },
  };
}

const isTemporary = (failure: HostPortFailure): boolean => failure.code === 'EADDRINUSE';

function networkFacts(network: LocalNodeNetwork) {
  const { nodeIp, clusterDnsIp, serviceCidr } = network;
  return { nodeIp, clusterDnsIp, serviceCidr };
}

function allPodIps(): string[] {
  const count = LAST_POD_OCTET - FIRST_POD_OCTET + 1;
  return Array.from({ length: count }, (_, i) => POD_IP_PREFIX + (FIRST_POD_OCTET + i));
}

/** Applies one transaction; all of it or nothing. Rejects with what nft said. */
function runNft(network: LocalNodeNetwork, text: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = network.spawnInNode('nft', ['-f', '-'], { stdio: ['pipe', 'ignore', 'pipe'] });
    let said = '';
    child.stderr?.on('data', (chunk: Buffer) => {
      if (said.length < MAX_NFT_OUTPUT) said += chunk.toString();
    });
    child.once('error', (error: NodeJS.ErrnoException) =>
      reject(error.code === 'ENOENT' ? new Error('nft is not installed: install the package nftables') : error),
    );
    child.once('close', (code) =>
      code === 0 ? resolve() : reject(new Error(`nft exited with ${code}: ${said.split('\n')[0] ?? ''}`)),
    );
    child.stdin?.on('error', () => {});
    child.stdin?.end(text);
  });
}

function needsIngress(service: Service): boolean {
  const ingress = service.status?.loadBalancer?.ingress ?? [];
  return isOurLoadBalancer(service) && ingress[0]?.ip !== LOAD_BALANCER_IP;
}

async function publishIngress(client: KubeClient, service: Service, log: Logger): Promise<void> {
  const { namespace, name } = service.metadata;
  const status = { status: { loadBalancer: { ingress: [{ ip: LOAD_BALANCER_IP }] } } };
  try {
    await client.patch<Service>(SERVICES, namespace, name, 'merge', status, { subresource: 'status' });
  } catch (error) {
    if (error instanceof KubeError && error.code === 404) return;
    log.warn('cannot publish the load balancer address', { service: `${namespace}/${name}`, error: errorText(error) });
  }
}

/** Writes a warning to the log and as an Event of the Service, each message once. */
function createTeller(client: KubeClient, clock: Clock, log: Logger) {
  const told = new Set<string>();
  return (service: Service, reason: string, message: string): void => {
    const { namespace = 'default', name, uid } = service.metadata;
    const key = `${namespace}/${name} ${message}`;
    if (told.has(key)) return;
    if (told.size >= MAX_TOLD) told.clear();
    told.add(key);
    log.warn(message, { service: `${namespace}/${name}` });
    const time = new Date(clock.now()).toISOString().replace(/\.\d+Z$/, 'Z');
    const event: Event = {
      apiVersion: 'v1',
      kind: 'Event',
      metadata: { name: `${name}.${clock.now().toString(16)}${told.size.toString(16).padStart(3, '0')}`, namespace },
      involvedObject: { apiVersion: 'v1', kind: 'Service', namespace, name, uid },
      reason,
      message,
      type: 'Warning',
      source: { component: COMPONENT },
      count: 1,
      firstTimestamp: time,
      lastTimestamp: time,
    };
    client.create(EVENTS, event).catch((error) => log.debug('cannot write an event', { error: errorText(error) }));
  };
}
