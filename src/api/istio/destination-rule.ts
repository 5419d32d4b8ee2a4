// DestinationRule (networking.istio.io): decoding and validation. This version obeys TLS settings and subsets;
// load balancing, pools and outlier detection are refused by name. Used by config/ and the validation webhook.
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
  type Reader,
  report,
  text,
  textMap,
  texts,
} from './reader.ts';

export type ClientTlsMode = 'DISABLE' | 'SIMPLE' | 'MUTUAL' | 'ISTIO_MUTUAL';
const TLS_MODES: readonly ClientTlsMode[] = ['DISABLE', 'SIMPLE', 'MUTUAL', 'ISTIO_MUTUAL'];

export interface ClientTls {
  readonly mode: ClientTlsMode;
  readonly sni?: string;
  readonly subjectAltNames: readonly string[];
  readonly clientCertificate?: string;
  readonly privateKey?: string;
  readonly caCertificates?: string;
  readonly insecureSkipVerify: boolean;
}

export interface TrafficPolicy {
  readonly tls?: ClientTls;
  readonly lb?: SimpleLb;
  /** By Service port. A port named here takes nothing from the policy around it. */
  readonly ports: ReadonlyMap<number, { readonly tls?: ClientTls; readonly lb?: SimpleLb }>;
}

export type SimpleLb = 'LEAST_REQUEST' | 'ROUND_ROBIN' | 'RANDOM';

export interface Subset {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly policy?: TrafficPolicy;
}

export interface DestinationRuleSpec {
  readonly host: string;
  readonly policy?: TrafficPolicy;
  readonly subsets: readonly Subset[];
  readonly exportTo: readonly string[];
}

const POLICY_REFUSED = ['connectionPool', 'outlierDetection', 'tunnel', 'proxyProtocol', 'retryBudget'];
const DNS_LABEL = /^[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?$/i;

export function parseDestinationRule(spec: unknown, reader: Reader = createReader()): Parsed<DestinationRuleSpec> {
  const root =
    object(reader, spec, 'spec', ['host', 'trafficPolicy', 'subsets', 'exportTo'], ['workloadSelector']) ?? {};
  const host = text(reader, root.host, 'spec.host') ?? '';
  if (host === '') report(reader, 'spec.host', 'required', 'domain name "" invalid (empty host)');
  else checkHost(reader, host, 'spec.host');
  const policy = readPolicy(reader, root.trafficPolicy, 'spec.trafficPolicy');
  const subsets: Subset[] = [];
  const seen = new Set<string>();
  for (const [i, entry] of list(reader, root.subsets, 'spec.subsets').entries()) {
    const path = `spec.subsets[${i}]`;
    const raw = object(reader, entry, path, ['name', 'labels', 'trafficPolicy']) ?? {};
    const name = text(reader, raw.name, `${path}.name`) ?? '';
    if (!DNS_LABEL.test(name))
      report(reader, `${path}.name`, 'name', `subset name is invalid: ${JSON.stringify(name)}`);
    if (seen.has(name)) report(reader, `${path}.name`, 'duplicate', `duplicate subset name: ${name}`);
    seen.add(name);
    const subsetPolicy = readPolicy(reader, raw.trafficPolicy, `${path}.trafficPolicy`);
    subsets.push({
      name,
      labels: textMap(reader, raw.labels, `${path}.labels`) ?? {},
      ...(subsetPolicy ? { policy: subsetPolicy } : {}),
    });
  }
  const exportTo = readExportTo(reader, root.exportTo);
  return finish(reader, { host, ...(policy ? { policy } : {}), subsets, exportTo });
}

export function readExportTo(reader: Reader, value: unknown): readonly string[] {
  const exportTo = texts(reader, value, 'spec.exportTo');
  if (new Set(exportTo).size !== exportTo.length)
    report(reader, 'spec.exportTo', 'duplicate', 'duplicate entries in exportTo');
  if (exportTo.includes('*') && exportTo.length > 1)
    report(reader, 'spec.exportTo', 'mixed', 'cannot have both public (*) and other visibility in exportTo');
  return exportTo;
}

function readPolicy(reader: Reader, value: unknown, path: string): TrafficPolicy | undefined {
  const raw = object(reader, value, path, ['tls', 'loadBalancer', 'portLevelSettings'], POLICY_REFUSED);
  if (!raw) return undefined;
  if (Object.keys(raw).length === 0) report(reader, path, 'empty', 'traffic policy must have at least one field');
  const tls = readTls(reader, raw.tls, `${path}.tls`);
  const lb = readLb(reader, raw.loadBalancer, `${path}.loadBalancer`);
  const ports = new Map<number, { tls?: ClientTls; lb?: SimpleLb }>();
  for (const [i, entry] of list(reader, raw.portLevelSettings, `${path}.portLevelSettings`).entries()) {
    const at = `${path}.portLevelSettings[${i}]`;
    const setting = object(reader, entry, at, ['port', 'tls', 'loadBalancer'], POLICY_REFUSED) ?? {};
    const port = object(reader, setting.port, `${at}.port`, ['number']);
    const number = integer(reader, port?.number, `${at}.port.number`, 1, 65535);
    if (number === undefined) {
      report(reader, `${at}.port`, 'required', 'portLevelSettings must have a port');
      continue;
    }
    const portTls = readTls(reader, setting.tls, `${at}.tls`);
    const portLb = readLb(reader, setting.loadBalancer, `${at}.loadBalancer`);
    if (!portTls && !portLb) report(reader, at, 'empty', 'port level settings must have at least one field');
    ports.set(number, { ...(portTls ? { tls: portTls } : {}), ...(portLb ? { lb: portLb } : {}) });
  }
  return { ...(tls ? { tls } : {}), ...(lb ? { lb } : {}), ports };
}

function readLb(reader: Reader, value: unknown, path: string): SimpleLb | undefined {
  const raw = object(
    reader,
    value,
    path,
    ['simple'],
    ['consistentHash', 'localityLbSetting', 'warmup', 'warmupDurationSecs'],
  );
  const simple = oneOf(reader, raw?.simple, `${path}.simple`, [
    'UNSPECIFIED',
    'LEAST_CONN',
    'LEAST_REQUEST',
    'ROUND_ROBIN',
    'RANDOM',
    'PASSTHROUGH',
  ]);
  if (simple === 'PASSTHROUGH') {
    report(
      reader,
      `${path}.simple`,
      'not-supported',
      `${path}.simple: PASSTHROUGH is not supported by this version of Meltemi`,
    );
    return undefined;
  }
  if (simple === undefined) return undefined;
  return simple === 'UNSPECIFIED' || simple === 'LEAST_CONN' ? 'LEAST_REQUEST' : simple;
}

function readTls(reader: Reader, value: unknown, path: string): ClientTls | undefined {
  const raw = object(
    reader,
    value,
    path,
    ['mode', 'sni', 'subjectAltNames', 'clientCertificate', 'privateKey', 'caCertificates', 'insecureSkipVerify'],
    ['credentialName', 'caCrl'],
  );
  if (!raw) return undefined;
  const mode = oneOf(reader, raw.mode, `${path}.mode`, TLS_MODES) ?? 'DISABLE';
  const tls: ClientTls = {
    mode,
    subjectAltNames: texts(reader, raw.subjectAltNames, `${path}.subjectAltNames`),
    insecureSkipVerify: flag(reader, raw.insecureSkipVerify, `${path}.insecureSkipVerify`) ?? false,
    ...optional('sni', text(reader, raw.sni, `${path}.sni`)),
    ...optional('clientCertificate', text(reader, raw.clientCertificate, `${path}.clientCertificate`)),
    ...optional('privateKey', text(reader, raw.privateKey, `${path}.privateKey`)),
    ...optional('caCertificates', text(reader, raw.caCertificates, `${path}.caCertificates`)),
  };
  if (mode === 'MUTUAL') {
    if (!tls.clientCertificate)
      report(reader, `${path}.clientCertificate`, 'required', 'client certificate required for mutual tls');
    if (!tls.privateKey) report(reader, `${path}.privateKey`, 'required', 'private key required for mutual tls');
  }
  return tls;
}

function optional<K extends string>(key: K, value: string | undefined): Partial<Record<K, string>> {
  return value === undefined || value === '' ? {} : ({ [key]: value } as Partial<Record<K, string>>);
}
