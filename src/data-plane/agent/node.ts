// The node the proxy introduces itself as: id, cluster, metadata (xds.md §5). Pure. Called by wiring.ts.
import { ISTIO_API_VERSION } from '../../base/version.ts';
import type { AgentOptions } from './options.ts';

export interface XdsNode {
  readonly id: string;
  readonly cluster: string;
  readonly metadata: Readonly<Record<string, unknown>>;
}

/** Texts of the downward API's files; empty when they are not mounted. */
export interface PodInfo {
  readonly labels: string;
  readonly annotations: string;
}

const PREFIX = 'ISTIO_META_';
const JSON_PREFIX = 'ISTIO_METAJSON_';
/** These environment values are JSON even under the plain prefix, or lists. */
const JSON_KEYS: ReadonlySet<string> = new Set(['POD_PORTS']);

export function buildNode(options: AgentOptions, pod: PodInfo): XdsNode {
  const labels = parseDownward(pod.labels);
  const { 'pod-template-hash': _, ...kept } = labels;
  const app = labels.app ?? labels['app.kubernetes.io/name'];
  const workload = options.env[`${PREFIX}WORKLOAD_NAME`];
  const metadata: Record<string, unknown> = {
    ...fromEnv(options.env),
    NAME: options.podName,
    NAMESPACE: options.namespace,
    SERVICE_ACCOUNT: options.serviceAccount,
    INSTANCE_IPS: options.instanceIp,
    CLUSTER_ID: options.clusterId,
    LABELS: kept,
    ANNOTATIONS: parseDownward(pod.annotations),
    ISTIO_VERSION: `${ISTIO_API_VERSION}.0`,
    PROXY_CONFIG: options.proxyConfig,
    ENVOY_STATUS_PORT: 15021,
    ENVOY_PROMETHEUS_PORT: 15090,
    PILOT_SAN: [options.istiodSan ?? hostOf(options.discoveryAddress)],
  };
  if (options.exitOnZeroConnections) metadata.EXIT_ON_ZERO_ACTIVE_CONNECTIONS = 'true';
  return {
    id: `${options.role}~${options.instanceIp}~${options.podName}.${options.namespace}~${options.domain}`,
    cluster: `${app ?? workload ?? 'istio-proxy'}.${options.namespace}`,
    metadata,
  };
}

function fromEnv(env: AgentOptions['env']): Record<string, unknown> {
  const out: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(env)) {
    if (value === undefined) continue;
    if (key.startsWith(JSON_PREFIX)) {
      const json = parseJson(value);
      if (typeof json === 'object' && json !== null) Object.assign(out, json);
    } else if (key.startsWith(PREFIX)) {
      const name = key.slice(PREFIX.length);
      out[name] = JSON_KEYS.has(name) ? (parseJson(value) ?? value) : value;
    }
  }
  return out;
}

/** `key="value"` per line, the value quoted as Go does (close enough to JSON for labels and annotations). */
export function parseDownward(text: string): Readonly<Record<string, string>> {
  const out: Record<string, string> = {};
  for (const line of text.split('\n')) {
    const at = line.indexOf('=');
    if (at <= 0) continue;
    const quoted = line.slice(at + 1).trim();
    const value = parseJson(quoted.replace(/\\x([0-9a-f]{2})/g, '\\u00$1'));
    out[line.slice(0, at)] = typeof value === 'string' ? value : quoted.replace(/^"|"$/g, '');
  }
  return out;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** `istiod.istio-system.svc:15012` → `istiod.istio-system.svc`. */
export function hostOf(address: string): string {
  const at = address.lastIndexOf(':');
  return (at < 0 ? address : address.slice(0, at)).replace(/^\[|\]$/g, '');
}
