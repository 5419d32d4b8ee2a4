// /config_dump: everything configured, in the shapes of envoy.admin.v3 that istioctl and other tools read. Keys are redacted.
import {
  type DescMessage,
  fromBinary,
  type JsonObject,
  type JsonValue,
  type MessageShape,
  toJson,
} from '@bufbuild/protobuf';
import { RE2JS } from 're2js';
import { type Bootstrap, BootstrapSchema } from '#proto/envoy/config/bootstrap/v3/bootstrap_pb.js';
import { ClusterSchema } from '#proto/envoy/config/cluster/v3/cluster_pb.js';
import { TypedExtensionConfigSchema } from '#proto/envoy/config/core/v3/extension_pb.js';
import { ListenerSchema } from '#proto/envoy/config/listener/v3/listener_pb.js';
import { RouteConfigurationSchema } from '#proto/envoy/config/route/v3/route_pb.js';
import { SecretSchema } from '#proto/envoy/extensions/transport_sockets/tls/v3/secret_pb.js';
import { errorText } from '../../../base/runtime/log.ts';
import { extensionRegistry } from '../config/bootstrap.ts';
import { regexProblem } from '../stats/query.ts';
import type { ResourceRecord } from '../xds/hub.ts';
import { CDS, ECDS, EDS, LDS, RDS } from '../xds/kinds.ts';
import { assignmentOf } from './endpoints.ts';
import { fitsMask } from './field-mask.ts';
import { type AdminReply, type AdminTarget, JSON_TYPE } from './target.ts';

const ADMIN = 'type.googleapis.com/envoy.admin.v3.';
const TYPE = 'type.googleapis.com/';
const REDACTED_BYTES = Buffer.from('[redacted]').toString('base64');
/** Keys of messages whose value is a secret. */
const SECRET_KEYS: ReadonlySet<string> = new Set(['private_key', 'password', 'session_ticket_keys', 'generic_secret']);

function json<D extends DescMessage>(schema: D, message: MessageShape<D>): JsonObject {
  const type = { '@type': TYPE + schema.typeName };
  try {
    const body = toJson(schema, message, { useProtoFieldName: true, registry: extensionRegistry });
    return { ...type, ...(redact(body) as JsonObject) };
  } catch (error) {
    // An extension that nobody here looks at, as in metadata, need not be known.
    const name = (message as { readonly name?: unknown }).name;
    return { ...type, ...(typeof name === 'string' ? { name } : {}), not_shown: errorText(error) };
  }
}

/** Replaces secrets wherever they stand; what kind of data they were stays visible. */
export function redact(value: JsonValue): JsonValue {
  if (Array.isArray(value)) return value.map(redact);
  if (typeof value !== 'object' || value === null) return value;
  const out: Record<string, JsonValue> = {};
  for (const [key, item] of Object.entries(value)) out[key] = SECRET_KEYS.has(key) ? hidden(item, key) : redact(item);
  return out;
}

function hidden(value: JsonValue, key: string): JsonValue {
  if (Array.isArray(value)) return value.map((item) => hidden(item, key));
  if (typeof value !== 'object' || value === null) return key === 'inline_bytes' ? REDACTED_BYTES : '[redacted]';
  const out: Record<string, JsonValue> = {};
  for (const [inner, item] of Object.entries(value)) out[inner] = inner === '@type' ? item : hidden(item, inner);
  return out;
}

/** Of errors of this page alone. */
const PLAIN = 'text/plain';
const time = (ms: number) => new Date(ms).toISOString();

/** One list of a dump; its elements are made when they are sent. */
interface List {
  readonly key: string;
  /** Message type of an element in envoy.admin.v3. */
  readonly type: string;
  readonly items: readonly (() => JsonObject)[];
}

interface Section {
  readonly type: string;
  /** Fields beside the lists. */
  readonly fields: JsonObject;
  readonly lists: readonly List[];
}

export function configDump(target: AdminTarget, query: URLSearchParams): AdminReply {
  let keep: (name: string) => boolean = () => true;
  const regex = query.get('name_regex') ?? '';
  if (regex !== '') {
    try {
      const compiled = RE2JS.compile(regex);
      keep = (name) => compiled.testExact(name);
    } catch (error) {
      const reason = regexProblem(error);
      return {
        status: 400,
        type: PLAIN,
        body: `INVALID_ARGUMENT: Error while parsing name_regex from ${regex}: ${reason}`,
      };
    }
  }
  const dumps = sections(target, keep, query.has('include_eds'));
  const resource = query.get('resource') ?? '';
  const asked = query.get('mask') ?? '';
  const mask = asked === '' ? undefined : asked.split(',');
  if (resource !== '') return oneResource(dumps, resource, mask);
  if (!mask) return { body: whole(dumps), type: JSON_TYPE };
  const kept = dumps.flatMap((dump) => masked(dump, mask) ?? []);
  if (kept.length === 0)
    return {
      status: 400,
      type: PLAIN,
      body: `FieldMask ${asked} could not be successfully applied to any configs.`,
    };
  return { body: `${JSON.stringify({ configs: kept }, null, 1)}\n`, type: JSON_TYPE };
}

/** The whole dump as text, one element of a list at a time. */
function* whole(dumps: readonly Section[]): Generator<string> {
  yield '{\n "configs": [';
  for (const [i, { type, fields, lists }] of dumps.entries()) {
    yield `${i === 0 ? '' : ','}\n  {\n   "@type": ${JSON.stringify(type)}`;
    for (const [key, value] of Object.entries(fields)) yield `,\n   ${JSON.stringify(key)}: ${indented(value, 3)}`;
    for (const { key, items } of lists) {
      if (items.length === 0) continue;
      yield `,\n   ${JSON.stringify(key)}: [`;
      for (const [n, make] of items.entries()) yield `${n === 0 ? '' : ','}\n    ${indented(make(), 4)}`;
      yield '\n   ]';
    }
    yield '\n  }';
  }
  yield '\n ]\n}\n';
}

function indented(value: JsonValue, spaces: number): string {
  return JSON.stringify(value, null, 1).replaceAll('\n', `\n${' '.repeat(spaces)}`);
}

function sections(target: AdminTarget, keep: (name: string) => boolean, withEndpoints: boolean): Section[] {
  const out: Section[] = [
    {
      type: `${ADMIN}BootstrapConfigDump`,
      fields: {
        bootstrap: bare(json(BootstrapSchema, wholeBootstrap(target))),
        last_updated: time(target.startedAt),
      },
      lists: [],
    },
    clusters(target, keep),
    ...extensions(target, keep),
  ];
  if (withEndpoints) out.push(endpoints(target, keep));
  out.push(
    listeners(target, keep),
    { type: `${ADMIN}ScopedRoutesConfigDump`, fields: {}, lists: [] },
    routes(target, keep),
    secrets(target, keep),
  );
  return out;
}

function wholeBootstrap(target: AdminTarget): Bootstrap {
  const { bootstrap, node } = target;
  const { staticResources } = bootstrap;
  const clusters = target.clusters.views().flatMap((view) => {
    const cluster = view.isStatic ? (view.active ?? view.warming) : undefined;
    return cluster ? [cluster.decode()] : [];
  });
  return { ...bootstrap, node, ...(staticResources ? { staticResources: { ...staticResources, clusters } } : {}) };
}

function bare(value: JsonObject): JsonObject {
  const { '@type': _type, ...rest } = value;
  return rest;
}

/** Text of a resource that is only kept as bytes. */
function fromRecord<D extends DescMessage>(schema: D, record: ResourceRecord): JsonObject {
  return json(schema, fromBinary(schema, record.any.value));
}

function versioned(target: AdminTarget, record: ResourceRecord | undefined): JsonObject {
  return {
    ...(record?.version ? { version_info: record.version } : {}),
    last_updated: time(record && record.updated > 0 ? record.updated : target.startedAt),
  };
}

function failure(record: ResourceRecord | undefined): JsonObject {
  const error = record?.error;
  if (!error) return {};
  return {
    error_state: {
      last_update_attempt: time(error.at),
      details: error.details,
      ...(error.version ? { version_info: error.version } : {}),
    },
    client_status: 'NACKED',
  };
}

function clusters(target: AdminTarget, keep: (name: string) => boolean): Section {
  const fixed: (() => JsonObject)[] = [];
  const active: (() => JsonObject)[] = [];
  const warming: (() => JsonObject)[] = [];
  const book = target.hub.book(CDS);
  for (const view of target.clusters.views()) {
    if (!keep(view.name)) continue;
    if (view.isStatic) {
      const cluster = view.active ?? view.warming;
      if (cluster)
        fixed.push(() => ({ cluster: json(ClusterSchema, cluster.decode()), last_updated: time(target.startedAt) }));
      continue;
    }
    const record = book.get(view.name);
    const entry = (message: MessageShape<typeof ClusterSchema>, failed: JsonObject) => () => ({
      ...versioned(target, record),
      cluster: json(ClusterSchema, message),
      ...failed,
    });
    if (view.active) active.push(entry(view.active.decode(), failure(record)));
    if (view.warming) warming.push(entry(view.warming.decode(), {}));
  }
  const type = 'ClustersConfigDump';
  return {
    type: `${ADMIN}${type}`,
    fields: version(target, 'cluster_manager.cds.'),
    lists: [
      { key: 'static_clusters', type: `${type}.StaticCluster`, items: fixed },
      { key: 'dynamic_active_clusters', type: `${type}.DynamicCluster`, items: active },
      { key: 'dynamic_warming_clusters', type: `${type}.DynamicCluster`, items: warming },
    ],
  };
}

function version(target: AdminTarget, prefix: string): JsonObject {
  const text = target.stats.texts.get(`${prefix}version_text`);
  return text ? { version_info: text } : {};
}

function listeners(target: AdminTarget, keep: (name: string) => boolean): Section {
  const fixed: (() => JsonObject)[] = [];
  const dynamic: (() => JsonObject)[] = [];
  const book = target.hub.book(LDS);
  const seen = new Set<string>();
  for (const view of target.listeners.views()) {
    seen.add(view.name);
    if (!keep(view.name)) continue;
    if (view.isStatic) {
      const listener = view.active ?? view.warming;
      if (listener)
        fixed.push(() => ({ listener: json(ListenerSchema, listener.message), last_updated: time(target.startedAt) }));
      continue;
    }
    const record = book.get(view.name);
    const state = (listener: { message: MessageShape<typeof ListenerSchema> }) => ({
      ...versioned(target, record),
      listener: json(ListenerSchema, listener.message),
    });
    dynamic.push(() => ({
      name: view.name,
      ...(view.active ? { active_state: state(view.active) } : {}),
      ...(view.warming ? { warming_state: state(view.warming) } : {}),
      ...failure(record),
    }));
  }
  for (const [name, record] of book)
    if (!seen.has(name) && record.error && keep(name)) dynamic.push(() => ({ name, ...failure(record) }));
  const type = 'ListenersConfigDump';
  return {
    type: `${ADMIN}${type}`,
    fields: version(target, 'listener_manager.lds.'),
    lists: [
      { key: 'static_listeners', type: `${type}.StaticListener`, items: fixed },
      { key: 'dynamic_listeners', type: `${type}.DynamicListener`, items: dynamic },
    ],
  };
}

/** Only where something was discovered, as in Envoy. */
function extensions(target: AdminTarget, keep: (name: string) => boolean): Section[] {
  const items = [...target.hub.book(ECDS)]
    .filter(([name]) => keep(name))
    .map(([, record]) => () => ({
      ...versioned(target, record),
      ecds_filter: fromRecord(TypedExtensionConfigSchema, record),
      ...failure(record),
    }));
  if (items.length === 0) return [];
  return [
    {
      type: `${ADMIN}EcdsConfigDump`,
      fields: {},
      lists: [{ key: 'ecds_filters', type: 'EcdsConfigDump.EcdsFilterConfig', items }],
    },
  ];
}

function routes(target: AdminTarget, keep: (name: string) => boolean): Section {
  const dynamic = target.routes
    .views()
    .filter((view) => keep(view.name))
    .map((view) => () => ({
      ...(view.version ? { version_info: view.version } : {}),
      route_config: json(RouteConfigurationSchema, view.table.message),
      last_updated: time(view.updated),
      ...failure(target.hub.book(RDS).get(view.name)),
    }));
  const fixed: (() => JsonObject)[] = [];
  const seen = new Set<unknown>();
  for (const view of target.listeners.views())
    for (const chain of view.active?.chains() ?? []) {
      const table = chain.built.staticRoutes;
      if (!table || seen.has(table) || !keep(table.name)) continue;
      seen.add(table);
      fixed.push(() => ({
        route_config: json(RouteConfigurationSchema, table.message),
        last_updated: time(target.startedAt),
      }));
    }
  const type = 'RoutesConfigDump';
  return {
    type: `${ADMIN}${type}`,
    fields: {},
    lists: [
      { key: 'static_route_configs', type: `${type}.StaticRouteConfig`, items: fixed },
      { key: 'dynamic_route_configs', type: `${type}.DynamicRouteConfig`, items: dynamic },
    ],
  };
}

/** As clusters use them now: those of clusters that were discovered are dynamic, however their endpoints came. */
function endpoints(target: AdminTarget, keep: (name: string) => boolean): Section {
  const dynamic: (() => JsonObject)[] = [];
  const fixed: (() => JsonObject)[] = [];
  const book = target.hub.book(EDS);
  for (const { active, isStatic } of target.clusters.views()) {
    if (!active) continue;
    const { settings } = active;
    const name = settings.type === 'eds' ? settings.edsName : active.name;
    if (!keep(name)) continue;
    const record = settings.type === 'eds' ? book.get(name) : undefined;
    (isStatic ? fixed : dynamic).push(() => ({
      endpoint_config: assignmentOf(active, name, record),
      ...failure(record),
    }));
  }
  const type = 'EndpointsConfigDump';
  return {
    type: `${ADMIN}${type}`,
    fields: {},
    lists: [
      { key: 'static_endpoint_configs', type: `${type}.StaticEndpointConfig`, items: fixed },
      { key: 'dynamic_endpoint_configs', type: `${type}.DynamicEndpointConfig`, items: dynamic },
    ],
  };
}

function secrets(target: AdminTarget, keep: (name: string) => boolean): Section {
  const fixed: (() => JsonObject)[] = [];
  const active: (() => JsonObject)[] = [];
  const warming: (() => JsonObject)[] = [];
  for (const view of target.secrets.views()) {
    if (!keep(view.name)) continue;
    const { secret } = view;
    if (!secret) {
      warming.push(() => ({
        name: view.name,
        version_info: 'uninitialized',
        last_updated: time(target.startedAt),
        secret: { '@type': TYPE + SecretSchema.typeName, name: view.name },
      }));
      continue;
    }
    const entry = (more: JsonObject) => (): JsonObject => ({
      name: view.name,
      ...more,
      secret: json(SecretSchema, secret),
    });
    if (view.isStatic) fixed.push(entry({}));
    else active.push(entry({ version_info: view.version, last_updated: time(view.updated) }));
  }
  const type = 'SecretsConfigDump';
  return {
    type: `${ADMIN}${type}`,
    fields: {},
    lists: [
      { key: 'static_secrets', type: `${type}.StaticSecret`, items: fixed },
      { key: 'dynamic_active_secrets', type: `${type}.DynamicSecret`, items: active },
      { key: 'dynamic_warming_secrets', type: `${type}.DynamicSecret`, items: warming },
    ],
  };
}

function oneResource(dumps: readonly Section[], resource: string, mask: readonly string[] | undefined): AdminReply {
  for (const dump of dumps) {
    if (Object.hasOwn(dump.fields, resource))
      return {
        status: 400,
        type: PLAIN,
        body: `${resource} is not a repeated field. Use ?mask=${resource} to get only this field`,
      };
    const list = dump.lists.find((each) => each.key === resource);
    if (!list) continue;
    if (list.items.length === 0) return { body: '{}\n', type: JSON_TYPE };
    if (mask && !fitsMask(list.type, mask))
      return { status: 400, type: PLAIN, body: `FieldMask ${mask.join(',')} could not be successfully used.` };
    return { body: elements(list, mask), type: JSON_TYPE };
  }
  return { status: 404, type: PLAIN, body: `${resource} not found in config dump` };
}

function* elements(list: List, mask: readonly string[] | undefined): Generator<string> {
  yield '{\n "configs": [';
  for (const [i, make] of list.items.entries()) {
    const item = make();
    const shown = { '@type': ADMIN + list.type, ...(mask ? pickAll(item, mask) : item) };
    yield `${i === 0 ? '' : ','}\n  ${indented(shown, 2)}`;
  }
  yield '\n ]\n}\n';
}

/** Keeps the named paths of a section and its type; undefined when one of them does not fit it. */
function masked(dump: Section, paths: readonly string[]): JsonObject | undefined {
  const all: JsonObject = { ...dump.fields };
  for (const { key, items } of dump.lists)
    if (items.length > 0 && paths.some((path) => path.trim().split('.')[0] === key))
      all[key] = items.map((make) => make());
  if (!fitsMask(dump.type.slice(ADMIN.length), paths)) return undefined;
  return { '@type': dump.type, ...pickAll(all, paths) };
}

function pickAll(value: JsonObject, paths: readonly string[]): JsonObject {
  const out: JsonObject = {};
  for (const path of paths) {
    const [first = '', ...rest] = path.trim().split('.');
    const item = value[first];
    if (item !== undefined) out[first] = merge(out[first], pick(item, rest));
  }
  return out;
}

/** Two paths may lead into the same message. */
function merge(a: JsonValue | undefined, b: JsonValue): JsonValue {
  if (
    typeof a !== 'object' ||
    a === null ||
    typeof b !== 'object' ||
    b === null ||
    Array.isArray(a) ||
    Array.isArray(b)
  )
    return b;
  const out: JsonObject = { ...a };
  for (const [key, value] of Object.entries(b)) out[key] = merge(out[key], value);
  return out;
}

function pick(value: JsonValue, path: readonly string[]): JsonValue {
  if (path.length === 0) return value;
  if (Array.isArray(value)) return value.map((item) => pick(item, path));
  if (typeof value !== 'object' || value === null) return value;
  const type = value['@type'];
  const next = value[path[0]!];
  return {
    ...(type === undefined ? {} : { '@type': type }),
    ...(next === undefined ? {} : { [path[0]!]: pick(next, path.slice(1)) }),
  };
}
