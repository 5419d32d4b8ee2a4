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
import { BootstrapSchema } from '#proto/envoy/config/bootstrap/v3/bootstrap_pb.js';
import { ClusterSchema } from '#proto/envoy/config/cluster/v3/cluster_pb.js';
import { TypedExtensionConfigSchema } from '#proto/envoy/config/core/v3/extension_pb.js';
import { ClusterLoadAssignmentSchema } from '#proto/envoy/config/endpoint/v3/endpoint_pb.js';
import { ListenerSchema } from '#proto/envoy/config/listener/v3/listener_pb.js';
import { RouteConfigurationSchema } from '#proto/envoy/config/route/v3/route_pb.js';
import { SecretSchema } from '#proto/envoy/extensions/transport_sockets/tls/v3/secret_pb.js';
import { extensionRegistry } from '../config/bootstrap.ts';
import type { Engine } from '../engine.ts';
import type { ResourceBook, ResourceRecord } from '../xds/hub.ts';
import { CDS, ECDS, EDS, LDS, RDS } from '../xds/kinds.ts';
import type { AdminReply } from './pages.ts';

const ADMIN = 'type.googleapis.com/envoy.admin.v3.';
const TYPE = 'type.googleapis.com/';
const REDACTED = Buffer.from('[redacted]').toString('base64');
/** Keys of messages whose value is a secret. */
const SECRET_KEYS: ReadonlySet<string> = new Set(['private_key', 'password', 'session_ticket_keys', 'generic_secret']);

function json<D extends DescMessage>(schema: D, message: MessageShape<D>): JsonObject {
  const body = toJson(schema, message, { useProtoFieldName: true, registry: extensionRegistry });
  return { '@type': TYPE + schema.typeName, ...(redact(body) as JsonObject) };
}

/** Replaces secrets wherever they stand. */
export function redact(value: JsonValue): JsonValue {
  if (Array.isArray(value)) return value.map(redact);
  if (typeof value !== 'object' || value === null) return value;
  const out: Record<string, JsonValue> = {};
  for (const [key, item] of Object.entries(value))
    out[key] = SECRET_KEYS.has(key) ? { inline_bytes: REDACTED } : redact(item);
  return out;
}

const time = (ms: number) => new Date(ms).toISOString();

export function configDump(engine: Engine, query: URLSearchParams): AdminReply {
  let keep: (name: string) => boolean = () => true;
  const regex = query.get('name_regex');
  if (regex !== null) {
    try {
      const compiled = RE2JS.compile(regex);
      keep = (name) => compiled.testExact(name);
    } catch {
      return { status: 400, body: `Error while parsing name_regex from ${regex}\n` };
    }
  }
  const dumps = sections(engine, keep, query.has('include_eds'));
  const resource = query.get('resource');
  if (resource !== null) return oneResource(dumps, resource);
  const mask = query.get('mask');
  if (mask !== null)
    return { body: JSON.stringify({ configs: dumps.map((dump) => masked(dump, mask.split(','))) }, null, 1) };
  return { body: JSON.stringify({ configs: dumps }, null, 1) };
}

type Section = { '@type': string } & Record<string, JsonValue>;

function sections(engine: Engine, keep: (name: string) => boolean, withEndpoints: boolean): Section[] {
  const out: Section[] = [
    {
      '@type': `${ADMIN}BootstrapConfigDump`,
      bootstrap: bare(json(BootstrapSchema, engine.bootstrap)),
      last_updated: time(engine.startedAt),
    },
    clusters(engine, keep),
    ...extensions(engine, keep),
    listeners(engine, keep),
  ];
  if (withEndpoints) out.push(endpoints(engine, keep));
  out.push({ '@type': `${ADMIN}ScopedRoutesConfigDump` }, routes(engine, keep), secrets(engine, keep));
  return out;
}

function bare(value: JsonObject): JsonObject {
  const { '@type': _type, ...rest } = value;
  return rest;
}

/** Text of a resource that is only kept as bytes. */
function fromRecord<D extends DescMessage>(schema: D, record: ResourceRecord): JsonObject {
  return json(schema, fromBinary(schema, record.any.value));
}

function versioned(engine: Engine, record: ResourceRecord | undefined): JsonObject {
  return {
    ...(record?.version ? { version_info: record.version } : {}),
    last_updated: time(record && record.updated > 0 ? record.updated : engine.startedAt),
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

function clusters(engine: Engine, keep: (name: string) => boolean): Section {
  const staticClusters: JsonObject[] = [];
  const activeClusters: JsonObject[] = [];
  const warmingClusters: JsonObject[] = [];
  const book = engine.hub.book(CDS);
  for (const view of engine.clusters.views()) {
    if (!keep(view.name)) continue;
    if (view.isStatic) {
      const cluster = view.active ?? view.warming;
      if (cluster)
        staticClusters.push({ cluster: json(ClusterSchema, cluster.message), last_updated: time(engine.startedAt) });
      continue;
    }
    const record = book.get(view.name);
    if (view.active)
      activeClusters.push({
        ...versioned(engine, record),
        cluster: json(ClusterSchema, view.active.message),
        ...failure(record),
      });
    if (view.warming)
      warmingClusters.push({ ...versioned(engine, record), cluster: json(ClusterSchema, view.warming.message) });
  }
  return {
    '@type': `${ADMIN}ClustersConfigDump`,
    ...version(engine, 'cluster_manager.cds.'),
    ...list('static_clusters', staticClusters),
    ...list('dynamic_active_clusters', activeClusters),
    ...list('dynamic_warming_clusters', warmingClusters),
  };
}

function version(engine: Engine, prefix: string): JsonObject {
  const text = engine.stats.texts.get(`${prefix}version_text`);
  return text ? { version_info: text } : {};
}

function list(key: string, items: readonly JsonObject[]): JsonObject {
  return items.length > 0 ? { [key]: [...items] } : {};
}

function listeners(engine: Engine, keep: (name: string) => boolean): Section {
  const fixed: JsonObject[] = [];
  const dynamic: JsonObject[] = [];
  const book = engine.hub.book(LDS);
  const seen = new Set<string>();
  for (const view of engine.listeners.views()) {
    seen.add(view.name);
    if (!keep(view.name)) continue;
    if (view.isStatic) {
      const listener = view.active ?? view.warming;
      if (listener)
        fixed.push({ listener: json(ListenerSchema, listener.message), last_updated: time(engine.startedAt) });
      continue;
    }
    const record = book.get(view.name);
    const state = (listener: { message: MessageShape<typeof ListenerSchema> }) => ({
      ...versioned(engine, record),
      listener: json(ListenerSchema, listener.message),
    });
    dynamic.push({
      name: view.name,
      ...(view.active ? { active_state: state(view.active) } : {}),
      ...(view.warming ? { warming_state: state(view.warming) } : {}),
      ...failure(record),
    });
  }
  for (const [name, record] of book)
    if (!seen.has(name) && record.error && keep(name)) dynamic.push({ name, ...failure(record) });
  return {
    '@type': `${ADMIN}ListenersConfigDump`,
    ...version(engine, 'listener_manager.lds.'),
    ...list('static_listeners', fixed),
    ...list('dynamic_listeners', dynamic),
  };
}

/** Only where something was discovered, as in Envoy. */
function extensions(engine: Engine, keep: (name: string) => boolean): Section[] {
  const filters = [...engine.hub.book(ECDS)]
    .filter(([name]) => keep(name))
    .map(([, record]) => ({
      ...versioned(engine, record),
      ecds_filter: fromRecord(TypedExtensionConfigSchema, record),
      ...failure(record),
    }));
  return filters.length === 0 ? [] : [{ '@type': `${ADMIN}EcdsConfigDump`, ecds_filters: filters }];
}

function routes(engine: Engine, keep: (name: string) => boolean): Section {
  const dynamic = engine.routes.views().flatMap((view) => {
    if (!keep(view.name)) return [];
    const record = engine.hub.book(RDS).get(view.name);
    return [
      {
        ...(view.version ? { version_info: view.version } : {}),
        route_config: json(RouteConfigurationSchema, view.table.message),
        last_updated: time(view.updated),
        ...failure(record),
      },
    ];
  });
  const fixed: JsonObject[] = [];
  const seen = new Set<unknown>();
  for (const view of engine.listeners.views())
    for (const chain of view.active?.chains() ?? []) {
      const table = chain.built.staticRoutes;
      if (!table || seen.has(table) || !keep(table.name)) continue;
      seen.add(table);
      fixed.push({ route_config: json(RouteConfigurationSchema, table.message), last_updated: time(engine.startedAt) });
    }
  return {
    '@type': `${ADMIN}RoutesConfigDump`,
    ...list('static_route_configs', fixed),
    ...list('dynamic_route_configs', dynamic),
  };
}

function endpoints(engine: Engine, keep: (name: string) => boolean): Section {
  const dynamic: JsonObject[] = [];
  const fixed: JsonObject[] = [];
  const book: ResourceBook = engine.hub.book(EDS);
  for (const [name, record] of book)
    if (keep(name) && record.updated > 0)
      dynamic.push({
        ...versioned(engine, record),
        endpoint_config: fromRecord(ClusterLoadAssignmentSchema, record),
        ...failure(record),
      });
  for (const view of engine.clusters.views()) {
    const assignment = view.active?.message.loadAssignment;
    if (assignment && keep(view.name))
      fixed.push({
        endpoint_config: json(ClusterLoadAssignmentSchema, assignment),
        last_updated: time(engine.startedAt),
      });
  }
  return {
    '@type': `${ADMIN}EndpointsConfigDump`,
    ...list('static_endpoint_configs', fixed),
    ...list('dynamic_endpoint_configs', dynamic),
  };
}

function secrets(engine: Engine, keep: (name: string) => boolean): Section {
  const fixed: JsonObject[] = [];
  const active: JsonObject[] = [];
  const warming: JsonObject[] = [];
  for (const view of engine.secrets.views()) {
    if (!keep(view.name)) continue;
    if (!view.secret) {
      warming.push({
        name: view.name,
        version_info: 'uninitialized',
        last_updated: time(engine.startedAt),
        secret: { '@type': TYPE + SecretSchema.typeName, name: view.name },
      });
      continue;
    }
    const entry: JsonObject = {
      name: view.name,
      last_updated: time(view.updated),
      secret: json(SecretSchema, view.secret),
    };
    if (view.isStatic) fixed.push(entry);
    else active.push({ ...entry, version_info: view.version });
  }
  return {
    '@type': `${ADMIN}SecretsConfigDump`,
    ...list('static_secrets', fixed),
    ...list('dynamic_active_secrets', active),
    ...list('dynamic_warming_secrets', warming),
  };
}

function oneResource(dumps: readonly Section[], resource: string): AdminReply {
  for (const dump of dumps) {
    if (!Object.hasOwn(dump, resource)) continue;
    const value = dump[resource];
    return { body: JSON.stringify({ configs: Array.isArray(value) ? value : [value] }, null, 1) };
  }
  return { status: 404, body: `${resource} not found in config dump` };
}

/** Keeps the named paths of a section and its type. */
function masked(dump: Section, paths: readonly string[]): JsonObject {
  const out: Record<string, JsonValue> = { '@type': dump['@type'] };
  for (const path of paths) {
    const [first = '', ...rest] = path.trim().split('.');
    const value = dump[first];
    if (value !== undefined) out[first] = pick(value, rest);
  }
  return out;
}

function pick(value: JsonValue, path: readonly string[]): JsonValue {
  if (path.length === 0) return value;
  if (Array.isArray(value)) return value.map((item) => pick(item, path));
  if (typeof value !== 'object' || value === null) return value;
  const next = value[path[0]!];
  return next === undefined ? {} : { [path[0]!]: pick(next, path.slice(1)) };
}
