// What the injector is told: values of the installation and MeshConfig.defaultConfig. Parsed here once; pure.
// Called by the control plane's wiring (ConfigMaps istio and istio-sidecar-injector) and by kube-inject.
import { parse } from 'yaml';
import type { LabelSelector } from '../../base/kube/selectors.ts';

export type Tree = { readonly [key: string]: unknown };

export interface ProxyResources {
  readonly requests: Readonly<Record<string, string>>;
  readonly limits: Readonly<Record<string, string>>;
}

export interface InjectionConfig {
  readonly revision: string;
  readonly hub: string;
  readonly tag: string;
  /** `host:port` of istiod's secure port. */
  readonly discoveryAddress: string;
  readonly trustDomain: string;
  readonly clusterId: string;
  readonly clusterDomain: string;
  readonly policy: 'enabled' | 'disabled';
  readonly enableNamespacesByDefault: boolean;
  readonly rewriteAppHttpProbe: boolean;
  readonly prometheusMerge: boolean;
  readonly privileged: boolean;
  readonly resources: ProxyResources;
  /** MeshConfig.defaultConfig as written. */
  readonly defaultConfig: Tree;
  readonly nativeSidecars: boolean;
  /** Pods matched by one of these are never (always) injected, unless they say themselves what they want. */
  readonly neverInject: readonly LabelSelector[];
  readonly alwaysInject: readonly LabelSelector[];
  /** The network of pods whose label does not name one; '' = none. */
  readonly network: string;
}

export interface InjectionInput {
  readonly values: Tree;
  readonly meshConfig: Tree;
  readonly policy?: string;
  readonly revision: string;
  /** ENABLE_NATIVE_SIDECARS. */
  readonly nativeSidecars: boolean;
}

const DEFAULT_RESOURCES: ProxyResources = {
  requests: { cpu: '100m', memory: '128Mi' },
  limits: { cpu: '2000m', memory: '1024Mi' },
};

/** Missing values take Istio's defaults. */
export function injectionConfig(input: InjectionInput): InjectionConfig {
  const global = tree(input.values.global);
  const proxy = tree(global.proxy);
  const webhook = tree(input.values.sidecarInjectorWebhook);
  const meshDefault = tree(input.meshConfig.defaultConfig);
  // Older values have the switch here; MeshConfig, when it says something, wins.
  const hold = proxy.holdApplicationUntilProxyStarts === true ? { holdApplicationUntilProxyStarts: true } : {};
  const defaultConfig: Tree = { ...hold, ...meshDefault };
  const resources = tree(proxy.resources);
  return {
    revision: input.revision || 'default',
    hub: text(global.hub ?? input.values.hub, 'docker.io/meltemi'),
    tag: text(global.tag ?? input.values.tag, 'latest'),
    discoveryAddress: text(defaultConfig.discoveryAddress, 'istiod.istio-system.svc:15012'),
    trustDomain: text(input.meshConfig.trustDomain, 'cluster.local'),
    clusterId: text(tree(global.multiCluster).clusterName, '') || 'Kubernetes',
    clusterDomain: text(proxy.clusterDomain, 'cluster.local'),
    policy: input.policy === 'disabled' ? 'disabled' : 'enabled',
    enableNamespacesByDefault: webhook.enableNamespacesByDefault === true,
    rewriteAppHttpProbe: webhook.rewriteAppHTTPProbe !== false,
    prometheusMerge: input.meshConfig.enablePrometheusMerge !== false,
    privileged: proxy.privileged === true,
    resources: {
      requests: { ...DEFAULT_RESOURCES.requests, ...strings(resources.requests) },
      limits: { ...DEFAULT_RESOURCES.limits, ...strings(resources.limits) },
    },
    defaultConfig,
    nativeSidecars: input.nativeSidecars,
    neverInject: selectors(webhook.neverInjectSelector),
    alwaysInject: selectors(webhook.alwaysInjectSelector),
    network: text(global.network, ''),
  };
}

/** A ConfigMap value: JSON or YAML. Throws when it is neither. */
export function parseTree(source: string | undefined): Tree {
  return tree(source === undefined ? undefined : parse(source));
}

export function tree(value: unknown): Tree {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Tree) : {};
}

/** Objects merge field by field, everything else is replaced. */
export function mergeTrees(base: Tree, over: Tree): Tree {
  const out: Record<string, unknown> = { ...base };
  for (const [key, value] of Object.entries(over)) {
    const both = isTree(out[key]) && isTree(value);
    out[key] = both ? mergeTrees(tree(out[key]), tree(value)) : value;
  }
  return out;
}

function isTree(value: unknown): boolean {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
function selectors(value: unknown): readonly LabelSelector[] {
  return Array.isArray(value) ? value.map((entry) => tree(entry) as LabelSelector) : [];
}
function text(value: unknown, otherwise: string): string {
  return typeof value === 'string' && value !== '' ? value : otherwise;
}
function strings(value: unknown): Readonly<Record<string, string>> {
  return Object.fromEntries(Object.entries(tree(value)).map(([k, v]) => [k, String(v)]));
}
