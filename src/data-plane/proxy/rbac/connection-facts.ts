// A connection as the policy wing sees it: for the network RBAC filter; its addresses also for the HTTP one.
import type { JsonObject } from '@bufbuild/protobuf';
import { type EndPoint, type Facts, NO_FACTS } from '../../../rbac/facts.ts';
import type { SocketAddr } from '../config/address.ts';
import type { ConnectionInfo } from '../http/stream-info.ts';

const NOWHERE: EndPoint = { ip: '', port: 0 };

export function endPoint(address: SocketAddr): EndPoint {
  return address.kind === 'ip' ? address : NOWHERE;
}

export function connectionFacts(info: ConnectionInfo): Facts {
  const { tls } = info;
  return {
    ...NO_FACTS,
    http: false,
    destination: endPoint(info.local),
    source: endPoint(info.remote),
    direct: endPoint(info.directRemote),
    remote: endPoint(info.remote),
    serverName: info.requestedServerName,
    transportProtocol: info.transportProtocol,
    applicationProtocols: info.alpn,
    tls: tls !== undefined,
    peerVerified: tls?.peerVerified ?? false,
    peerUris: tls?.peerUris ?? [],
    peerDns: tls?.peerDns ?? [],
    peerSubject: tls?.peerSubject ?? '',
    metadata: (filter): JsonObject | undefined => info.metadata.get(filter),
    filterState(key) {
      const value = info.state.get(key);
      return typeof value === 'string' ? value : undefined;
    },
  };
}
