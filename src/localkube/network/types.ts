// The node's network as the rest of localkube sees it. Implemented by node-network.ts over the real kernel.

import type { Socket as UdpSocket } from 'node:dgram';
import type { Server, Socket } from 'node:net';

export interface PodNetwork {
  /** A path runc can join: /run/netns/… */
  readonly netnsPath: string;
  readonly ip: string;
}

export interface NodeNetwork {
  /** The node's own address, the pods' gateway; kubelet probes come from it. */
  readonly nodeIp: string;
  readonly clusterDnsIp: string;
  /** IPv4 range of ClusterIPs, e.g. 10.96.0.0/16. */
  readonly serviceCidr: string;
  /** Makes (or finds again, after a restart) the pod's namespace and its address. `key` is the pod's uid. */
  attachPod(key: string): Promise<PodNetwork>;
  detachPod(key: string): Promise<void>;
  /** A TCP connection out of the node's namespace: to a pod, or to a ClusterIP (which is translated). */
  dial(ip: string, port: number, timeoutMs: number): Promise<Socket>;
  /** A TCP connection inside a pod's namespace, as its own localhost. */
  dialInPod(key: string, ip: string, port: number, timeoutMs: number): Promise<Socket>;
  /** Listens inside the node's namespace. */
  listen(server: Server, ip: string, port: number): Promise<void>;
  bindUdp(socket: UdpSocket, ip: string, port: number): Promise<void>;
  close(): Promise<void>;
}
