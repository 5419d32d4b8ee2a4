// Gateway (networking.istio.io): decoding and validation (traffic.md §6). Used by config/ and the validation webhook.
import { isIP } from 'node:net';
import type { Parsed } from '../../base/runtime/diagnostics.ts';
import {
  host as checkHost,
  createReader,
  finish,
  flag,
  integer,
  list,
  object,
  oneOf,
  type RawObject,
  type Reader,
  report,
  text,
  textMap,
  texts,
} from './reader.ts';

const PROTOCOLS = ['HTTP', 'HTTPS', 'GRPC', 'GRPC-WEB', 'HTTP2', 'MONGO', 'TCP', 'TLS'] as const;
export type GatewayProtocol = (typeof PROTOCOLS)[number];

export type TlsVersion = 'TLSV1_2' | 'TLSV1_3';

export interface ServerTls {
  readonly mode: 'PASSTHROUGH' | 'SIMPLE' | 'MUTUAL' | 'OPTIONAL_MUTUAL' | 'ISTIO_MUTUAL';
  /** A Secret in the namespace of the gateway's pod. */
  readonly credentialName?: string;
  readonly serverCertificate?: string;
  readonly privateKey?: string;
  readonly caCertificates?: string;
  readonly subjectAltNames: readonly string[];
  readonly minVersion: TlsVersion;
  readonly maxVersion: TlsVersion;
  readonly cipherSuites: readonly string[];
}

export interface GatewayServer {
  readonly port: { readonly number: number; readonly protocol: GatewayProtocol; readonly name: string };
  readonly bind?: string;
  /** `[namespace/]host`. */
  readonly hosts: readonly string[];
  /** Absent on plaintext servers. */
  readonly tls?: ServerTls;
  readonly httpsRedirect: boolean;
}

export interface GatewaySpec {
  readonly selector: Readonly<Record<string, string>>;
  readonly servers: readonly GatewayServer[];
}

export type ServerKind = 'http' | 'https' | 'tls' | 'tcp';

/** How a server's connections are handled. */
export function kindOf(server: GatewayServer): ServerKind {
  switch (server.port.protocol) {
    case 'HTTPS':
      return server.tls?.mode === 'PASSTHROUGH' ? 'tls' : 'https';
    case 'TLS':
      return 'tls';
    case 'TCP':
    case 'MONGO':
      return 'tcp';
    default:
      return 'http';
  }
}

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
  if (bind !== undefined && isIP(bind) === 0)
    report(reader, `${path}.bind`, 'bind', `${path}.bind must be an IP address`);
  const settings = readTls(reader, raw.tls, `${path}.tls`);
  const secure = protocol === 'HTTPS' || protocol === 'TLS';
  if (secure && raw.tls === undefined)
    report(reader, path, 'required', 'server must have TLS settings for HTTPS/TLS protocols');
  if (!secure && settings?.tls)
    report(reader, `${path}.tls`, 'tls-on-http', 'server cannot have TLS settings for plain text HTTP ports');
  if (number === undefined || protocol === undefined) return undefined;
  return {
    port: { number, protocol, name },
    ...(bind ? { bind } : {}),
    hosts,
    ...(secure && settings?.tls ? { tls: settings.tls } : {}),
    httpsRedirect: settings?.httpsRedirect ?? false,
  };
}

const TLS_FIELDS = [
  'httpsRedirect',
  'mode',
  'credentialName',
  'serverCertificate',
  'privateKey',
  'caCertificates',
  'subjectAltNames',
  'minProtocolVersion',
  'maxProtocolVersion',
  'cipherSuites',
];
const TLS_REFUSED = [
  'credentialNames',
  'caCertCredentialName',
  'caCrl',
  'verifyCertificateSpki',
  'verifyCertificateHash',
  'tlsCertificates',
];
const VERSIONS = ['TLS_AUTO', 'TLSV1_0', 'TLSV1_1', 'TLSV1_2', 'TLSV1_3'] as const;

function readTls(
  reader: Reader,
  value: unknown,
  path: string,
): { readonly httpsRedirect: boolean; readonly tls: ServerTls | undefined } | undefined {
  const raw = object(reader, value, path, TLS_FIELDS, TLS_REFUSED);
  if (!raw) return undefined;
  const httpsRedirect = flag(reader, raw.httpsRedirect, `${path}.httpsRedirect`) ?? false;
  if (Object.keys(raw).every((key) => key === 'httpsRedirect') && httpsRedirect)
    return { httpsRedirect, tls: undefined };
  const mode = oneOf(reader, raw.mode, `${path}.mode`, [
    'PASSTHROUGH',
    'SIMPLE',
    'MUTUAL',
    'AUTO_PASSTHROUGH',
    'ISTIO_MUTUAL',
    'OPTIONAL_MUTUAL',
  ]);
  if (mode === 'AUTO_PASSTHROUGH') {
    report(
      reader,
      `${path}.mode`,
      'not-supported',
      `${path}.mode: AUTO_PASSTHROUGH is not supported by this version of Meltemi`,
    );
    return { httpsRedirect, tls: undefined };
  }
  const tls: ServerTls = {
    mode: mode ?? 'PASSTHROUGH',
    ...word(reader, raw, path, 'credentialName'),
    ...word(reader, raw, path, 'serverCertificate'),
    ...word(reader, raw, path, 'privateKey'),
    ...word(reader, raw, path, 'caCertificates'),
    subjectAltNames: texts(reader, raw.subjectAltNames, `${path}.subjectAltNames`),
    minVersion: version(reader, raw, path, 'minProtocolVersion') ?? 'TLSV1_2',
    maxVersion: version(reader, raw, path, 'maxProtocolVersion') ?? 'TLSV1_3',
    cipherSuites: texts(reader, raw.cipherSuites, `${path}.cipherSuites`),
  };
  checkTls(reader, tls, path);
  return { httpsRedirect, tls };
}

function checkTls(reader: Reader, tls: ServerTls, path: string): void {
  const say = (field: string, message: string): void => report(reader, `${path}.${field}`, 'tls', message);
  const { mode } = tls;
  if ((mode === 'PASSTHROUGH' || mode === 'ISTIO_MUTUAL') && (tls.credentialName || tls.serverCertificate))
    say('credentialName', `${mode} mode does not use certificates of its own`);
  if (mode === 'PASSTHROUGH' || mode === 'ISTIO_MUTUAL') return;
  if (tls.credentialName) return;
  if (!tls.serverCertificate) say('serverCertificate', `${mode} TLS requires a server certificate`);
  if (!tls.privateKey) say('privateKey', `${mode} TLS requires a private key`);
  if (mode === 'MUTUAL' && !tls.caCertificates) say('caCertificates', 'MUTUAL TLS requires a client CA bundle');
}

function word(reader: Reader, raw: RawObject, path: string, key: string): Record<string, string> {
  const found = text(reader, raw[key], `${path}.${key}`);
  return found === undefined || found === '' ? {} : { [key]: found };
}

function version(reader: Reader, raw: RawObject, path: string, key: string): TlsVersion | undefined {
  const found = oneOf(reader, raw[key], `${path}.${key}`, VERSIONS);
  if (found === undefined || found === 'TLS_AUTO') return undefined;
  if (found === 'TLSV1_2' || found === 'TLSV1_3') return found;
  report(
    reader,
    `${path}.${key}`,
    'not-supported',
    `${path}.${key}: ${found} is not supported by this version of Meltemi`,
  );
  return undefined;
}
