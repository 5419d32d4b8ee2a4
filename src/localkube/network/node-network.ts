// The node's network over the real kernel: one namespace for the node, one for each pod, a veth pair between them.
// Started by localkube's wiring; used by the kubelet, the API server (listeners, port-forward), the DNS and the Service proxy.
//
// Nothing is written to disk: the namespaces' names and the veth names carry the instance, the pod and its address,
// so a restarted localkube reads from the kernel what it had made.
import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import type { Socket as UdpSocket } from 'node:dgram';
import { closeSync, existsSync, openSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { type Server, Socket } from 'node:net';
import { type Netlink, openNetlink } from '../../base/netns/netlink.ts';
import {
  AF_INET,
  bindIpv4,
  createNetns,
  inNetns,
  NETNS_DIR,
  openSocket,
  removeNetns,
  SOCK_DGRAM,
  SOCK_NONBLOCK,
  SOCK_STREAM,
} from '../../base/netns/syscalls.ts';
import type { Clock } from '../../base/runtime/clock.ts';
import { errorText, type Logger } from '../../base/runtime/log.ts';
import type { NodeNetwork, PodNetwork } from './types.ts';

export const NODE_IP = '10.244.0.1';
export const CLUSTER_DNS_IP = '10.96.0.10';
export const SERVICE_CIDR = '10.96.0.0/16';
/** Pods get 10.244.0.2 … 10.244.0.254. */
export const POD_IP_PREFIX = '10.244.0.';
export const FIRST_POD_OCTET = 2;
export const LAST_POD_OCTET = 254;
const POD_INTERFACE = 'eth0';
const SHORT_LENGTH = 10;
const LISTEN_BACKLOG = 1024;

export interface NodeNetworkOptions {
  /** Says whose namespaces these are: lower-case letters, digits and dashes, at most 40. */
  readonly instance: string;
  /** Localkube's home; nothing of the network is kept there (see above). */
  readonly home?: string;
  readonly log: Logger;
  readonly clock: Clock;
}

/** What localkube's own parts may do beyond the contract. */
export interface LocalNodeNetwork extends NodeNetwork {
  /** The node's namespace, for pods with hostNetwork. */
  readonly nodeNetnsPath: string;
  /** Starts a program inside the node's namespace. */
  spawnInNode(command: string, args: readonly string[], options: SpawnOptions): ChildProcess;
  /** Detaches every pod whose key is not in `keys`: what an earlier process left behind. */
  retainPods(keys: ReadonlySet<string>): Promise<void>;
}

/** Makes the node's namespace, or finds it again with its pods. Rejects without root. */
export async function startNodeNetwork(options: NodeNetworkOptions): Promise<LocalNodeNetwork> {
  const prefix = namePrefix(options.instance);
  const nodeName = `${prefix}node`;
  const nodePath = `${NETNS_DIR}/${nodeName}`;
  const openNode = (): number => {
    if (!isMounted(nodePath)) {
      removeNetns(nodeName);
      createNetns(nodeName);
    }
    return openSync(nodePath, 'r');
  };
  const nodeFd = openNode();
  try {
    configureNode(nodeFd);
    return new KernelNetwork(options, prefix, nodePath, nodeFd);
  } catch (error) {
    closeSync(nodeFd);
    throw error;
  }
}

/** Deletes every namespace (and with it every interface, route and rule) of the instance, also of a crashed one. */
export function removeNetwork(instance: string): void {
  for (const name of instanceNames(namePrefix(instance))) removeNetns(name);
}

/** What is still there of an instance: for tests and for `status` after `down`. */
export function listInstanceLeftovers(instance: string): readonly string[] {
  return instanceNames(namePrefix(instance)).map((name) => `${NETNS_DIR}/${name}`);
}

function namePrefix(instance: string): string {
  if (!/^[a-z0-9][a-z0-9-]{0,39}$/.test(instance)) throw new Error(`"${instance}" is not an instance id`);
  return `mt-${instance}-`;
}

function instanceNames(prefix: string): string[] {
  const own = (name: string): boolean =>
    name.startsWith(prefix) && /^(node|[0-9a-f]{10})$/.test(name.slice(prefix.length));
  try {
    return readdirSync(NETNS_DIR).filter(own).sort();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}

/** A name whose namespace was never mounted (crash, reboot with a persistent /run) is an empty plain file. */
function isMounted(path: string): boolean {
  if (!existsSync(path)) return false;
  return readFileSync('/proc/self/mountinfo', 'utf8').includes(` ${path} `);
}

function configureNode(nodeFd: number): void {
  inNetns(nodeFd, () => {
    writeFileSync('/proc/sys/net/ipv4/ip_forward', '1');
    // Hairpin traffic leaves by the interface it came in on: no advice to the pod about a shorter way.
    writeFileSync('/proc/sys/net/ipv4/conf/all/send_redirects', '0');
    writeFileSync('/proc/sys/net/ipv4/conf/default/send_redirects', '0');
    withNetlink((netlink) => {
      netlink.setUp('lo');
      netlink.setAddress('lo', NODE_IP, 32);
      // ClusterIPs that no rule translates end here, where the Service proxy's filter refuses them.
      netlink.setRoute({ destination: SERVICE_CIDR, device: 'lo', source: NODE_IP, local: true });
    });
  });
}

function withNetlink(run: (netlink: Netlink) => void): void {
  const netlink = openNetlink();
  try {
    run(netlink);
  } finally {
    netlink.close();
  }
}

interface Pod extends PodNetwork {
  readonly octet: number;
  readonly short: string;
  readonly veth: string;
}

class KernelNetwork implements LocalNodeNetwork {
  readonly nodeIp = NODE_IP;
  readonly clusterDnsIp = CLUSTER_DNS_IP;
  readonly serviceCidr = SERVICE_CIDR;
  readonly nodeNetnsPath: string;
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #prefix: string;
  readonly #nodeFd: number;
  readonly #pods = new Map<string, Pod>();
  readonly #octets = new Set<number>();
  #cursor = FIRST_POD_OCTET;
  #closed = false;

  constructor(options: NodeNetworkOptions, prefix: string, nodePath: string, nodeFd: number) {
    this.#clock = options.clock;
    this.#log = options.log;
    this.#prefix = prefix;
    this.#nodeFd = nodeFd;
    this.nodeNetnsPath = nodePath;
    this.#recover();
  }

  async attachPod(key: string): Promise<PodNetwork> {
    this.#assertOpen();
    const short = shortOf(key);
    const known = this.#pods.get(short);
    // Configuring again is harmless, and mends a pod whose attachment a crash cut short.
    if (known) return this.#configurePod(known);
    const pod = this.#allocate(short);
    try {
      removeNetns(this.#prefix + short);
      createNetns(this.#prefix + short);
      this.#withFd(pod.netnsPath, (fd) =>
        inNetns(this.#nodeFd, () =>
          withNetlink((netlink) => {
            netlink.deleteLink(pod.veth);
            netlink.addVeth(pod.veth, POD_INTERFACE, fd);
          }),
        ),
      );
      return this.#configurePod(pod);
    } catch (error) {
      this.#remove(pod);
      throw new Error(`cannot make the network of pod ${key}: ${errorText(error)}`, { cause: error });
    }
  }

  async detachPod(key: string): Promise<void> {
    const pod = this.#pods.get(shortOf(key));
    if (pod) this.#remove(pod);
  }

  async retainPods(keys: ReadonlySet<string>): Promise<void> {
    const keep = new Set([...keys].map(shortOf));
    for (const pod of [...this.#pods.values()]) if (!keep.has(pod.short)) this.#remove(pod);
  }

  // A field, not a method: it is handed on by itself as somebody's way out.
  readonly dial = (ip: string, port: number, timeoutMs: number): Promise<Socket> =>
    this.#dialIn(this.#nodeFd, ip, port, timeoutMs);

  async dialInPod(key: string, ip: string, port: number, timeoutMs: number): Promise<Socket> {
    const pod = this.#pods.get(shortOf(key));
    if (!pod) throw new Error(`pod ${key} has no network`);
    return this.#withFd(pod.netnsPath, (fd) => this.#dialIn(fd, ip, port, timeoutMs));
  }

  listen(server: Server, ip: string, port: number): Promise<void> {
    const fd = this.#boundSocket(SOCK_STREAM, ip, port);
    return new Promise((resolve, reject) => {
      server.once('error', reject);
      server.listen({ fd, backlog: LISTEN_BACKLOG }, () => {
        server.off('error', reject);
        resolve();
      });
    });
  }

  bindUdp(socket: UdpSocket, ip: string, port: number): Promise<void> {
    const fd = this.#boundSocket(SOCK_DGRAM, ip, port);
    return new Promise((resolve, reject) => {
      socket.once('error', reject);
      socket.bind({ fd }, () => {
        socket.off('error', reject);
        resolve();
      });
    });
  }

  spawnInNode(command: string, args: readonly string[], options: SpawnOptions): ChildProcess {
    this.#assertOpen();
    return inNetns(this.#nodeFd, () => spawn(command, args, options));
  }

  /** The namespaces stay: containers outlive this process. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    closeSync(this.#nodeFd);
  }

  #assertOpen(): void {
    if (this.#closed) throw new Error('the node network is closed');
  }

  #boundSocket(type: number, ip: string, port: number): number {
    this.#assertOpen();
    return inNetns(this.#nodeFd, () => {
      const fd = openSocket(AF_INET, type | SOCK_NONBLOCK);
      try {
        bindIpv4(fd, ip, port, { reuseAddress: type === SOCK_STREAM });
        return fd;
      } catch (error) {
        closeSync(fd);
        throw error;
      }
    });
  }

  #dialIn(netnsFd: number, ip: string, port: number, timeoutMs: number): Promise<Socket> {
    this.#assertOpen();
    const fd = inNetns(netnsFd, () => openSocket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK));
    // manualStart: an unconnected socket cannot be read from yet; connect() starts the reading.
    const options = { fd, readable: true, writable: true, manualStart: true };
    const socket = new Socket(options);
    return new Promise((resolve, reject) => {
      const cancel = this.#clock.after(timeoutMs, () =>
        socket.destroy(new Error(`no connection to ${ip}:${port} within ${timeoutMs} ms`)),
      );
      const failed = (error: Error): void => {
        cancel();
        reject(error);
      };
      socket.once('error', failed);
      socket.connect({ host: ip, port }, () => {
        cancel();
        socket.off('error', failed);
        resolve(socket);
      });
    });
  }

  #allocate(short: string): Pod {
    for (let tried = 0; tried <= LAST_POD_OCTET - FIRST_POD_OCTET; tried += 1) {
      const octet = this.#cursor;
      this.#cursor = octet === LAST_POD_OCTET ? FIRST_POD_OCTET : octet + 1;
      if (!this.#octets.has(octet)) return this.#record(short, octet);
    }
    throw new Error(`all ${LAST_POD_OCTET - FIRST_POD_OCTET + 1} pod addresses are in use: delete some pods`);
  }

  #record(short: string, octet: number): Pod {
    const pod: Pod = {
      short,
      octet,
      ip: POD_IP_PREFIX + octet,
      veth: `v${octet}-${short}`,
      netnsPath: `${NETNS_DIR}/${this.#prefix}${short}`,
    };
    this.#pods.set(short, pod);
    this.#octets.add(octet);
    return pod;
  }

  #configurePod(pod: Pod): PodNetwork {
    inNetns(this.#nodeFd, () =>
      withNetlink((netlink) => {
        netlink.setUp(pod.veth);
        netlink.setRoute({ destination: `${pod.ip}/32`, device: pod.veth });
      }),
    );
    this.#withFd(pod.netnsPath, (fd) => inNetns(fd, () => configureInside(pod.ip)));
    return { netnsPath: pod.netnsPath, ip: pod.ip };
  }

  #remove(pod: Pod): void {
    // The interface first: the kernel takes namespaces away in its own time, and the address may be wanted again at once.
    inNetns(this.#nodeFd, () => withNetlink((netlink) => netlink.deleteLink(pod.veth)));
    removeNetns(this.#prefix + pod.short);
    this.#pods.delete(pod.short);
    this.#octets.delete(pod.octet);
  }

  #recover(): void {
    const names = new Set(instanceNames(this.#prefix));
    const interfaces = inNetns(this.#nodeFd, () => readFileSync('/proc/thread-self/net/dev', 'utf8'));
    for (const [, octet = '', short = ''] of interfaces.matchAll(/^\s*v(\d+)-([0-9a-f]{10}):/gm)) {
      const pod = this.#record(short, Number(octet));
      this.#cursor = pod.octet === LAST_POD_OCTET ? FIRST_POD_OCTET : pod.octet + 1;
      if (!names.has(this.#prefix + short) || !isMounted(pod.netnsPath)) this.#remove(pod);
    }
    for (const name of names) {
      const short = name.slice(this.#prefix.length);
      if (short !== 'node' && !this.#pods.has(short)) removeNetns(name);
    }
    if (this.#pods.size > 0) this.#log.info('found pod networks again', { pods: this.#pods.size });
  }

  #withFd<T>(path: string, run: (fd: number) => T): T {
    const fd = openSync(path, 'r');
    try {
      return run(fd);
    } finally {
      closeSync(fd);
    }
  }
}

function configureInside(ip: string): void {
  // As containerd does: a program that is not root may listen on port 80 of its own pod.
  writeFileSync('/proc/sys/net/ipv4/ip_unprivileged_port_start', '0');
  withNetlink((netlink) => {
    netlink.setUp('lo');
    netlink.setUp(POD_INTERFACE);
    netlink.setAddress(POD_INTERFACE, ip, 32);
    netlink.setRoute({ destination: '0.0.0.0/0', device: POD_INTERFACE, gateway: NODE_IP });
  });
}

function shortOf(key: string): string {
  return createHash('sha256').update(key).digest('hex').slice(0, SHORT_LENGTH);
}
