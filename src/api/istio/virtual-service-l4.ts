// The tcp and tls sections of a VirtualService (traffic.md §4.5). Called by virtual-service.ts.
import { isIP } from 'node:net';
import { hostMatches } from './hosts.ts';
import {
  host as checkHost,
  integer,
  list,
  object,
  type RawObject,
  type Reader,
  report,
  text,
  textMap,
  texts,
} from './reader.ts';
import { type Destination, readDestinations } from './virtual-service-destination.ts';

export interface L4Match {
  readonly port?: number;
  /** Addresses and CIDR ranges. */
  readonly destinationSubnets: readonly string[];
  readonly sourceLabels: ReadonlyMap<string, string>;
  readonly sourceNamespace?: string;
  readonly gateways: readonly string[];
  /** TLS only; at least one. */
  readonly sniHosts: readonly string[];
}

export interface L4Route {
  readonly matches: readonly L4Match[];
  readonly destinations: readonly Destination[];
}

const MATCH_FIELDS = ['port', 'destinationSubnets', 'sourceLabels', 'sourceNamespace', 'gateways'];

export function readTcpRoutes(reader: Reader, value: unknown, path: string): readonly L4Route[] {
  return list(reader, value, path).map((entry, i) => readRoute(reader, entry, `${path}[${i}]`, undefined));
}

/** `hosts`: those of the VirtualService, which the SNI names must be among. */
export function readTlsRoutes(
  reader: Reader,
  value: unknown,
  path: string,
  hosts: readonly string[],
): readonly L4Route[] {
  return list(reader, value, path).map((entry, i) => readRoute(reader, entry, `${path}[${i}]`, hosts));
}

function readRoute(reader: Reader, value: unknown, path: string, hosts: readonly string[] | undefined): L4Route {
  const raw = object(reader, value, path, ['match', 'route']) ?? {};
  const matches = list(reader, raw.match, `${path}.match`).map((m, i) =>
    readMatch(reader, m, `${path}.match[${i}]`, hosts),
  );
  if (hosts && matches.length === 0)
    report(reader, `${path}.match`, 'required', 'TLS route must have at least one match condition');
  const destinations = readDestinations(reader, raw.route, `${path}.route`);
  if (destinations.length === 0) report(reader, path, 'required', `${hosts ? 'TLS' : 'TCP'} route is required`);
  for (const [i, d] of destinations.entries())
    if (d.headers) report(reader, `${path}.route[${i}].headers`, 'headers', 'headers are for HTTP routes only');
  return { matches, destinations };
}

function readMatch(reader: Reader, value: unknown, path: string, hosts: readonly string[] | undefined): L4Match {
  const raw = object(reader, value, path, hosts ? [...MATCH_FIELDS, 'sniHosts'] : MATCH_FIELDS, ['sourceSubnet']) ?? {};
  const port = integer(reader, raw.port, `${path}.port`, 1, 65535);
  const namespace = text(reader, raw.sourceNamespace, `${path}.sourceNamespace`);
  const subnets = texts(reader, raw.destinationSubnets, `${path}.destinationSubnets`);
  for (const [i, subnet] of subnets.entries()) {
    const [ip = '', bits] = subnet.split('/');
    const wide = isIP(ip) === 6 ? 128 : 32;
    if (isIP(ip) === 0 || (bits !== undefined && !(/^\d+$/.test(bits) && Number(bits) <= wide)))
      report(reader, `${path}.destinationSubnets[${i}]`, 'subnet', `${subnet} is not a valid subnet`);
  }
  return {
    ...(port === undefined ? {} : { port }),
    destinationSubnets: subnets,
    sourceLabels: new Map(Object.entries(textMap(reader, raw.sourceLabels, `${path}.sourceLabels`) ?? {})),
    ...(namespace === undefined ? {} : { sourceNamespace: namespace }),
    gateways: texts(reader, raw.gateways, `${path}.gateways`),
    sniHosts: hosts ? readSni(reader, raw, path, hosts) : [],
  };
}

function readSni(reader: Reader, raw: RawObject, path: string, hosts: readonly string[]): readonly string[] {
  const names = texts(reader, raw.sniHosts, `${path}.sniHosts`);
  if (names.length === 0) report(reader, `${path}.sniHosts`, 'required', 'TLS match must have at least one SNI host');
  for (const [i, name] of names.entries()) {
    const at = `${path}.sniHosts[${i}]`;
    checkHost(reader, name, at);
    if (!hosts.some((h) => hostMatches(h.toLowerCase(), name.toLowerCase())))
      report(
        reader,
        at,
        'subset',
        `SNI host "${name}" is not a compatible subset of any of the virtual service hosts: [${hosts.join(', ')}]`,
      );
  }
  return names.map((name) => name.toLowerCase());
}
