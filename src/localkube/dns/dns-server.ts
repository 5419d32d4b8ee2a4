// The cluster's DNS on the address of the kube-dns Service, UDP and TCP. Started by localkube's wiring.
import { createSocket, type Socket as UdpSocket } from 'node:dgram';
import { createServer, type Socket } from 'node:net';
import type { Packet } from 'dns-packet';
import * as dnsPacket from 'dns-packet';
import {
  ENDPOINT_SLICES,
  type EndpointSlice,
  SERVICE_NAME_LABEL,
  SLICE_MANAGED_BY_LABEL,
} from '../../api/kubernetes/endpoint-slice.ts';
import { SERVICES, type Service } from '../../api/kubernetes/service.ts';
import { createInformer } from '../../base/kube/informer.ts';
import { type KubeClient, KubeError } from '../../base/kube/types.ts';
import type { Clock } from '../../base/runtime/clock.ts';
import { errorText, type Logger } from '../../base/runtime/log.ts';
import type { NodeNetwork } from '../network/types.ts';
import { type AnswerOptions, answerQuestion, encodeReply, PLAIN_UDP_BYTES, type Reply, udpLimit } from './answer.ts';
import { createRecords, type Lookup } from './records.ts';

const DNS_PORT = 53;
const MAX_TCP_MESSAGE = 65_535;
const MAX_TCP_CONNECTIONS = 256;
const TCP_IDLE_MS = 10_000;

export interface DnsOptions {
  readonly client: KubeClient;
  readonly network: NodeNetwork;
  /** e.g. `cluster.local`. */
  readonly clusterDomain: string;
  readonly clock: Clock;
  readonly log: Logger;
  readonly random?: () => number;
}

export interface DnsServer {
  /** Resolves once the first lists are in; until then every question is answered SERVFAIL, so that clients ask again. */
  readonly ready: Promise<void>;
  close(): Promise<void>;
}

/** Rejects when the address is taken. Names outside the cluster do not exist: pods have no way out. */
export async function startDns(options: DnsOptions): Promise<DnsServer> {
  const { client, network, clock, log, random = Math.random } = options;
  const services = createInformer<Service>(client, SERVICES, { clock, log, random });
  const slices = createInformer<EndpointSlice>(client, ENDPOINT_SLICES, { clock, log, random });
  let records: Lookup | undefined;
  let synced = false;
  services.onChange(() => {
    records = undefined;
  });
  slices.onChange(() => {
    records = undefined;
  });
  const domain = options.clusterDomain.toLowerCase();
  const current = (): Lookup | undefined => {
    if (synced) records ??= createRecords(services.list(), slices.list(), domain);
    return records;
  };
  const ready = Promise.all([services.synced, slices.synced]).then(() => {
    synced = true;
  });
  const answer = (message: Buffer, overTcp: boolean) => respond(message, current(), { domain, random }, overTcp);
  const close = async (): Promise<void> => {
    services.close();
    slices.close();
    await Promise.all(listeners.map((listener) => listener.close()));
  };
  const listeners: Listener[] = [];
  try {
    // The Service's address for pods; the node's for proxies that go by the Service's endpoints.
    for (const ip of [network.clusterDnsIp, network.nodeIp]) listeners.push(await listen(network, ip, log, answer));
  } catch (error) {
    await close();
    throw new Error(`cannot serve DNS on port ${DNS_PORT} of the node: ${errorText(error)}`, { cause: error });
  }
  void ready.then(() => publishService(client, network, log));
  return { ready, close };
}

interface Listener {
  close(): Promise<void>;
}

async function listen(
  network: NodeNetwork,
  ip: string,
  log: Logger,
  answer: (message: Buffer, overTcp: boolean) => Buffer | undefined,
): Promise<Listener> {
  const udp = createSocket('udp4');
  serveUdp(udp, log, (message) => answer(message, false));
  const sockets = new Set<Socket>();
  const tcp = createServer((socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
    serveTcp(socket, (message) => answer(message, true));
  });
  tcp.maxConnections = MAX_TCP_CONNECTIONS;
  await network.bindUdp(udp, ip, DNS_PORT);
  try {
    await network.listen(tcp, ip, DNS_PORT);
  } catch (error) {
    udp.close();
    throw error;
  }
  return {
    async close() {
      udp.close();
      for (const socket of sockets) socket.destroy();
      await new Promise<void>((resolve) => {
        tcp.close(() => resolve());
      });
    },
  };
}

/** Shows the DNS as the Service kube-dns, which programs and the mesh look for. What is there already stays. */
async function publishService(client: KubeClient, network: NodeNetwork, log: Logger): Promise<void> {
  const labels = { 'k8s-app': 'kube-dns', 'kubernetes.io/name': 'CoreDNS' };
  const ports = [
    { name: 'dns', protocol: 'UDP', port: DNS_PORT },
    { name: 'dns-tcp', protocol: 'TCP', port: DNS_PORT },
  ] as const;
  const service: Service = {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name: 'kube-dns', namespace: 'kube-system', labels },
    spec: { clusterIP: network.clusterDnsIp, ports: ports.map((port) => ({ ...port, targetPort: port.port })) },
  };
  const slice: EndpointSlice = {
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: {
      name: 'kube-dns',
      namespace: 'kube-system',
      labels: { [SERVICE_NAME_LABEL]: 'kube-dns', [SLICE_MANAGED_BY_LABEL]: 'dns.localkube' },
    },
    addressType: 'IPv4',
    endpoints: [{ addresses: [network.nodeIp], conditions: { ready: true } }],
    ports,
  };
  try {
    await createUnlessThere(client.create(SERVICES, service));
    await createUnlessThere(client.create(ENDPOINT_SLICES, slice));
  } catch (error) {
    log.warn('cannot create the Service kube-dns', { error: errorText(error) });
  }
}

async function createUnlessThere(creation: Promise<unknown>): Promise<void> {
  try {
    await creation;
  } catch (error) {
    if (!(error instanceof KubeError) || error.code !== 409) throw error;
  }
}

/** The answer's bytes, or undefined for what deserves none. */
export function respond(
  message: Buffer,
  records: Lookup | undefined,
  options: AnswerOptions,
  overTcp: boolean,
): Buffer | undefined {
  // Without an id there is nobody to answer; answering answers would make a loop.
  if (message.length < 12 || (message[2]! & 0x80) !== 0) return undefined;
  let query: Packet;
  try {
    query = dnsPacket.decode(message);
  } catch {
    const id = message.readUInt16BE(0);
    return encodeReply({ id, type: 'query' }, { code: 'FORMERR', answers: [], additionals: [] }, PLAIN_UDP_BYTES);
  }
  return encodeReply(query, replyTo(message, query, records, options), overTcp ? MAX_TCP_MESSAGE : udpLimit(query));
}

function replyTo(message: Buffer, query: Packet, records: Lookup | undefined, options: AnswerOptions): Reply {
  const nothing = { answers: [], additionals: [] };
  const opcode = (message[2]! >> 3) & 0xf;
  if (opcode !== 0) return { code: 'NOTIMP', ...nothing };
  const question = query.questions?.[0];
  if (!question || query.questions?.length !== 1) return { code: 'FORMERR', ...nothing };
  if (!records) return { code: 'SERVFAIL', ...nothing };
  return answerQuestion(records, question, options) ?? { code: 'NXDOMAIN', ...nothing };
}

function serveUdp(socket: UdpSocket, log: Logger, handle: (message: Buffer) => Buffer | undefined): void {
  socket.on('message', (message, peer) => {
    const answer = handle(message);
    if (answer) socket.send(answer, peer.port, peer.address, () => {});
  });
  socket.on('error', (error) => log.warn('DNS socket', { error: errorText(error) }));
}

function serveTcp(socket: Socket, handle: (message: Buffer) => Buffer | undefined): void {
  let pending = Buffer.alloc(0);
  socket.setTimeout(TCP_IDLE_MS, () => socket.destroy());
  socket.on('error', () => socket.destroy());
  socket.on('data', (chunk: Buffer) => {
    pending = Buffer.concat([pending, chunk]);
    while (pending.length >= 2 && pending.length >= 2 + pending.readUInt16BE(0)) {
      const end = 2 + pending.readUInt16BE(0);
      const answer = handle(pending.subarray(2, end));
      pending = pending.subarray(end);
      if (!answer) return void socket.destroy();
      const length = Buffer.alloc(2);
      length.writeUInt16BE(answer.length);
      // A client that sends questions and reads no answers is not worth memory.
      if (!socket.write(Buffer.concat([length, answer]))) return void socket.destroy();
    }
  });
}
