// What the schema packages do not carry about the Istio and Gateway API kinds: names, columns, versions, defaults, list keys.
// Read by crds.ts.

export interface Column {
  readonly name: string;
  readonly type: 'string' | 'date' | 'integer';
  readonly jsonPath: string;
  readonly description: string;
  readonly priority?: number;
}

export interface CrdRow {
  readonly group: string;
  readonly kind: string;
  readonly plural: string;
  readonly singular?: string;
  readonly shortNames?: readonly string[];
  readonly columns?: readonly Column[];
  /** First is stored; the version whose declaration gives the schema of all is `schemaFrom`. */
  readonly versions: readonly string[];
  readonly schemaFrom: string;
  readonly cluster?: boolean;
  readonly categories?: readonly string[];
}

const AGE: Column = {
  name: 'Age',
  type: 'date',
  jsonPath: '.metadata.creationTimestamp',
  description: 'Time since the object was created',
};
const column = (name: string, jsonPath: string, description: string): Column => ({
  name,
  type: 'string',
  jsonPath,
  description,
});

const istio = (
  section: string,
  row: Omit<CrdRow, 'group' | 'categories' | 'schemaFrom'> & { schemaFrom?: string },
): CrdRow => ({
  group: `${section}.istio.io`,
  categories: ['istio-io', `${section}-istio-io`],
  ...row,
  schemaFrom: row.schemaFrom ?? row.versions[0]!,
});

const THREE = ['v1', 'v1beta1', 'v1alpha3'];

export const ISTIO_KINDS: readonly CrdRow[] = [
  istio('networking', {
    kind: 'VirtualService',
    plural: 'virtualservices',
    shortNames: ['vs'],
    versions: THREE,
    columns: [
      column('Gateways', '.spec.gateways', 'Gateways and sidecars that apply these routes'),
      column('Hosts', '.spec.hosts', 'Destination hosts the traffic is sent to'),
      AGE,
    ],
  }),
  istio('networking', {
    kind: 'DestinationRule',
    plural: 'destinationrules',
    shortNames: ['dr'],
    versions: THREE,
    columns: [column('Host', '.spec.host', 'Service the rule is for'), AGE],
  }),
  istio('networking', { kind: 'Gateway', plural: 'gateways', shortNames: ['gw'], versions: THREE }),
  istio('networking', {
    kind: 'ServiceEntry',
    plural: 'serviceentries',
    shortNames: ['se'],
    versions: THREE,
    columns: [
      column('Hosts', '.spec.hosts', 'Hosts of the service'),
      column(
        'Location',
        '.spec.location',
        'Whether the service is inside the mesh (MESH_INTERNAL) or outside (MESH_EXTERNAL)',
      ),
      column('Resolution', '.spec.resolution', 'How addresses are found (NONE, STATIC, DNS)'),
      AGE,
    ],
  }),
  istio('networking', { kind: 'Sidecar', plural: 'sidecars', versions: THREE }),
  istio('networking', {
    kind: 'WorkloadEntry',
    plural: 'workloadentries',
    shortNames: ['we'],
    versions: THREE,
    columns: [AGE, column('Address', '.spec.address', 'Address of the workload')],
  }),
  istio('networking', {
    kind: 'WorkloadGroup',
    plural: 'workloadgroups',
    shortNames: ['wg'],
    versions: THREE,
    columns: [AGE],
  }),
  istio('networking', { kind: 'EnvoyFilter', plural: 'envoyfilters', versions: ['v1alpha3'] }),
  istio('networking', { kind: 'ProxyConfig', plural: 'proxyconfigs', versions: ['v1beta1'] }),
  istio('security', {
    kind: 'PeerAuthentication',
    plural: 'peerauthentications',
    shortNames: ['pa'],
    versions: ['v1', 'v1beta1'],
    columns: [column('Mode', '.spec.mtls.mode', 'Mutual TLS mode of the workloads'), AGE],
  }),
  istio('security', {
    kind: 'AuthorizationPolicy',
    plural: 'authorizationpolicies',
    shortNames: ['ap'],
    versions: ['v1', 'v1beta1'],
    columns: [column('Action', '.spec.action', 'What to do with a request that matches'), AGE],
  }),
  istio('security', {
    kind: 'RequestAuthentication',
    plural: 'requestauthentications',
    shortNames: ['ra'],
    versions: ['v1', 'v1beta1'],
  }),
  istio('telemetry', {
    kind: 'Telemetry',
    plural: 'telemetries',
    shortNames: ['telemetry'],
    versions: ['v1alpha1', 'v1'],
    schemaFrom: 'v1',
    columns: [AGE],
  }),
  istio('extensions', { kind: 'WasmPlugin', plural: 'wasmplugins', versions: ['v1alpha1'], columns: [AGE] }),
];

const gateway = (row: Omit<CrdRow, 'group' | 'categories'>): CrdRow => ({
  group: 'gateway.networking.k8s.io',
  categories: ['gateway-api'],
  ...row,
});

const HOSTNAMES = column('Hostnames', '.spec.hostnames', 'Hosts the route is for');

export const GATEWAY_KINDS: readonly CrdRow[] = [
  gateway({
    kind: 'GatewayClass',
    plural: 'gatewayclasses',
    singular: 'gatewayclass',
    shortNames: ['gc'],
    versions: ['v1', 'v1beta1'],
    schemaFrom: 'v1',
    cluster: true,
    columns: [
      column('Controller', '.spec.controllerName', 'Controller of the gateways of this class'),
      column('Accepted', '.status.conditions[?(@.type=="Accepted")].status', 'Whether a controller took the class'),
      AGE,
      { ...column('Description', '.spec.description', 'Text for people'), priority: 1 },
    ],
  }),
  gateway({
    kind: 'Gateway',
    plural: 'gateways',
    shortNames: ['gtw'],
    versions: ['v1', 'v1beta1'],
    schemaFrom: 'v1',
    columns: [
      column('Class', '.spec.gatewayClassName', 'Class of the gateway'),
      column('Address', '.status.addresses[*].value', 'Where the gateway listens'),
      column('Programmed', '.status.conditions[?(@.type=="Programmed")].status', 'Whether the data plane has it'),
      AGE,
    ],
  }),
  gateway({
    kind: 'HTTPRoute',
    plural: 'httproutes',
    versions: ['v1', 'v1beta1'],
    schemaFrom: 'v1',
    columns: [HOSTNAMES, AGE],
  }),
  gateway({ kind: 'GRPCRoute', plural: 'grpcroutes', versions: ['v1'], schemaFrom: 'v1', columns: [HOSTNAMES, AGE] }),
  gateway({
    kind: 'TLSRoute',
    plural: 'tlsroutes',
    versions: ['v1', 'v1alpha2', 'v1alpha3'],
    schemaFrom: 'v1',
    columns: [AGE],
  }),
  gateway({ kind: 'TCPRoute', plural: 'tcproutes', versions: ['v1alpha2'], schemaFrom: 'v1alpha2', columns: [AGE] }),
  gateway({ kind: 'UDPRoute', plural: 'udproutes', versions: ['v1alpha2'], schemaFrom: 'v1alpha2', columns: [AGE] }),
  gateway({
    kind: 'ReferenceGrant',
    plural: 'referencegrants',
    shortNames: ['refgrant'],
    versions: ['v1beta1', 'v1'],
    schemaFrom: 'v1',
    columns: [AGE],
  }),
  gateway({
    kind: 'BackendTLSPolicy',
    plural: 'backendtlspolicies',
    shortNames: ['btlspolicy'],
    versions: ['v1', 'v1alpha3'],
    schemaFrom: 'v1',
    columns: [AGE],
  }),
];

/** Defaults the Gateway API states in words: type name (without version) → field → value. */
export const GATEWAY_DEFAULTS: Readonly<Record<string, Readonly<Record<string, unknown>>>> = {
  ParentReference: { group: 'gateway.networking.k8s.io', kind: 'Gateway' },
  BackendRef: { group: '', kind: 'Service', weight: 1 },
  HTTPBackendRef: { group: '', kind: 'Service', weight: 1 },
  GRPCBackendRef: { group: '', kind: 'Service', weight: 1 },
  BackendObjectReference: { group: '', kind: 'Service' },
  SecretObjectReference: { group: '', kind: 'Secret' },
  HTTPPathMatch: { type: 'PathPrefix', value: '/' },
  HTTPRouteMatch: { path: { type: 'PathPrefix', value: '/' } },
  HTTPHeaderMatch: { type: 'Exact' },
  HTTPQueryParamMatch: { type: 'Exact' },
  HTTPRouteRule: { matches: [{ path: { type: 'PathPrefix', value: '/' } }] },
  HTTPRequestRedirectFilter: { statusCode: 302 },
  GRPCHeaderMatch: { type: 'Exact' },
  GRPCMethodMatch: { type: 'Exact' },
  Listener: { allowedRoutes: { namespaces: { from: 'Same' } } },
  AllowedRoutes: { namespaces: { from: 'Same' } },
  RouteNamespaces: { from: 'Same' },
  ListenerTLSConfig: { mode: 'Terminate' },
  GatewayTLSConfig: { mode: 'Terminate' },
};

/** Lists of the Gateway API that merge by key; the rest is atomic. */
export const GATEWAY_LIST_KEYS: Readonly<Record<string, Readonly<Record<string, readonly string[]>>>> = {
  GatewaySpec: { listeners: ['name'] },
  GatewayStatus: { listeners: ['name'], conditions: ['type'] },
  GatewayClassStatus: { conditions: ['type'] },
  ListenerStatus: { conditions: ['type'] },
  RouteParentStatus: { conditions: ['type'] },
  PolicyAncestorStatus: { conditions: ['type'] },
  HTTPHeaderFilter: { set: ['name'], add: ['name'] },
  HTTPRouteMatch: { headers: ['name'], queryParams: ['name'] },
  GRPCRouteMatch: { headers: ['name'] },
};
