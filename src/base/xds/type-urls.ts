// The resource types of the discovery protocol, their short names and the order in which they are pushed.
// Used by the server (control-plane/serve), the agent's relay and the proxy's client.

const PREFIX = 'type.googleapis.com/';

export const TYPE_URL = {
  cluster: `${PREFIX}envoy.config.cluster.v3.Cluster`,
  endpoint: `${PREFIX}envoy.config.endpoint.v3.ClusterLoadAssignment`,
  listener: `${PREFIX}envoy.config.listener.v3.Listener`,
  route: `${PREFIX}envoy.config.route.v3.RouteConfiguration`,
  secret: `${PREFIX}envoy.extensions.transport_sockets.tls.v3.Secret`,
  extension: `${PREFIX}envoy.config.core.v3.TypedExtensionConfig`,
  nameTable: `${PREFIX}istio.networking.nds.v1.NameTable`,
  proxyConfig: `${PREFIX}istio.mesh.v1alpha1.ProxyConfig`,
  health: `${PREFIX}istio.v1.HealthInformation`,
  debug: 'istio.io/debug',
} as const;

export type TypeUrl = (typeof TYPE_URL)[keyof typeof TYPE_URL];

/** Make before break (xds.md §4.4); every other watched type follows. */
export const PUSH_ORDER: readonly string[] = [
  TYPE_URL.cluster,
  TYPE_URL.endpoint,
  TYPE_URL.listener,
  TYPE_URL.route,
  TYPE_URL.secret,
];

const SHORT: Readonly<Record<string, string>> = {
  [TYPE_URL.cluster]: 'cds',
  [TYPE_URL.endpoint]: 'eds',
  [TYPE_URL.listener]: 'lds',
  [TYPE_URL.route]: 'rds',
  [TYPE_URL.secret]: 'sds',
  [TYPE_URL.extension]: 'ecds',
  [TYPE_URL.nameTable]: 'nds',
  [TYPE_URL.proxyConfig]: 'pcds',
};

/** `cds`, `lds` …; the URL itself for a type that has no short name. */
export function shortTypeName(typeUrl: string): string {
  return SHORT[typeUrl] ?? typeUrl;
}

/** Types whose empty name list means "everything"; for the others it means "nothing". */
export function isWildcardType(typeUrl: string): boolean {
  return (
    typeUrl !== TYPE_URL.endpoint &&
    typeUrl !== TYPE_URL.route &&
    typeUrl !== TYPE_URL.secret &&
    typeUrl !== TYPE_URL.extension
  );
}
