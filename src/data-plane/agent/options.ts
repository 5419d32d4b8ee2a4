// The agent's configuration from its command line and environment (injection-capture.md §1.2, identity.md §8-§11). Pure.
// Called by main.ts through wiring.ts.
import type { Level } from '../../base/runtime/log.ts';
import type { KeyKind } from '../../base/x509/keys.ts';

export type Env = Readonly<Record<string, string | undefined>>;

export interface AgentOptions {
  readonly role: 'sidecar' | 'router';
  /** Which program is the proxy: our own, or a stock Envoy. */
  readonly engine: 'meltemi' | 'envoy';
  readonly domain: string;
  readonly podName: string;
  readonly namespace: string;
  readonly serviceAccount: string;
  readonly instanceIp: string;
  readonly hostIp: string;
  readonly trustDomain: string;
  readonly clusterId: string;
  readonly caAddress: string;
  readonly discoveryAddress: string;
  readonly istiodSan: string | undefined;
  readonly caSystemRoots: boolean;
  readonly xdsSystemRoots: boolean;
  readonly provCert: string | undefined;
  readonly caHeaders: Readonly<Record<string, string>>;
  readonly xdsHeaders: Readonly<Record<string, string>>;
  readonly secretTtlSeconds: number;
  readonly graceRatio: number;
  readonly graceJitter: number;
  readonly keyKind: KeyKind;
  readonly keyForm: 'pkcs8' | 'traditional';
  readonly socketFile: string;
  readonly outputCerts: string | undefined;
  readonly fileDebounceMs: number;
  readonly proxyLogLevel: string;
  readonly componentLogLevel: string;
  readonly agentLogLevel: Level;
  /** `cpus`: a thread for each CPU, where the proxy would not take so many by itself. */
  readonly concurrency: number | 'cpus' | undefined;
  readonly drainDurationSeconds: number;
  readonly terminationDrainMs: number;
  readonly exitOnZeroConnections: boolean;
  readonly minimumDrainMs: number;
  readonly adminPort: number;
  readonly statusPort: number;
  readonly deltaXds: boolean;
  readonly proxyConfig: ProxyConfig;
  readonly appProbers: string;
  readonly prometheus: string;
  readonly bootstrapOverride: string | undefined;
  readonly env: Env;
}

/** The parts of mesh ProxyConfig the agent uses; the whole object goes into the node's metadata. */
export interface ProxyConfig {
  readonly discoveryAddress?: string;
  readonly concurrency?: number;
  readonly drainDuration?: string;
  readonly terminationDrainDuration?: string;
  readonly statusPort?: number;
  readonly proxyAdminPort?: number;
  readonly proxyStatsMatcher?: {
    readonly inclusionPrefixes?: readonly string[];
    readonly inclusionSuffixes?: readonly string[];
    readonly inclusionRegexps?: readonly string[];
  };
  readonly [key: string]: unknown;
}

/** Wrong flags or values; the message names them. */
export class UsageError extends Error {}

const DEFAULT_ISTIOD = 'istiod.istio-system.svc:15012';
const VALUE_FLAGS: ReadonlySet<string> = new Set([
  'domain',
  'proxyLogLevel',
  'proxyComponentLogLevel',
  'log_output_level',
  'concurrency',
  'serviceCluster',
  'meshConfig',
]);
const IGNORABLE: ReadonlySet<string> = new Set(['log_as_json', 'log_caller', 'log_stacktrace_level', 'log_target']);

/** `args` after `proxy`. Throws {@link UsageError}. */
export function parseAgentOptions(args: readonly string[], env: Env): AgentOptions {
  const { role, flags } = parseFlags(args);
  const proxyConfig = parseProxyConfig(env.PROXY_CONFIG);
  const namespace = env.POD_NAMESPACE ?? '';
  const discoveryAddress = proxyConfig.discoveryAddress ?? DEFAULT_ISTIOD;
  const caAddress = env.CA_ADDR || discoveryAddress;
  refuseUnsupported(env);
  return {
    role,
    engine: engineOf(env),
    domain: flags.get('domain') ?? `${namespace || 'default'}.svc.cluster.local`,
    podName: env.POD_NAME ?? '',
    namespace,
    serviceAccount: env.SERVICE_ACCOUNT ?? '',
    instanceIp: env.INSTANCE_IP ?? '',
    hostIp: env.HOST_IP ?? '',
    trustDomain: env.TRUST_DOMAIN || 'cluster.local',
    clusterId: env.ISTIO_META_CLUSTER_ID || 'Kubernetes',
    caAddress,
    discoveryAddress,
    istiodSan: env.ISTIOD_SAN || undefined,
    caSystemRoots: env.CA_ROOT_CA === 'SYSTEM',
    xdsSystemRoots: env.XDS_ROOT_CA === 'SYSTEM',
    provCert: env.PROV_CERT || undefined,
    caHeaders: headersOf(env, 'CA_HEADER_'),
    xdsHeaders: headersOf(env, 'XDS_HEADER_'),
    secretTtlSeconds: Math.round(durationMs(env.SECRET_TTL, 'SECRET_TTL', 86_400_000) / 1000),
    graceRatio: fraction(env.SECRET_GRACE_PERIOD_RATIO, 'SECRET_GRACE_PERIOD_RATIO', 0.5),
    graceJitter: fraction(env.SECRET_GRACE_PERIOD_RATIO_JITTER, 'SECRET_GRACE_PERIOD_RATIO_JITTER', 0.01),
    keyKind: workloadKey(env),
    keyForm: env.PKCS8_KEY === 'true' ? 'pkcs8' : 'traditional',
    socketFile: env.WORKLOAD_IDENTITY_SOCKET_FILE || 'socket',
    outputCerts: env.OUTPUT_CERTS || undefined,
    fileDebounceMs: durationMs(env.FILE_DEBOUNCE_DURATION, 'FILE_DEBOUNCE_DURATION', 100),
    proxyLogLevel: flags.get('proxyLogLevel') ?? 'warning',
    componentLogLevel: flags.get('proxyComponentLogLevel') ?? 'misc:error',
    agentLogLevel: logLevel(flags.get('log_output_level') ?? 'default:info'),
    concurrency: concurrency(flags.get('concurrency'), proxyConfig, env, engineOf(env)),
    drainDurationSeconds: durationMs(proxyConfig.drainDuration, 'drainDuration', 45_000) / 1000,
    terminationDrainMs: durationMs(
      env.TERMINATION_DRAIN_DURATION_SECONDS
        ? `${env.TERMINATION_DRAIN_DURATION_SECONDS}s`
        : proxyConfig.terminationDrainDuration,
      'terminationDrainDuration',
      5000,
    ),
    exitOnZeroConnections: env.EXIT_ON_ZERO_ACTIVE_CONNECTIONS === 'true',
    minimumDrainMs: durationMs(env.MINIMUM_DRAIN_DURATION, 'MINIMUM_DRAIN_DURATION', 5000),
    adminPort: proxyConfig.proxyAdminPort ?? 15_000,
    statusPort: proxyConfig.statusPort ?? 15_020,
    deltaXds: env.ISTIO_DELTA_XDS !== 'false',
    proxyConfig,
    appProbers: env.ISTIO_KUBE_APP_PROBERS ?? '',
    prometheus: env.ISTIO_PROMETHEUS_ANNOTATIONS ?? '',
    bootstrapOverride: env.ISTIO_BOOTSTRAP_OVERRIDE || undefined,
    env,
  };
}

function parseFlags(args: readonly string[]): {
  readonly role: 'sidecar' | 'router';
  readonly flags: ReadonlyMap<string, string>;
} {
  let role: 'sidecar' | 'router' = 'sidecar';
  const flags = new Map<string, string>();
  for (let i = 0; i < args.length; i += 1) {
    const arg = args[i] ?? '';
    if (arg === 'sidecar' || arg === 'router') {
      role = arg;
      continue;
    }
    const match = /^--([A-Za-z_-]+)(?:=(.*))?$/.exec(arg);
    const name = match?.[1] ?? '';
    if (IGNORABLE.has(name)) continue;
    if (!match || !VALUE_FLAGS.has(name))
      throw new UsageError(`pilot-agent proxy: ${JSON.stringify(arg)} is not a role or flag known here`);
    const value = match[2] ?? args[++i];
    if (value === undefined) throw new UsageError(`pilot-agent proxy: flag --${name} needs a value`);
    flags.set(name, value);
  }
  return { role, flags };
}

function refuseUnsupported(env: Env): void {
  if (env.ISTIO_META_DNS_CAPTURE === 'true')
    throw new UsageError(
      'ISTIO_META_DNS_CAPTURE is not supported: the agent has no DNS proxy; remove it from proxyMetadata',
    );
  const provider = env.CA_PROVIDER;
  if (provider !== undefined && provider !== '' && provider !== 'Citadel')
    throw new UsageError(`CA_PROVIDER ${provider} is not supported: only Citadel (istiod) is`);
  if (env.DISABLE_ENVOY === 'true')
    throw new UsageError('DISABLE_ENVOY is not supported: the agent always runs a proxy');
}

/** The injector's choice (annotation proxy.meltemi.dev/engine, or the mesh's proxyMetadata); istiod reads it as node metadata. */
function engineOf(env: Env): 'meltemi' | 'envoy' {
  const wanted = env.ISTIO_META_ENGINE || 'meltemi';
  if (wanted === 'meltemi' || wanted === 'envoy') return wanted;
  throw new UsageError(`ISTIO_META_ENGINE ${wanted} is not an engine: use meltemi or envoy`);
}

function parseProxyConfig(text: string | undefined): ProxyConfig {
  if (!text) return {};
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new UsageError(`PROXY_CONFIG is not JSON: ${error instanceof Error ? error.message : String(error)}`);
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new UsageError('PROXY_CONFIG is not a JSON object');
  return value as ProxyConfig;
}

function headersOf(env: Env, prefix: string): Readonly<Record<string, string>> {
  const out: Record<string, string> = {};
  for (const [key, value] of Object.entries(env))
    if (key.startsWith(prefix) && value !== undefined)
      out[key.slice(prefix.length).toLowerCase().replaceAll('_', '-')] = value;
  return out;
}

/**
 * ECC_SIGNATURE_ALGORITHM=ECDSA asks for ECDSA (curve by ECC_CURVE), WORKLOAD_RSA_KEY_SIZE for RSA, as in Istio;
 * MELTEMI_WORKLOAD_KEY=rsa|ecdsa says it in one word. None of them: ECDSA P-256 (Istio's default is RSA).
 */
function workloadKey(env: Env): KeyKind {
  const curve: KeyKind = env.ECC_CURVE === 'P384' ? 'p384' : 'p256';
  const algorithm = env.ECC_SIGNATURE_ALGORITHM;
  if (algorithm === 'ECDSA') return curve;
  if (algorithm) throw new UsageError(`ECC_SIGNATURE_ALGORITHM ${algorithm} is not supported: only ECDSA is`);
  const size = env.WORKLOAD_RSA_KEY_SIZE;
  const wanted = env.MELTEMI_WORKLOAD_KEY ?? (size ? 'rsa' : 'ecdsa');
  if (wanted === 'ecdsa') return curve;
  if (wanted !== 'rsa') throw new UsageError(`MELTEMI_WORKLOAD_KEY ${wanted} is neither rsa nor ecdsa`);
  if (!size || size === '2048') return 'rsa-2048';
  if (size === '3072') return 'rsa-3072';
  if (size === '4096') return 'rsa-4096';
  throw new UsageError(`WORKLOAD_RSA_KEY_SIZE ${size} is not supported: use 2048, 3072 or 4096`);
}

function concurrency(
  flag: string | undefined,
  config: ProxyConfig,
  env: Env,
  engine: 'meltemi' | 'envoy',
): AgentOptions['concurrency'] {
  // 0 asks for all CPUs: what a stock Envoy takes without the flag.
  const all = engine === 'meltemi' ? 'cpus' : undefined;
  if (flag !== undefined) {
    const value = Number(flag);
    if (!Number.isInteger(value) || value < 0) throw new UsageError(`--concurrency ${flag} is not a whole number`);
    return value === 0 ? all : value;
  }
  if (typeof config.concurrency === 'number') return config.concurrency === 0 ? all : config.concurrency;
  // A thread for each CPU of the limit is what Envoy needs; one of the embedded proxy's carries more than a sidecar's traffic,
  // and each further one costs 30 MB.
  if (engine === 'meltemi') return undefined;
  const limit = Number(env.ISTIO_CPU_LIMIT);
  return Number.isFinite(limit) && limit > 0 ? Math.ceil(limit) : undefined;
}

/** `default:debug`, `all:info`, `debug`: the agent has one level, that of the default scope. */
function logLevel(text: string): Level {
  for (const part of text.split(',')) {
    const [scope, level] = part.includes(':') ? part.split(':') : ['default', part];
    if (scope !== 'default' && scope !== 'all') continue;
    if (level === 'debug' || level === 'info' || level === 'warn' || level === 'error' || level === 'none')
      return level;
    if (level === 'fatal') return 'error';
    throw new UsageError(`--log_output_level ${text}: level ${level} is not debug, info, warn, error, fatal or none`);
  }
  return 'info';
}

const UNIT_MS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

/** Go durations (`1h30m`, `45s`, `100ms`). Throws {@link UsageError}. */
export function durationMs(text: string | undefined, name: string, fallback: number): number {
  if (text === undefined || text === '') return fallback;
  let total = 0;
  let at = 0;
  for (const match of text.matchAll(/(\d+(?:\.\d+)?)(ms|h|m|s)/g)) {
    if (match.index !== at) break;
    total += Number(match[1]) * (UNIT_MS[match[2] ?? ''] ?? 0);
    at += match[0].length;
  }
  if (at === 0 || at !== text.length)
    throw new UsageError(`${name} ${JSON.stringify(text)} is not a duration like 24h or 90s`);
  return total;
}

function fraction(text: string | undefined, name: string, fallback: number): number {
  if (text === undefined || text === '') return fallback;
  const value = Number(text);
  if (!(value >= 0 && value <= 1)) throw new UsageError(`${name} ${JSON.stringify(text)} is not a number from 0 to 1`);
  return value;
}
