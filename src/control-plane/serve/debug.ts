// /debug of istiod (xds.md §11): what is connected, what was sent, what is known. Also answers `istio.io/debug` on xDS streams.
import type { SpiffeId } from '../../base/spiffe/spiffe-id.ts';
import { shortTypeName, TYPE_URL } from '../../base/xds/type-urls.ts';
import type { ConfigStore } from '../config/store.ts';
import { generate } from '../translate/generate.ts';
import { buildNameTable } from '../translate/name-table.ts';
import type { Discovery } from './discovery.ts';
import { namespaceOf } from './identity.ts';
import type { XdsStream } from './stream.ts';

export interface DebugAnswerBody {
  readonly body: string;
  readonly contentType: string;
}

/** `local`: asked from inside the pod. Throws {@link DebugError}. */
export type DebugHandler = (
  path: string,
  query: URLSearchParams,
  caller: readonly SpiffeId[] | 'local',
) => Promise<DebugAnswerBody>;

export class DebugError extends Error {
  readonly code: number;
  constructor(code: number, message: string) {
    super(message);
    this.code = code;
  }
}

export interface DebugOptions {
  readonly discovery: Discovery;
  readonly store: ConfigStore;
  readonly rootNamespace: string;
  /** ConfigMap texts of the injector; without secrets. */
  readonly injection: () => { readonly config: string; readonly values: string };
  readonly istiodName: string;
  readonly version: string;
}

type Page = (options: DebugOptions, query: URLSearchParams) => unknown | Promise<unknown>;

const PAGES: Readonly<Record<string, Page>> = {
  syncz: (o) => o.discovery.streams().map((s) => syncStatus(s, o)),
  adsz: (o) => ({
    totalClients: o.discovery.streams().length,
    clients: o.discovery.streams().map((s) => ({
      connectionId: s.id,
      connectedAt: new Date(s.connectedAt).toISOString(),
      address: s.proxy.ips[0],
      labels: s.proxy.labels,
      watches: Object.fromEntries([...s.watches.values()].map((w) => [w.typeUrl, [...w.names]])),
    })),
  }),
  connections: (o) => ({
    totalClients: o.discovery.streams().length,
    clients: o.discovery
      .streams()
      .map((s) => ({ connectionId: s.id, connectedAt: new Date(s.connectedAt).toISOString() })),
  }),
  registryz: (o) =>
    o.discovery.snapshot().services.map((s) => ({
      hostname: s.host,
      name: s.name,
      namespace: s.namespace,
      addresses: s.addresses,
      headless: s.headless,
      ports: s.ports,
      serviceAccounts: s.sans,
    })),
  endpointz: (o) => endpoints(o),
  endpointShardz: (o) => endpoints(o),
  configz: (o) => {
    const input = o.store.read();
    const of = (kind: string, list: readonly { name: string; namespace: string; spec: unknown }[]) =>
      list.map((c) => ({ kind, metadata: { name: c.name, namespace: c.namespace }, spec: plain(c.spec) }));
    return {
      configs: [
        ...of('PeerAuthentication', input.peerAuthentications),
        ...of('DestinationRule', input.destinationRules),
        ...of('VirtualService', input.virtualServices),
        ...of('Gateway', input.gateways),
      ],
      problems: o.store.problems(),
    };
  },
  mesh: (o) => o.store.read().mesh,
  inject: (o) => o.injection(),
  push_status: (o) => ({ version: o.discovery.snapshot().version, problems: o.store.problems() }),
  edsz: (o, q) => dump(o, stream(o, q), [TYPE_URL.endpoint]),
  ndsz: (o, q) => {
    const { proxy } = stream(o, q);
    return resourceJson([buildNameTable(o.discovery.snapshot(), proxy)]);
  },
  config_dump: (o, q) =>
    dump(o, stream(o, q), [TYPE_URL.cluster, TYPE_URL.listener, TYPE_URL.route, TYPE_URL.endpoint]),
};

/** Pages a proxy's own namespace may read about itself. */
const OWN_PAGES: ReadonlySet<string> = new Set(['config_dump', 'edsz', 'ndsz']);

export function createDebug(options: DebugOptions): DebugHandler {
  return async (path, query, caller) => {
    const name = path.replace(/\/$/, '');
    if (name === '' || name === 'list') return json(['list', ...Object.keys(PAGES)].sort(), query);
    const page = Object.hasOwn(PAGES, name) ? PAGES[name] : undefined;
    if (!page) throw new DebugError(404, `no debug page ${JSON.stringify(name)}; see /debug/list`);
    if (caller !== 'local') authorize(options, name, query, caller);
    if (!options.discovery.ready()) throw new DebugError(503, 'not ready: the first configuration is still being read');
    return json(await page(options, query), query);
  };
}

function authorize(options: DebugOptions, page: string, query: URLSearchParams, caller: readonly SpiffeId[]): void {
  const namespace = namespaceOf(caller);
  if (namespace === options.rootNamespace) return;
  const proxy = query.get('proxyID') ?? '';
  if (namespace && OWN_PAGES.has(page) && proxy.endsWith(`.${namespace}`)) return;
  throw new DebugError(403, `namespace ${namespace ?? '(unknown)'} may not read debug page ${page}`);
}

function json(value: unknown, query: URLSearchParams): DebugAnswerBody {
  const body = JSON.stringify(value, undefined, query.has('pretty') ? 2 : undefined);
  return { body: `${body}\n`, contentType: 'application/json' };
}

/** Maps as objects, so that JSON shows them. */
function plain(value: unknown): unknown {
  if (value instanceof Map) return Object.fromEntries([...value].map(([k, v]) => [String(k), plain(v)]));
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value === 'object' && value !== null)
    return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, plain(v)]));
  return value;
}

function syncStatus(s: XdsStream, options: DebugOptions): Record<string, unknown> {
  const out: Record<string, unknown> = {
    cluster_id: s.proxy.clusterId,
    proxy: s.proxy.id,
    proxy_type: s.proxy.type,
    proxy_version: s.proxy.istioVersion,
    istio_version: s.proxy.istioVersion,
    istiod: options.istiodName,
    istiod_version: options.version,
    connection_id: s.id,
  };
  const resources: Record<string, unknown> = {};
  for (const watch of s.watches.values()) {
    const short = shortTypeName(watch.typeUrl);
    const key = LONG_NAMES[short] ?? short;
    out[`${key}_sent`] = watch.nonceSent;
    out[`${key}_acked`] = watch.nonceAcked;
    resources[watch.typeUrl] = {
      sent: watch.nonceSent,
      acked: watch.nonceAcked,
      sentTime: watch.lastSentMs ? new Date(watch.lastSentMs).toISOString() : undefined,
      lastError: watch.lastError || undefined,
      watched: watch.names.size,
      held: s.held.get(watch.typeUrl)?.size ?? 0,
    };
  }
  return { ...out, resources };
}

const LONG_NAMES: Readonly<Record<string, string>> = {
  cds: 'cluster',
  lds: 'listener',
  rds: 'route',
  eds: 'endpoint',
  ecds: 'extensionconfig',
};

function endpoints(options: DebugOptions): unknown {
  return options.discovery.snapshot().services.map((s) => ({
    svc: s.host,
    ports: [...s.endpoints].map(([port, list]) => ({
      port,
      endpoints: list.map((e) => ({
        address: `${e.address}:${e.port}`,
        ready: e.ready,
        tlsMode: e.workload?.tlsMode ?? 'disabled',
        workload: e.workload?.name,
        serviceAccount: e.workload?.serviceAccount,
      })),
    })),
  }));
}

function stream(options: DebugOptions, query: URLSearchParams): XdsStream {
  const id = query.get('proxyID') ?? '';
  if (id === '') throw new DebugError(400, 'say which proxy: ?proxyID=<pod>.<namespace>');
  const found = options.discovery.streams().find((s) => s.proxy.id === id || s.id === id);
  if (!found) throw new DebugError(404, `proxy ${JSON.stringify(id)} is not connected to this istiod`);
  return found;
}

async function dump(options: DebugOptions, s: XdsStream, types: readonly string[]): Promise<unknown> {
  const snapshot = options.discovery.snapshot();
  const configs = await Promise.all(
    types.map(async (typeUrl) => ({
      type: shortTypeName(typeUrl),
      typeUrl,
      version: s.watches.get(typeUrl)?.nonceSent ?? '',
      // Keys are nobody's to read here.
      resources:
        typeUrl === TYPE_URL.secret
          ? []
          : await resourceJson(generate(snapshot, s.proxy, typeUrl, s.watches.get(typeUrl)?.names ?? [])),
    })),
  );
  return { proxy: s.proxy.id, configs };
}

async function resourceJson(resources: Parameters<typeof import('./resource-json.ts')['resourcesToJson']>[0]) {
  // Loaded when first asked for: the registry is of no use to a running mesh.
  const { resourcesToJson } = await import('./resource-json.ts');
  return resourcesToJson(resources);
}
