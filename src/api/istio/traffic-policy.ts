// trafficPolicy of a DestinationRule (traffic.md §5): decoding and validation. Called by destination-rule.ts.
import {
  duration,
  flag,
  headerName,
  integer,
  list,
  object,
  oneOf,
  type RawObject,
  type Reader,
  report,
  text,
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

export type SimpleLb = 'LEAST_REQUEST' | 'ROUND_ROBIN' | 'RANDOM' | 'PASSTHROUGH';

export type HashKey =
  | { readonly kind: 'header' | 'query'; readonly name: string }
  | { readonly kind: 'cookie'; readonly name: string; readonly path: string; readonly ttlMs: number | undefined }
  | { readonly kind: 'source-ip' };

export interface ConsistentHash {
  readonly key: HashKey;
  readonly algorithm:
    | { readonly kind: 'ring'; readonly minimumSize: number }
    | { readonly kind: 'maglev'; readonly tableSize: number };
}

export interface LocalityLb {
  readonly enabled: boolean;
  /** Shares in percent by locality pattern (`region/zone/*`). */
  readonly distribute: readonly { readonly from: string; readonly to: ReadonlyMap<string, number> }[];
  readonly failover: readonly { readonly from: string; readonly to: string }[];
  /** Labels (or label=value) that the best endpoints share with the client. */
  readonly failoverPriority: readonly string[];
}

export interface LoadBalancer {
  readonly simple?: SimpleLb;
  readonly hash?: ConsistentHash;
  readonly locality?: LocalityLb;
  readonly warmup?: { readonly durationMs: number; readonly minimumPercent: number; readonly aggression: number };
}

export interface ConnectionPool {
  readonly maxConnections?: number;
  readonly connectTimeoutMs?: number;
  readonly maxConnectionDurationMs?: number;
  readonly tcpIdleTimeoutMs?: number;
  readonly keepalive?: { readonly probes?: number; readonly timeMs?: number; readonly intervalMs?: number };
  readonly http1MaxPendingRequests?: number;
  readonly http2MaxRequests?: number;
  readonly maxRequestsPerConnection?: number;
  readonly maxRetries?: number;
  readonly httpIdleTimeoutMs?: number;
  readonly h2UpgradePolicy?: 'DEFAULT' | 'DO_NOT_UPGRADE' | 'UPGRADE';
  readonly useClientProtocol: boolean;
  readonly maxConcurrentStreams?: number;
}

export interface OutlierDetection {
  readonly consecutive5xxErrors?: number;
  readonly consecutiveGatewayErrors?: number;
  readonly intervalMs?: number;
  readonly baseEjectionMs?: number;
  readonly maxEjectionPercent?: number;
  readonly minHealthPercent: number;
  readonly splitLocalErrors: boolean;
  readonly consecutiveLocalOriginFailures?: number;
}

export interface TrafficSettings {
  readonly tls?: ClientTls;
  readonly lb?: LoadBalancer;
  readonly pool?: ConnectionPool;
  readonly outlier?: OutlierDetection;
}

export interface TrafficPolicy extends TrafficSettings {
  /** By Service port. A port named here takes nothing from the policy around it. */
  readonly ports: ReadonlyMap<number, TrafficSettings>;
}

const BLOCKS = ['tls', 'loadBalancer', 'connectionPool', 'outlierDetection'];
const REFUSED = ['tunnel', 'proxyProtocol', 'retryBudget'];

export function readPolicy(reader: Reader, value: unknown, path: string): TrafficPolicy | undefined {
  const raw = object(reader, value, path, [...BLOCKS, 'portLevelSettings'], REFUSED);
  if (!raw) return undefined;
  if (Object.keys(raw).length === 0) report(reader, path, 'empty', 'traffic policy must have at least one field');
  const ports = new Map<number, TrafficSettings>();
  for (const [i, entry] of list(reader, raw.portLevelSettings, `${path}.portLevelSettings`).entries()) {
    const at = `${path}.portLevelSettings[${i}]`;
    const setting = object(reader, entry, at, ['port', ...BLOCKS], REFUSED) ?? {};
    const port = object(reader, setting.port, `${at}.port`, ['number']);
    const number = integer(reader, port?.number, `${at}.port.number`, 1, 65535);
    if (number === undefined) {
      report(reader, `${at}.port`, 'required', 'portLevelSettings must have a port');
      continue;
    }
    const settings = readSettings(reader, setting, at);
    if (Object.keys(settings).length === 0)
      report(reader, at, 'empty', 'port level settings must have at least one field');
    ports.set(number, settings);
  }
  return { ...readSettings(reader, raw, path), ports };
}

function readSettings(reader: Reader, raw: RawObject, path: string): TrafficSettings {
  const tls = readTls(reader, raw.tls, `${path}.tls`);
  const lb = readLb(reader, raw.loadBalancer, `${path}.loadBalancer`);
  const pool = readPool(reader, raw.connectionPool, `${path}.connectionPool`);
  const outlier = readOutlier(reader, raw.outlierDetection, `${path}.outlierDetection`);
  return {
    ...(tls ? { tls } : {}),
    ...(lb ? { lb } : {}),
    ...(pool ? { pool } : {}),
    ...(outlier ? { outlier } : {}),
  };
}

function readLb(reader: Reader, value: unknown, path: string): LoadBalancer | undefined {
  const raw = object(reader, value, path, [
    'simple',
    'consistentHash',
    'localityLbSetting',
    'warmup',
    'warmupDurationSecs',
  ]);
  if (!raw) return undefined;
  const given = oneOf(reader, raw.simple, `${path}.simple`, [
    'UNSPECIFIED',
    'LEAST_CONN',
    'LEAST_REQUEST',
    'ROUND_ROBIN',
    'RANDOM',
    'PASSTHROUGH',
  ]);
  const simple = given === 'UNSPECIFIED' || given === 'LEAST_CONN' ? 'LEAST_REQUEST' : given;
  const hash = readHash(reader, raw.consistentHash, `${path}.consistentHash`);
  if (given !== undefined && hash)
    report(reader, path, 'oneof', `${path}: only one of simple and consistentHash may be set`);
  const locality = readLocality(reader, raw.localityLbSetting, `${path}.localityLbSetting`);
  const warmup = readWarmup(reader, raw, path);
  if (warmup && simple !== undefined && simple !== 'LEAST_REQUEST' && simple !== 'ROUND_ROBIN')
    report(
      reader,
      `${path}.warmup`,
      'warmup',
      'Warm Up is not supported with this load balancer. Use LEAST_REQUEST or ROUND_ROBIN',
    );
  return {
    ...(simple ? { simple } : {}),
    ...(hash ? { hash } : {}),
    ...(locality ? { locality } : {}),
    ...(warmup ? { warmup } : {}),
  };
}

function readWarmup(reader: Reader, raw: RawObject, path: string): LoadBalancer['warmup'] {
  const own = object(reader, raw.warmup, `${path}.warmup`, ['duration', 'minimumPercent', 'aggression']);
  const ms =
    duration(reader, own?.duration, `${path}.warmup.duration`) ??
    duration(reader, raw.warmupDurationSecs, `${path}.warmupDurationSecs`);
  if (own && ms === undefined) report(reader, `${path}.warmup`, 'required', `${path}.warmup.duration is required`);
  if (ms === undefined) return undefined;
  const aggression = own?.aggression ?? 1;
  if (typeof aggression !== 'number' || aggression < 1)
    report(reader, `${path}.warmup.aggression`, 'out-of-range', 'aggression should be greater than or equal to 1');
  return {
    durationMs: ms,
    minimumPercent: integer(reader, own?.minimumPercent, `${path}.warmup.minimumPercent`, 0, 100) ?? 10,
    aggression: typeof aggression === 'number' ? aggression : 1,
  };
}

function readHash(reader: Reader, value: unknown, path: string): ConsistentHash | undefined {
  const keys = ['httpHeaderName', 'httpCookie', 'useSourceIp', 'httpQueryParameterName'] as const;
  const raw = object(reader, value, path, [...keys, 'ringHash', 'maglev', 'minimumRingSize']);
  if (!raw) return undefined;
  if (keys.filter((k) => raw[k] !== undefined && raw[k] !== false).length !== 1)
    report(reader, path, 'oneof', `${path}: exactly one of ${keys.join(', ')} must be set`);
  const ring = object(reader, raw.ringHash, `${path}.ringHash`, ['minimumRingSize']);
  const maglev = object(reader, raw.maglev, `${path}.maglev`, ['tableSize']);
  if (ring && maglev) report(reader, path, 'oneof', `${path}: only one of ringHash and maglev may be set`);
  const minimumSize =
    integer(reader, ring?.minimumRingSize, `${path}.ringHash.minimumRingSize`, 1, MAX_RING) ??
    integer(reader, raw.minimumRingSize, `${path}.minimumRingSize`, 1, MAX_RING) ??
    1024;
  const tableSize = integer(reader, maglev?.tableSize, `${path}.maglev.tableSize`, 2, MAX_MAGLEV) ?? 65_537;
  if (maglev && !isPrime(tableSize))
    report(reader, `${path}.maglev.tableSize`, 'prime', `tableSize must be a prime number for maglev`);
  const key = readHashKey(reader, raw, path);
  if (!key) return undefined;
  return { key, algorithm: maglev ? { kind: 'maglev', tableSize } : { kind: 'ring', minimumSize } };
}

/** Envoy's own limits. */
const MAX_RING = 8_388_608;
const MAX_MAGLEV = 5_000_011;

function isPrime(n: number): boolean {
  for (let i = 2; i * i <= n; i += 1) if (n % i === 0) return false;
  return n > 1;
}

function readHashKey(reader: Reader, raw: RawObject, path: string): HashKey | undefined {
  const header = text(reader, raw.httpHeaderName, `${path}.httpHeaderName`);
  if (header !== undefined) {
    headerName(reader, header, `${path}.httpHeaderName`);
    return { kind: 'header', name: header };
  }
  const query = text(reader, raw.httpQueryParameterName, `${path}.httpQueryParameterName`);
  if (query !== undefined) return { kind: 'query', name: query };
  const cookie = object(reader, raw.httpCookie, `${path}.httpCookie`, ['name', 'path', 'ttl'], ['attributes']);
  if (cookie) {
    const name = text(reader, cookie.name, `${path}.httpCookie.name`) ?? '';
    if (name === '') report(reader, `${path}.httpCookie.name`, 'required', 'name required for HttpCookie');
    return {
      kind: 'cookie',
      name,
      path: text(reader, cookie.path, `${path}.httpCookie.path`) ?? '',
      ttlMs: duration(reader, cookie.ttl, `${path}.httpCookie.ttl`),
    };
  }
  return flag(reader, raw.useSourceIp, `${path}.useSourceIp`) ? { kind: 'source-ip' } : undefined;
}

export function readLocality(reader: Reader, value: unknown, path: string): LocalityLb | undefined {
  const raw = object(reader, value, path, ['enabled', 'distribute', 'failover', 'failoverPriority']);
  if (!raw) return undefined;
  const distribute = list(reader, raw.distribute, `${path}.distribute`).map((entry, i) => {
    const at = `${path}.distribute[${i}]`;
    const own = object(reader, entry, at, ['from', 'to']) ?? {};
    const to = new Map<string, number>();
    const shares = object(reader, own.to, `${at}.to`, Object.keys(own.to ?? {})) ?? {};
    for (const [locality, share] of Object.entries(shares)) {
      const percent = integer(reader, share, `${at}.to[${locality}]`, 1, 100);
      if (percent !== undefined) to.set(locality, percent);
    }
    const sum = [...to.values()].reduce((a, b) => a + b, 0);
    if (sum !== 100) report(reader, `${at}.to`, 'sum', `total locality weight ${sum} != 100`);
    return { from: text(reader, own.from, `${at}.from`) ?? '', to };
  });
  const failover = list(reader, raw.failover, `${path}.failover`).map((entry, i) => {
    const at = `${path}.failover[${i}]`;
    const own = object(reader, entry, at, ['from', 'to']) ?? {};
    const from = text(reader, own.from, `${at}.from`) ?? '';
    const to = text(reader, own.to, `${at}.to`) ?? '';
    if (from === to) report(reader, at, 'same', `locality lb failover settings must specify different regions`);
    if (`${from}${to}`.includes('/') || `${from}${to}`.includes('*'))
      report(reader, at, 'region', 'locality lb failover only specifies region, cannot have / or *');
    return { from, to };
  });
  const failoverPriority = texts(reader, raw.failoverPriority, `${path}.failoverPriority`);
  const used = [distribute, failover, failoverPriority].filter((l) => l.length > 0).length;
  if (distribute.length > 0 && used > 1)
    report(reader, path, 'oneof', `can not simultaneously specify 'distribute' and 'failover' or 'failoverPriority'`);
  return {
    enabled: flag(reader, raw.enabled, `${path}.enabled`) ?? true,
    distribute,
    failover,
    failoverPriority,
  };
}

const MAX = 2_147_483_647;

function readPool(reader: Reader, value: unknown, path: string): ConnectionPool | undefined {
  const raw = object(reader, value, path, ['tcp', 'http']);
  if (!raw) return undefined;
  if (Object.keys(raw).length === 0)
    report(reader, path, 'empty', 'connection pool settings must have either TCP or HTTP settings');
  const tcp =
    object(
      reader,
      raw.tcp,
      `${path}.tcp`,
      ['maxConnections', 'connectTimeout', 'tcpKeepalive', 'maxConnectionDuration', 'idleTimeout'],
      ['maxConnectionDurationJitter'],
    ) ?? {};
  const http =
    object(reader, raw.http, `${path}.http`, [
      'http1MaxPendingRequests',
      'http2MaxRequests',
      'maxRequestsPerConnection',
      'maxRetries',
      'idleTimeout',
      'h2UpgradePolicy',
      'useClientProtocol',
      'maxConcurrentStreams',
    ]) ?? {};
  const keep = object(reader, tcp.tcpKeepalive, `${path}.tcp.tcpKeepalive`, ['probes', 'time', 'interval']);
  // 0 means "not set" in all of these.
  const count = (of: RawObject, key: string, at: string): Record<string, number> => {
    const found = integer(reader, of[key], `${at}.${key}`, 0, MAX);
    return found === undefined || found === 0 ? {} : { [key]: found };
  };
  const time = (value: unknown, name: string, at: string): Record<string, number> => {
    const ms = duration(reader, value, at);
    return ms === undefined ? {} : { [name]: ms };
  };
  const policy = oneOf(reader, http.h2UpgradePolicy, `${path}.http.h2UpgradePolicy`, [
    'DEFAULT',
    'DO_NOT_UPGRADE',
    'UPGRADE',
  ]);
  const useClientProtocol = flag(reader, http.useClientProtocol, `${path}.http.useClientProtocol`) ?? false;
  if (useClientProtocol && policy === 'UPGRADE')
    report(reader, `${path}.http`, 'oneof', 'use client protocol must not be true when H2UpgradePolicy is UPGRADE');
  return {
    ...count(tcp, 'maxConnections', `${path}.tcp`),
    ...time(tcp.connectTimeout, 'connectTimeoutMs', `${path}.tcp.connectTimeout`),
    ...time(tcp.maxConnectionDuration, 'maxConnectionDurationMs', `${path}.tcp.maxConnectionDuration`),
    ...time(tcp.idleTimeout, 'tcpIdleTimeoutMs', `${path}.tcp.idleTimeout`),
    ...(keep
      ? {
          keepalive: {
            ...count(keep, 'probes', `${path}.tcp.tcpKeepalive`),
            ...time(keep.time, 'timeMs', `${path}.tcp.tcpKeepalive.time`),
            ...time(keep.interval, 'intervalMs', `${path}.tcp.tcpKeepalive.interval`),
          },
        }
      : {}),
    ...count(http, 'http1MaxPendingRequests', `${path}.http`),
    ...count(http, 'http2MaxRequests', `${path}.http`),
    ...count(http, 'maxRequestsPerConnection', `${path}.http`),
    ...count(http, 'maxRetries', `${path}.http`),
    ...count(http, 'maxConcurrentStreams', `${path}.http`),
    ...time(http.idleTimeout, 'httpIdleTimeoutMs', `${path}.http.idleTimeout`),
    ...(policy ? { h2UpgradePolicy: policy } : {}),
    useClientProtocol,
  };
}

function readOutlier(reader: Reader, value: unknown, path: string): OutlierDetection | undefined {
  const raw = object(
    reader,
    value,
    path,
    [
      'consecutive5xxErrors',
      'consecutiveErrors',
      'consecutiveGatewayErrors',
      'interval',
      'baseEjectionTime',
      'maxEjectionPercent',
      'minHealthPercent',
      'splitExternalLocalOriginErrors',
      'consecutiveLocalOriginFailures',
    ],
    ['outlierDetectionHttpErrorCodes'],
  );
  if (!raw) return undefined;
  const count = (key: string, name = key): Record<string, number> => {
    const found = integer(reader, raw[key], `${path}.${key}`, 0, MAX);
    return found === undefined ? {} : { [name]: found };
  };
  const time = (key: string, name: string): Record<string, number> => {
    const ms = duration(reader, raw[key], `${path}.${key}`);
    if (ms !== undefined && ms < 1)
      report(reader, `${path}.${key}`, 'out-of-range', `duration must be greater than 1ms`);
    return ms === undefined ? {} : { [name]: ms };
  };
  const percent = (key: string): number | undefined => integer(reader, raw[key], `${path}.${key}`, 0, 100);
  const max = percent('maxEjectionPercent');
  const split = flag(reader, raw.splitExternalLocalOriginErrors, `${path}.splitExternalLocalOriginErrors`) ?? false;
  if (!split && raw.consecutiveLocalOriginFailures !== undefined)
    report(
      reader,
      `${path}.consecutiveLocalOriginFailures`,
      'needs-split',
      'outlier detection consecutive local origin failures is specified, but split external local origin errors is set to false',
    );
  return {
    // The old name meant gateway errors.
    ...count('consecutiveErrors', 'consecutiveGatewayErrors'),
    ...count('consecutive5xxErrors'),
    ...count('consecutiveGatewayErrors'),
    ...time('interval', 'intervalMs'),
    ...time('baseEjectionTime', 'baseEjectionMs'),
    ...(max === undefined ? {} : { maxEjectionPercent: max }),
    minHealthPercent: percent('minHealthPercent') ?? 0,
    splitLocalErrors: split,
    ...count('consecutiveLocalOriginFailures'),
  };
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
