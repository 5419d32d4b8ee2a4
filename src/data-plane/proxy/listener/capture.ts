// Stands in for the kernel's capture when many proxies share one process on loopback: says where a connection was meant
// to go and where such an address really is. Given to the engine by src/data-plane/offline/; absent in the `envoy` process.
import type { Socket } from 'node:net';
import type { SocketAddr } from '../config/address.ts';

export interface Capture {
  /** The addresses a captured connection had before it was redirected; undefined = it was not captured. */
  arrival(socket: Socket): { readonly remote: SocketAddr; readonly local: SocketAddr } | undefined;
  /** Where the ORIGINAL_DST cluster of that name really reaches `destination`. */
  reach(destination: SocketAddr, cluster: string): SocketAddr;
}
