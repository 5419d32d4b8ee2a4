// ServiceEntry and WorkloadEntry (networking.istio.io): decoding and validation (traffic.md §7). Used by config/ and the webhook.
import { isIP } from 'node:net';
import type { Parsed } from '../../base/runtime/diagnostics.ts';
import { readExportTo } from './destination-rule.ts';
import {
  host as checkHost,
  createReader,
  finish,
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

export type Resolution = 'NONE' | 'STATIC' | 'DNS' | 'DNS_ROUND_ROBIN';
const PROTOCOLS = ['HTTP', 'HTTPS', 'GRPC', 'GRPC-WEB', 'HTTP2', 'MONGO', 'TCP', 'TLS'] as const;
export type EntryProtocol = (typeof PROTOCOLS)[number];

export interface WorkloadEntrySpec {
  /** An IP address, or a name under DNS resolution. */
  readonly address: string;
  /** By the name of the service port. */
  readonly ports: ReadonlyMap<string, number>;
  readonly labels: Readonly<Record<string, string>>;
  /** `region/zone/subzone`; empty when not given. */
  readonly locality: string;
  readonly weight: number;
  readonly serviceAccount: string;
}

export interface EntryPort {
  readonly number: number;
  readonly protocol: EntryProtocol;
  readonly name: string;
  readonly targetPort?: number;
}

export interface ServiceEntrySpec {
  readonly hosts: readonly string[];
  readonly addresses: readonly string[];
  readonly ports: readonly EntryPort[];
  readonly external: boolean;
  readonly resolution: Resolution;
  readonly endpoints: readonly WorkloadEntrySpec[];
  readonly workloadSelector?: Readonly<Record<string, string>>;
  readonly exportTo: readonly string[];
  readonly subjectAltNames: readonly string[];
}

export function parseServiceEntry(spec: unknown, reader: Reader = createReader()): Parsed<ServiceEntrySpec> {
  const root =
    object(reader, spec, 'spec', [
      'hosts',
      'addresses',
      'ports',
      'location',
      'resolution',
      'endpoints',
      'workloadSelector',
      'exportTo',
      'subjectAltNames',
    ]) ?? {};
  const hosts = texts(reader, root.hosts, 'spec.hosts');
  if (hosts.length === 0) report(reader, 'spec.hosts', 'required', 'service entry must have at least one host');
  for (const [i, host] of hosts.entries()) {
    if (host === '*') report(reader, `spec.hosts[${i}]`, 'wildcard', 'invalid host *');
    else checkHost(reader, host, `spec.hosts[${i}]`);
  }
  const resolution = readResolution(reader, root.resolution);
  const endpoints = list(reader, root.endpoints, 'spec.endpoints').map((e, i) =>
    readEntry(reader, e, `spec.endpoints[${i}]`),
  );
  const selector = object(reader, root.workloadSelector, 'spec.workloadSelector', ['labels']);
  const labels = selector && (textMap(reader, selector.labels, 'spec.workloadSelector.labels') ?? {});
  checkEndpoints(reader, resolution, endpoints, hosts, labels !== undefined);
  return finish(reader, {
    hosts,
    addresses: readAddresses(reader, root),
    ports: readPorts(reader, root.ports),
    external: oneOf(reader, root.location, 'spec.location', ['MESH_EXTERNAL', 'MESH_INTERNAL']) !== 'MESH_INTERNAL',
    resolution,
    endpoints,
    ...(labels ? { workloadSelector: labels } : {}),
    exportTo: readExportTo(reader, root.exportTo),
    subjectAltNames: texts(reader, root.subjectAltNames, 'spec.subjectAltNames'),
  });
}

function readResolution(reader: Reader, value: unknown): Resolution {
  const given = oneOf(reader, value, 'spec.resolution', ['NONE', 'STATIC', 'DNS', 'DNS_ROUND_ROBIN', 'DYNAMIC_DNS']);
  if (given !== 'DYNAMIC_DNS') return given ?? 'NONE';
  report(
    reader,
    'spec.resolution',
    'not-supported',
    'spec.resolution: DYNAMIC_DNS is not supported by this version of Meltemi',
  );
  return 'NONE';
}

function readAddresses(reader: Reader, root: RawObject): readonly string[] {
  const addresses = texts(reader, root.addresses, 'spec.addresses');
  for (const [i, address] of addresses.entries()) {
    const path = `spec.addresses[${i}]`;
    if (address.includes('/'))
      report(reader, path, 'not-supported', `${path}: address ranges are not supported by this version of Meltemi`);
    else if (isIP(address) === 0) report(reader, path, 'address', `${path}: "${address}" is not an IP address`);
  }
  return addresses;
}

function readPorts(reader: Reader, value: unknown): readonly EntryPort[] {
  const raw = list(reader, value, 'spec.ports');
  if (raw.length === 0) report(reader, 'spec.ports', 'required', 'service entry must have at least one port');
  const seen = new Set<string>();
  const out: EntryPort[] = [];
  for (const [i, entry] of raw.entries()) {
    const path = `spec.ports[${i}]`;
    const port = object(reader, entry, path, ['number', 'protocol', 'name', 'targetPort']) ?? {};
    const number = integer(reader, port.number, `${path}.number`, 1, 65535);
    if (number === undefined) report(reader, `${path}.number`, 'required', `${path}.number is required`);
    const name = text(reader, port.name, `${path}.name`) ?? '';
    if (name === '') report(reader, `${path}.name`, 'required', `service entry port name is required`);
    for (const key of [name, String(number)])
      if (seen.has(key)) report(reader, path, 'duplicate', `service entry port ${key} already defined`);
      else seen.add(key);
    const upper = text(reader, port.protocol, `${path}.protocol`)?.toUpperCase() ?? 'TCP';
    const protocol = oneOf(reader, upper, `${path}.protocol`, PROTOCOLS);
    const targetPort = integer(reader, port.targetPort, `${path}.targetPort`, 1, 65535);
    if (number !== undefined && protocol !== undefined)
      out.push({ number, protocol, name, ...(targetPort === undefined ? {} : { targetPort }) });
  }
  return out;
}

function checkEndpoints(
  reader: Reader,
  resolution: Resolution,
  endpoints: readonly WorkloadEntrySpec[],
  hosts: readonly string[],
  selects: boolean,
): void {
  const say = (path: string, message: string): void => report(reader, path, 'endpoints', message);
  if (selects && endpoints.length > 0)
    say('spec.workloadSelector', 'only one of WorkloadSelector or Endpoints is allowed in Service Entry');
  if (resolution === 'NONE' && endpoints.length > 0)
    say('spec.endpoints', 'no endpoints should be provided for resolution type none');
  if (resolution === 'STATIC')
    for (const [i, endpoint] of endpoints.entries())
      if (isIP(endpoint.address) === 0)
        say(`spec.endpoints[${i}].address`, 'endpoint address must be an IP address for resolution type static');
  const named = resolution === 'DNS' || resolution === 'DNS_ROUND_ROBIN';
  if (named && endpoints.length === 0 && !selects && hosts.some((h) => h.includes('*')))
    say('spec.hosts', 'hosts must be FQDN if no endpoints are provided for resolution mode DNS');
  if (resolution === 'DNS_ROUND_ROBIN' && endpoints.length > 1)
    say('spec.endpoints', 'there must only be 0 or 1 endpoint for resolution mode DNS_ROUND_ROBIN');
}

export function parseWorkloadEntry(spec: unknown, reader: Reader = createReader()): Parsed<WorkloadEntrySpec> {
  return finish(reader, readEntry(reader, spec, 'spec'));
}

function readEntry(reader: Reader, value: unknown, path: string): WorkloadEntrySpec {
  const raw =
    object(reader, value, path, ['address', 'ports', 'labels', 'locality', 'weight', 'serviceAccount'], ['network']) ??
    {};
  const address = text(reader, raw.address, `${path}.address`) ?? '';
  if (address === '') report(reader, `${path}.address`, 'required', 'address must be set');
  else if (address.startsWith('unix://'))
    report(
      reader,
      `${path}.address`,
      'not-supported',
      `${path}.address: Unix sockets are not supported by this version of Meltemi`,
    );
  else if (isIP(address) === 0) checkHost(reader, address, `${path}.address`);
  const ports = new Map<string, number>();
  for (const [name, entry] of Object.entries(
    object(reader, raw.ports, `${path}.ports`, Object.keys(raw.ports ?? {})) ?? {},
  )) {
    const port = integer(reader, entry, `${path}.ports[${name}]`, 1, 65535);
    if (port !== undefined) ports.set(name, port);
  }
  return {
    address,
    ports,
    labels: textMap(reader, raw.labels, `${path}.labels`) ?? {},
    locality: text(reader, raw.locality, `${path}.locality`) ?? '',
    weight: integer(reader, raw.weight, `${path}.weight`, 0, 2 ** 31 - 1) || 1,
    serviceAccount: text(reader, raw.serviceAccount, `${path}.serviceAccount`) ?? '',
  };
}
