// What a Service port speaks (traffic.md §2): by appProtocol, else by the port's name, else found out per connection.

export type Protocol =
  | 'HTTP'
  | 'HTTP2'
  | 'GRPC'
  | 'GRPC-Web'
  | 'HTTPS'
  | 'TLS'
  | 'TCP'
  | 'Mongo'
  | 'Redis'
  | 'MySQL'
  | 'UDP'
  | 'auto';

const BY_NAME: Readonly<Record<string, Protocol>> = {
  http: 'HTTP',
  http2: 'HTTP2',
  https: 'HTTPS',
  tcp: 'TCP',
  tls: 'TLS',
  grpc: 'GRPC',
  'grpc-web': 'GRPC-Web',
  mongo: 'Mongo',
  redis: 'Redis',
  mysql: 'MySQL',
  udp: 'UDP',
};

const BY_APP_PROTOCOL: Readonly<Record<string, Protocol>> = {
  'kubernetes.io/h2c': 'HTTP2',
  'kubernetes.io/ws': 'HTTP',
  'kubernetes.io/wss': 'HTTPS',
};

/** Ports of protocols where the server speaks first: waiting for the client's first bytes would hang them. */
const SERVER_FIRST_PORTS = new Set([25, 53, 3306, 27017]);

export function protocolOf(port: {
  readonly protocol?: string;
  readonly appProtocol?: string;
  readonly name?: string;
  readonly port: number;
}): Protocol {
  if (port.protocol === 'UDP') return 'UDP';
  const app = port.appProtocol?.toLowerCase();
  const named = app !== undefined ? (BY_APP_PROTOCOL[app] ?? byName(app)) : byName(port.name?.toLowerCase() ?? '');
  if (named) return named;
  return SERVER_FIRST_PORTS.has(port.port) ? 'TCP' : 'auto';
}

function byName(name: string): Protocol | undefined {
  if (name === 'grpc-web' || name.startsWith('grpc-web-')) return 'GRPC-Web';
  const dash = name.indexOf('-');
  return BY_NAME[dash < 0 ? name : name.slice(0, dash)];
}

export type ProtocolClass = 'http' | 'tcp' | 'auto';

export function classOf(protocol: Protocol): ProtocolClass {
  switch (protocol) {
    case 'HTTP':
    case 'HTTP2':
    case 'GRPC':
    case 'GRPC-Web':
      return 'http';
    case 'auto':
      return 'auto';
    default:
      return 'tcp';
  }
}

export function isHttp2(protocol: Protocol): boolean {
  return protocol === 'HTTP2' || protocol === 'GRPC' || protocol === 'GRPC-Web';
}
