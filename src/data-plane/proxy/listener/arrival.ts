// A connection that was accepted and not yet given to a filter chain: who it is from and for. Used by listener.ts.
import type { Socket } from 'node:net';
import type { JsonObject } from '@bufbuild/protobuf';
import type { SocketAddr } from '../config/address.ts';
import { type Tlv, tlvMetadata } from '../listener-filter/proxy-protocol.ts';
import type { ListenerFilters } from '../listener-filter/settings.ts';
import type { Proxied } from './inspect.ts';

/** The addresses a connection has before anything was inspected. */
export interface Arrival {
  /** ms. */
  readonly at: number;
  readonly socket: Socket;
  readonly remote: SocketAddr;
  readonly directRemote: SocketAddr;
  readonly directLocal: SocketAddr;
  readonly local: SocketAddr;
  /** From a PROXY protocol header. */
  readonly metadata?: ReadonlyMap<string, JsonObject> | undefined;
  readonly proxyTlvs?: readonly Tlv[] | undefined;
}

/** The connection as the proxy in front saw it. */
export function proxiedArrival(arrival: Arrival, { addresses, tlvs }: Proxied, filters: ListenerFilters): Arrival {
  const settings = filters.proxy?.settings;
  const metadata = settings && tlvMetadata(settings, tlvs);
  const passes = settings?.passes;
  const proxyTlvs = passes && tlvs.filter(({ type }) => passes(type));
  if (!addresses) return { ...arrival, metadata };
  const keepLocal = filters.originalDstLast && arrival.local !== arrival.directLocal;
  return {
    ...arrival,
    remote: addresses.source,
    local: keepLocal ? arrival.local : addresses.destination,
    metadata,
    proxyTlvs,
  };
}

export function endpoint(ip: string | undefined, port: number | undefined): SocketAddr {
  if (ip === undefined) return { kind: 'pipe', path: '' };
  return { kind: 'ip', ip: ip.startsWith('::ffff:') ? ip.slice(7) : ip, port: port ?? 0 };
}
