// A control plane for tests that speaks every discovery method, state of the world and incremental, aggregated and for one
// type. What a test sets is pushed at once to whoever asked for it; what clients say is kept.
import type { TestContext } from 'node:test';
import { create, fromBinary, type JsonObject, toBinary } from '@bufbuild/protobuf';
import { type Any, AnySchema, DurationSchema } from '@bufbuild/protobuf/wkt';
import { Server, ServerCredentials, type ServerDuplexStream } from '@grpc/grpc-js';
import {
  type DeltaDiscoveryRequest,
  DeltaDiscoveryRequestSchema,
  DeltaDiscoveryResponseSchema,
  type DiscoveryRequest,
  DiscoveryRequestSchema,
  DiscoveryResponseSchema,
  ResourceSchema,
} from '#proto/envoy/service/discovery/v3/discovery_pb.js';
import { ADS_DELTA, ADS_SOTW, CDS, KINDS, LDS, SRDS } from '../xds/kinds.ts';
import { type Kind, resource, SCHEMAS } from './discovery.ts';
import { T } from './engine.ts';

type Stream = ServerDuplexStream<Buffer, Buffer>;

interface Held {
  readonly any: Any | undefined;
  readonly version: string;
  readonly ttlMs: number | undefined;
  readonly aliases: readonly string[];
}

interface Client {
  readonly stream: Stream;
  readonly method: string;
  readonly delta: boolean;
  /** By type URL: names, or everything. */
  readonly wanted: Map<string, Set<string> | '*'>;
}

export interface Seen {
  readonly method: string;
  readonly typeUrl: string;
  readonly hasNode: boolean;
  readonly names: readonly string[];
  readonly unsubscribed: readonly string[];
  readonly nonce: string;
  readonly version: string;
  readonly error: string | undefined;
}

export interface ControlPlane {
  readonly port: number;
  readonly seen: Seen[];
  /** Streams opened so far. */
  readonly opened: { count: number };
  set(kind: Kind, name: string, json: JsonObject, how?: { readonly ttlMs?: number; readonly aliases?: string[] }): void;
  /** "There is no such host": a name with aliases and without a resource. */
  setEmpty(kind: Kind, name: string, aliases: readonly string[]): void;
  /** Sends a name without its resource: it is still alive. */
  heartbeat(kind: Kind, name: string, ttlMs: number): void;
  remove(kind: Kind, name: string): void;
  /** Ends all streams; clients come back. */
  cut(): void;
}

const WILDCARD: ReadonlySet<string> = new Set([CDS.typeUrl, LDS.typeUrl, SRDS.typeUrl]);
const bytes = {
  requestSerialize: (b: Buffer) => b,
  requestDeserialize: (b: Buffer) => b,
  responseSerialize: (b: Buffer) => b,
  responseDeserialize: (b: Buffer) => b,
};

const duration = (ms: number) =>
  create(DurationSchema, { seconds: BigInt(Math.floor(ms / 1000)), nanos: (ms % 1000) * 1e6 });

/** `credentials`: for TLS. */
export async function startControlPlane(
  t: TestContext,
  credentials: ServerCredentials = ServerCredentials.createInsecure(),
): Promise<ControlPlane> {
  const state = new Map<string, Map<string, Held>>();
  const clients = new Set<Client>();
  const seen: Seen[] = [];
  const opened = { count: 0 };
  let version = 0;

  const table = (typeUrl: string): Map<string, Held> => {
    const known = state.get(typeUrl) ?? new Map<string, Held>();
    state.set(typeUrl, known);
    return known;
  };

  const pushDelta = (client: Client, typeUrl: string, names: readonly string[]): void => {
    const held = table(typeUrl);
    const response = create(DeltaDiscoveryResponseSchema, {
      typeUrl,
      nonce: `n${version}`,
      systemVersionInfo: String(version),
      resources: names.flatMap((name) => {
        const entry = held.get(name);
        if (!entry) return [];
        const fields = { name, version: entry.version, aliases: [...entry.aliases] };
        return [
          {
            ...fields,
            ...(entry.any ? { resource: entry.any } : {}),
            ...(entry.ttlMs === undefined ? {} : { ttl: duration(entry.ttlMs) }),
          },
        ];
      }),
      removedResources: names.filter((name) => !held.has(name)),
    });
    client.stream.write(Buffer.from(toBinary(DeltaDiscoveryResponseSchema, response)));
  };

  const pushSotw = (client: Client, typeUrl: string): void => {
    const wanted = client.wanted.get(typeUrl);
    const held = [...table(typeUrl)].filter(([name]) => wanted === '*' || wanted?.has(name));
    if (held.length === 0 && wanted !== '*') return;
    const response = create(DiscoveryResponseSchema, {
      typeUrl,
      nonce: `n${version}`,
      versionInfo: String(version),
      resources: held.flatMap(([name, entry]) => {
        if (entry.ttlMs === undefined) return entry.any ? [entry.any] : [];
        const wrapped = create(ResourceSchema, {
          name,
          version: entry.version,
          ttl: duration(entry.ttlMs),
          ...(entry.any ? { resource: entry.any } : {}),
        });
        return [create(AnySchema, { typeUrl: T + ResourceSchema.typeName, value: toBinary(ResourceSchema, wrapped) })];
      }),
    });
    client.stream.write(Buffer.from(toBinary(DiscoveryResponseSchema, response)));
  };

  const onDelta = (client: Client, request: DeltaDiscoveryRequest): void => {
    const { typeUrl, resourceNamesSubscribe: names, resourceNamesUnsubscribe: gone } = request;
    seen.push({
      method: client.method,
      typeUrl,
      hasNode: request.node !== undefined,
      names,
      unsubscribed: gone,
      nonce: request.responseNonce,
      version: '',
      error: request.errorDetail?.message,
    });
    if (request.responseNonce !== '') return;
    if (!client.wanted.has(typeUrl) && names.length === 0 && WILDCARD.has(typeUrl)) {
      client.wanted.set(typeUrl, '*');
      pushDelta(client, typeUrl, [...table(typeUrl).keys()]);
      return;
    }
    const set = client.wanted.get(typeUrl) ?? new Set<string>();
    if (set === '*') return;
    for (const name of names) set.add(name);
    for (const name of gone) set.delete(name);
    client.wanted.set(typeUrl, set);
    const known = names.filter((name) => table(typeUrl).has(name));
    if (known.length > 0) pushDelta(client, typeUrl, known);
  };

  const onSotw = (client: Client, request: DiscoveryRequest): void => {
    const { typeUrl, resourceNames: names } = request;
    seen.push({
      method: client.method,
      typeUrl,
      hasNode: request.node !== undefined,
      names,
      unsubscribed: [],
      nonce: request.responseNonce,
      version: request.versionInfo,
      error: request.errorDetail?.message,
    });
    const before = client.wanted.get(typeUrl);
    const wildcard = WILDCARD.has(typeUrl) && names.length === 0;
    client.wanted.set(typeUrl, wildcard ? '*' : new Set(names));
    const grown = before !== '*' && names.some((name) => !before?.has(name));
    if (request.responseNonce === '' || grown) pushSotw(client, typeUrl);
  };

  const serve = (method: string, delta: boolean) => (stream: Stream) => {
    opened.count += 1;
    const client: Client = { stream, method, delta, wanted: new Map() };
    clients.add(client);
    const gone = (): void => void clients.delete(client);
    stream.on('data', (data: Buffer) => {
      if (delta) onDelta(client, fromBinary(DeltaDiscoveryRequestSchema, data));
      else onSotw(client, fromBinary(DiscoveryRequestSchema, data));
    });
    stream.on('end', () => stream.end());
    stream.on('error', gone);
    stream.on('close', gone);
  };

  const server = new Server();
  const methods = [
    { path: ADS_SOTW, delta: false },
    { path: ADS_DELTA, delta: true },
    ...KINDS.flatMap((kind) => [
      ...(kind.sotw ? [{ path: kind.sotw, delta: false }] : []),
      ...(kind.delta ? [{ path: kind.delta, delta: true }] : []),
    ]),
  ];
  server.addService(
    Object.fromEntries(
      methods.map(({ path }) => [path, { path, requestStream: true, responseStream: true, ...bytes }]),
    ),
    Object.fromEntries(methods.map(({ path, delta }) => [path, serve(path, delta)])),
  );
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', credentials, (error, bound) => (error ? reject(error) : resolve(bound)));
  });
  t.after(() => server.forceShutdown());

  const changed = (kind: Kind, name: string): void => {
    const typeUrl = T + SCHEMAS[kind].typeName;
    for (const client of clients) {
      const names = client.wanted.get(typeUrl);
      if (names === undefined || (names !== '*' && !names.has(name))) continue;
      if (client.delta) pushDelta(client, typeUrl, [name]);
      else pushSotw(client, typeUrl);
    }
  };
  const put = (kind: Kind, name: string, entry: Omit<Held, 'version'>): void => {
    version += 1;
    table(T + SCHEMAS[kind].typeName).set(name, { ...entry, version: String(version) });
    changed(kind, name);
  };
  return {
    port,
    seen,
    opened,
    set(kind, name, json, how = {}) {
      put(kind, name, { any: resource(kind, json), ttlMs: how.ttlMs, aliases: how.aliases ?? [] });
    },
    setEmpty: (kind, name, aliases) => put(kind, name, { any: undefined, ttlMs: undefined, aliases }),
    heartbeat(kind, name, ttlMs) {
      const typeUrl = T + SCHEMAS[kind].typeName;
      const entry = table(typeUrl).get(name)!;
      table(typeUrl).set(name, { ...entry, any: undefined, ttlMs });
      changed(kind, name);
      table(typeUrl).set(name, entry);
    },
    remove(kind, name) {
      version += 1;
      table(T + SCHEMAS[kind].typeName).delete(name);
      changed(kind, name);
    },
    cut() {
      for (const { stream } of clients) stream.end();
    },
  };
}
