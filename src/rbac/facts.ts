// What a policy may look at: a plain view of one request or connection. The proxy's filters and the tools that replay or
// explain decisions each make one; nothing here does input or output.
import type { JsonObject } from '@bufbuild/protobuf';

/** One end of a connection; `ip` is empty for a Unix socket. */
export interface EndPoint {
  readonly ip: string;
  readonly port: number;
}

export interface Facts {
  /** False on a TCP chain: then nothing of HTTP matches. */
  readonly http: boolean;
  readonly method: string;
  /** With query. */
  readonly path: string;
  readonly authority: string;
  readonly scheme: string;
  /** By lower-case name; all values of a repeated header, in order. */
  header(name: string): string | readonly string[] | undefined;
  /** The address the client wanted to reach. */
  readonly destination: EndPoint;
  /** The peer of the connection: after PROXY protocol, before x-forwarded-for. */
  readonly source: EndPoint;
  /** The socket's peer, whatever any header said. */
  readonly direct: EndPoint;
  /** The trusted client: after PROXY protocol and x-forwarded-for. */
  readonly remote: EndPoint;
  readonly serverName: string;
  readonly transportProtocol: string;
  readonly applicationProtocols: readonly string[];
  /** True when the connection speaks TLS. */
  readonly tls: boolean;
  /** True when the peer's certificate passed every check. */
  readonly peerVerified: boolean;
  readonly peerUris: readonly string[];
  readonly peerDns: readonly string[];
  readonly peerSubject: string;
  /** Dynamic metadata, and the route's, by filter name. */
  metadata(filter: string): JsonObject | undefined;
  routeMetadata(filter: string): JsonObject | undefined;
  filterState(key: string): string | undefined;
}

/** Facts of nothing: tests and tools spread what they know over it. */
export const NO_FACTS: Facts = {
  http: true,
  method: 'GET',
  path: '/',
  authority: '',
  scheme: 'http',
  header: () => undefined,
  destination: { ip: '', port: 0 },
  source: { ip: '', port: 0 },
  direct: { ip: '', port: 0 },
  remote: { ip: '', port: 0 },
  serverName: '',
  transportProtocol: '',
  applicationProtocols: [],
  tls: false,
  peerVerified: false,
  peerUris: [],
  peerDns: [],
  peerSubject: '',
  metadata: () => undefined,
  routeMetadata: () => undefined,
  filterState: () => undefined,
};
