// A control plane and an SDS server for tests: real gRPC, answers that the test sets. Built on the library the real ones use.
import type { TestContext } from 'node:test';
import { create, type DescMessage, fromBinary, fromJson, type JsonObject, toBinary } from '@bufbuild/protobuf';
import { type Any, AnySchema } from '@bufbuild/protobuf/wkt';
import { Server, ServerCredentials, type ServerDuplexStream } from '@grpc/grpc-js';
import { ClusterSchema } from '#proto/envoy/config/cluster/v3/cluster_pb.js';
import { TypedExtensionConfigSchema } from '#proto/envoy/config/core/v3/extension_pb.js';
import { ClusterLoadAssignmentSchema } from '#proto/envoy/config/endpoint/v3/endpoint_pb.js';
import { ListenerSchema } from '#proto/envoy/config/listener/v3/listener_pb.js';
import { VirtualHostSchema } from '#proto/envoy/config/route/v3/route_components_pb.js';
import { RouteConfigurationSchema } from '#proto/envoy/config/route/v3/route_pb.js';
import { ScopedRouteConfigurationSchema } from '#proto/envoy/config/route/v3/scoped_route_pb.js';
import { SecretSchema } from '#proto/envoy/extensions/transport_sockets/tls/v3/secret_pb.js';
import {
  type DeltaDiscoveryRequest,
  DeltaDiscoveryRequestSchema,
  DeltaDiscoveryResponseSchema,
  type DiscoveryRequest,
  DiscoveryRequestSchema,
  DiscoveryResponseSchema,
} from '#proto/envoy/service/discovery/v3/discovery_pb.js';
import { RuntimeSchema } from '#proto/envoy/service/runtime/v3/rtds_pb.js';
import { extensionRegistry } from '../config/bootstrap.ts';
import { T } from './engine.ts';

export const SCHEMAS = {
  cds: ClusterSchema,
  eds: ClusterLoadAssignmentSchema,
  lds: ListenerSchema,
  rds: RouteConfigurationSchema,
  sds: SecretSchema,
  srds: ScopedRouteConfigurationSchema,
  vhds: VirtualHostSchema,
  rtds: RuntimeSchema,
  ecds: TypedExtensionConfigSchema,
} as const;
export type Kind = keyof typeof SCHEMAS;

export function resource(kind: Kind, json: JsonObject): Any {
  const schema: DescMessage = SCHEMAS[kind];
  const message = fromJson(schema, json, { registry: extensionRegistry });
  return create(AnySchema, { typeUrl: T + schema.typeName, value: toBinary(schema, message) });
}

const bytes = {
  requestSerialize: (b: Buffer) => b,
  requestDeserialize: (b: Buffer) => b,
  responseSerialize: (b: Buffer) => b,
  responseDeserialize: (b: Buffer) => b,
};
const method = (path: string) => ({ path, requestStream: true as const, responseStream: true as const, ...bytes });
type Stream = ServerDuplexStream<Buffer, Buffer>;

export interface Ads {
  readonly port: number;
  readonly requests: DeltaDiscoveryRequest[];
  /** How many streams were opened. */
  readonly streams: { count: number };
  set(kind: Kind, name: string, json: JsonObject): void;
  /** Bytes as they are, right or wrong. */
  setAny(kind: Kind, name: string, any: Any): void;
  remove(kind: Kind, name: string): void;
  /** Ends all streams; the client comes back. */
  cut(): void;
  nacks(): { type: string; message: string }[];
}

interface Held {
  readonly any: Any;
  readonly version: string;
}

/** Incremental ADS: what is set is pushed at once to whoever asked for it. */
export async function startAds(t: TestContext): Promise<Ads> {
  const state = new Map<string, Map<string, Held>>();
  const requests: DeltaDiscoveryRequest[] = [];
  const streams = { count: 0 };
  const open = new Map<Stream, Map<string, Set<string> | '*'>>();
  let version = 0;
  const table = (typeUrl: string) => {
    const known = state.get(typeUrl) ?? new Map<string, Held>();
    state.set(typeUrl, known);
    return known;
  };
  const push = (stream: Stream, typeUrl: string, names: Iterable<string>) => {
    const held = table(typeUrl);
    const all = [...names];
    version += 1;
    const response = create(DeltaDiscoveryResponseSchema, {
      typeUrl,
      nonce: `n${version}`,
      systemVersionInfo: String(version),
      resources: all.flatMap((name) => {
        const entry = held.get(name);
        return entry ? [{ name, version: entry.version, resource: entry.any }] : [];
      }),
      removedResources: all.filter((name) => !held.has(name)),
    });
    stream.write(Buffer.from(toBinary(DeltaDiscoveryResponseSchema, response)));
  };
  const onRequest = (stream: Stream, request: DeltaDiscoveryRequest) => {
    requests.push(request);
    const wanted = open.get(stream)!;
    const first = !wanted.has(request.typeUrl);
    if (request.responseNonce !== '') return;
    const subscribe = request.resourceNamesSubscribe;
    if (first && subscribe.length === 0) {
      wanted.set(request.typeUrl, '*');
      // A control plane that knows nothing yet says nothing.
      if (table(request.typeUrl).size > 0) push(stream, request.typeUrl, table(request.typeUrl).keys());
      return;
    }
    const set = (wanted.get(request.typeUrl) as Set<string> | undefined) ?? new Set<string>();
    for (const name of subscribe) set.add(name);
    for (const name of request.resourceNamesUnsubscribe) set.delete(name);
    wanted.set(request.typeUrl, set);
    if (subscribe.length > 0) push(stream, request.typeUrl, subscribe);
  };
  const server = new Server({ 'grpc.max_receive_message_length': 1e7, 'grpc.max_send_message_length': 1e7 });
  server.addService(
    { delta: method('/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources') },
    {
      delta(stream: Stream) {
        streams.count += 1;
        open.set(stream, new Map());
        stream.on('data', (data: Buffer) => onRequest(stream, fromBinary(DeltaDiscoveryRequestSchema, data)));
        stream.on('end', () => stream.end());
        stream.on('error', () => open.delete(stream));
        stream.on('close', () => open.delete(stream));
      },
    },
  );
  const port = await bind(t, server, '127.0.0.1:0');
  const changed = (kind: Kind, name: string) => {
    const typeUrl = T + SCHEMAS[kind].typeName;
    for (const [stream, wanted] of open) {
      const names = wanted.get(typeUrl);
      if (names === '*' || names?.has(name)) push(stream, typeUrl, [name]);
    }
  };
  return {
    port,
    requests,
    streams,
    set(kind, name, json) {
      version += 1;
      table(T + SCHEMAS[kind].typeName).set(name, { any: resource(kind, json), version: String(version) });
      changed(kind, name);
    },
    setAny(kind, name, any) {
      version += 1;
      table(T + SCHEMAS[kind].typeName).set(name, { any, version: String(version) });
      changed(kind, name);
    },
    remove(kind, name) {
      table(T + SCHEMAS[kind].typeName).delete(name);
      changed(kind, name);
    },
    cut() {
      for (const stream of open.keys()) stream.end();
    },
    nacks: () =>
      requests.flatMap((request) =>
        request.errorDetail ? [{ type: request.typeUrl, message: request.errorDetail.message }] : [],
      ),
  };
}

export interface Sds {
  readonly path: string;
  readonly requests: DiscoveryRequest[];
  /** Names that streams follow now. */
  following(): string[];
  set(name: string, secret: JsonObject): void;
}

/** StreamSecrets on a Unix socket, as the agent serves it. */
export async function startSds(t: TestContext, path: string): Promise<Sds> {
  const secrets = new Map<string, { readonly any: Any; readonly version: string }>();
  const requests: DiscoveryRequest[] = [];
  const open = new Map<Stream, Set<string>>();
  let count = 0;
  const push = (stream: Stream, name: string) => {
    const held = secrets.get(name);
    if (!held) return;
    count += 1;
    const response = create(DiscoveryResponseSchema, {
      typeUrl: T + SecretSchema.typeName,
      versionInfo: held.version,
      nonce: `s${count}`,
      resources: [held.any],
    });
    stream.write(Buffer.from(toBinary(DiscoveryResponseSchema, response)));
  };
  const server = new Server();
  server.addService(
    { stream: method('/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets') },
    {
      stream(stream: Stream) {
        const names = new Set<string>();
        open.set(stream, names);
        stream.on('data', (data: Buffer) => {
          const request = fromBinary(DiscoveryRequestSchema, data);
          requests.push(request);
          if (request.responseNonce !== '') return;
          for (const name of request.resourceNames) {
            names.add(name);
            push(stream, name);
          }
        });
        stream.on('end', () => stream.end());
        stream.on('error', () => open.delete(stream));
        stream.on('close', () => open.delete(stream));
      },
    },
  );
  await bind(t, server, `unix:${path}`);
  return {
    path,
    requests,
    following: () => [...open.values()].flatMap((names) => [...names]).sort(),
    set(name, secret) {
      count += 1;
      secrets.set(name, { any: resource('sds', { name, ...secret }), version: `v${count}` });
      for (const [stream, names] of open) if (names.has(name)) push(stream, name);
    },
  };
}

async function bind(t: TestContext, server: Server, address: string): Promise<number> {
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync(address, ServerCredentials.createInsecure(), (error, bound) =>
      error ? reject(error) : resolve(bound),
    );
  });
  t.after(() => server.forceShutdown());
  return port;
}

const HTTP2: JsonObject = {
  typed_extension_protocol_options: {
    'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
      '@type': `${T}envoy.extensions.upstreams.http.v3.HttpProtocolOptions`,
      explicit_http_config: { http2_protocol_options: {} },
    },
  },
};

/** A static cluster for a discovery server. */
export function discoveryCluster(name: string, address: JsonObject): JsonObject {
  return {
    name,
    type: 'STATIC',
    load_assignment: { cluster_name: name, endpoints: [{ lb_endpoints: [{ endpoint: { address } }] }] },
    ...HTTP2,
  };
}

const ADS_SOURCE: JsonObject = { ads: {}, initial_fetch_timeout: '0s', resource_api_version: 'V3' };
export const SDS_SOURCE: JsonObject = {
  api_config_source: {
    api_type: 'GRPC',
    transport_api_version: 'V3',
    set_node_on_first_message_only: true,
    grpc_services: [{ envoy_grpc: { cluster_name: 'sds-grpc' } }],
  },
  initial_fetch_timeout: '0s',
  resource_api_version: 'V3',
};

export const rds = (name: string): JsonObject => ({ route_config_name: name, config_source: ADS_SOURCE });
export const edsCluster = (name: string, extra: JsonObject = {}): JsonObject => ({
  name,
  type: 'EDS',
  eds_cluster_config: { eds_config: ADS_SOURCE },
  connect_timeout: '1s',
  ...extra,
});

export function dynamicBootstrap(adsPort: number, sdsPath?: string): JsonObject {
  return {
    node: { id: 'sidecar~10.0.0.1~a.foo~foo.svc.cluster.local', cluster: 'a.foo' },
    dynamic_resources: {
      lds_config: ADS_SOURCE,
      cds_config: ADS_SOURCE,
      ads_config: {
        api_type: 'DELTA_GRPC',
        transport_api_version: 'V3',
        set_node_on_first_message_only: true,
        grpc_services: [{ envoy_grpc: { cluster_name: 'xds-grpc' } }],
      },
    },
    static_resources: {
      clusters: [
        discoveryCluster('xds-grpc', { socket_address: { address: '127.0.0.1', port_value: adsPort } }),
        ...(sdsPath === undefined ? [] : [discoveryCluster('sds-grpc', { pipe: { path: sdsPath } })]),
      ],
    },
    admin: { address: { socket_address: { address: '127.0.0.1', port_value: 0 } } },
  };
}
