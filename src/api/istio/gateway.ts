// Gateway (networking.istio.io): decoding and validation. This version serves plain HTTP servers and refuses TLS and TCP ones
// by name. Used by config/ and the validation webhook.
import { isIP } from 'node:net';
import type { Parsed } from '../../base/runtime/diagnostics.ts';
import {
  host as checkHost,
  createReader,
  finish,
  integer,
  list,
  object,
  oneOf,
  type Reader,
  report,
  text,
  textMap,
  texts,
} from './reader.ts';

export interface GatewayServer {
  readonly port: { readonly number: number; readonly protocol: 'HTTP' | 'HTTP2' | 'GRPC'; readonly name: string };
  readonly bind?: string;
  /** `[namespace/]host`. */
  readonly hosts: readonly string[];
}

export interface GatewaySpec {
  readonly selector: Readonly<Record<string, string>>;
  readonly servers: readonly GatewayServer[];
}

const PROTOCOLS = ['HTTP', 'HTTPS', 'GRPC', 'GRPC-WEB', 'HTTP2', 'MONGO', 'TCP', 'TLS'] as const;

export function parseGateway(spec: unknown, reader: Reader = createReader()): Parsed<GatewaySpec> {
  const root = object(reader, spec, 'spec', ['selector', 'servers']) ?? {};
  const raw = list(reader, root.servers, 'spec.servers');
  if (raw.length === 0) report(reader, 'spec.servers', 'required', 'gateway must have at least one server');
  const servers: GatewayServer[] = [];
  const names = new Set<string>();
  for (const [i, entry] of raw.entries()) {
    const server = readServer(reader, entry, `spec.servers[${i}]`);
    if (!server) continue;
    if (names.has(server.port.name))
      report(
        reader,
        `spec.servers[${i}].port.name`,
        'duplicate',
        `port names in servers must be unique: duplicate name ${server.port.name}`,
      );
    names.add(server.port.name);
    servers.push(server);
  }
  return finish(reader, { selector: textMap(reader, root.selector, 'spec.selector') ?? {}, servers });
}

function readServer(reader: Reader, value: unknown, path: string): GatewayServer | undefined {
  const raw = object(reader, value, path, ['port', 'bind', 'hosts', 'name', 'tls'], ['defaultEndpoint']) ?? {};
  const port = object(reader, raw.port, `${path}.port`, ['number', 'protocol', 'name', 'targetPort']) ?? {};
  const number = integer(reader, port.number, `${path}.port.number`, 1, 65535);
  if (number === undefined) report(reader, `${path}.port`, 'required', 'port is required');
  const upper = text(reader, port.protocol, `${path}.port.protocol`)?.toUpperCase() ?? '';
  const protocol = oneOf(reader, upper, `${path}.port.protocol`, PROTOCOLS);
  const name = text(reader, port.name, `${path}.port.name`) ?? '';
  if (name === '') report(reader, `${path}.port.name`, 'required', 'port name must be set');
  const hosts = texts(reader, raw.hosts, `${path}.hosts`);
  if (hosts.length === 0) report(reader, `${path}.hosts`, 'required', 'server config must contain at least one host');
  for (const [j, entry] of hosts.entries())
    checkHost(reader, entry.slice(entry.indexOf('/') + 1), `${path}.hosts[${j}]`);
  const bind = text(reader, raw.bind, `${path}.bind`);
  if (protocol !== undefined && protocol !== 'HTTP' && protocol !== 'HTTP2' && protocol !== 'GRPC') {
    if ((protocol === 'HTTPS' || protocol === 'TLS') && raw.tls === undefined)
      report(reader, path, 'required', 'server must have TLS settings for HTTPS/TLS protocols');
    report(
      reader,
      `${path}.port.protocol`,
      'not-supported',
      `Gateway protocol ${protocol} is not supported by this version of Meltemi`,
    );
    return undefined;
  }
  if (raw.tls !== undefined)
    report(reader, `${path}.tls`, 'tls-on-http', 'server cannot have TLS settings for plain text HTTP ports');
  if (bind !== undefined && isIP(bind) === 0)
    report(reader, `${path}.bind`, 'bind', `${path}.bind must be an IP address`);
  if (number === undefined || protocol === undefined) return undefined;
  return { port: { number, protocol, name }, ...(bind ? { bind } : {}), hosts };
}
