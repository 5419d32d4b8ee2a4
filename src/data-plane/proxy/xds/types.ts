// What each discovered type does to the engine: the handlers of the ADS client. Each resource is applied by itself, so
// one bad resource is refused by name while the good ones of the same answer take effect.
import { type DescMessage, fromBinary, type MessageShape } from '@bufbuild/protobuf';
import type { Any } from '@bufbuild/protobuf/wkt';
import { type Cluster as ClusterMessage, ClusterSchema } from '#proto/envoy/config/cluster/v3/cluster_pb.js';
import {
  type ClusterLoadAssignment,
  ClusterLoadAssignmentSchema,
} from '#proto/envoy/config/endpoint/v3/endpoint_pb.js';
import { type Listener as ListenerMessage, ListenerSchema } from '#proto/envoy/config/listener/v3/listener_pb.js';
import { type RouteConfiguration, RouteConfigurationSchema } from '#proto/envoy/config/route/v3/route_pb.js';
import type { Clock } from '../../../base/runtime/clock.ts';
import { errorText } from '../../../base/runtime/log.ts';
import type { ClusterManager } from '../cluster/manager.ts';
import { typeNameOf } from '../config/any.ts';
import { ConfigError } from '../config/fields.ts';
import type { ListenerManager } from '../listener/manager.ts';
import type { Rejection, ResourceUpdate, TypeHandler } from './ads.ts';
import type { RouteManager } from './rds.ts';

const PREFIX = 'type.googleapis.com/';
export const CDS = PREFIX + ClusterSchema.typeName;
export const EDS = PREFIX + ClusterLoadAssignmentSchema.typeName;
export const LDS = PREFIX + ListenerSchema.typeName;
export const RDS = PREFIX + RouteConfigurationSchema.typeName;

/** What is remembered about a resource for /config_dump. */
export interface ResourceRecord {
  readonly any: Any;
  readonly version: string;
  readonly updated: number;
  readonly error?: { readonly details: string; readonly version: string; readonly at: number; readonly failed: Any };
}

/** The versions of one type, by resource name. */
export type ResourceBook = Map<string, ResourceRecord>;

interface Applier<D extends DescMessage> {
  readonly schema: D;
  readonly statPrefix: string;
  readonly wildcard: boolean;
  readonly book: ResourceBook;
  name(message: MessageShape<D>): string;
  apply(message: MessageShape<D>, version: string): void;
  remove(name: string): void;
  /** Names that a complete answer would have to list to keep. */
  held(): string[];
  /** Called after every answer. */
  done(): void;
}

function handler<D extends DescMessage>(applier: Applier<D>, clock: Clock): TypeHandler {
  const { schema, book } = applier;
  const read = (any: Any): MessageShape<D> => {
    if (typeNameOf(any.typeUrl) !== schema.typeName)
      throw new ConfigError('', `expected ${schema.typeName}, got ${any.typeUrl}`);
    return fromBinary(schema, any.value);
  };
  return {
    typeUrl: PREFIX + schema.typeName,
    statPrefix: applier.statPrefix,
    wildcard: applier.wildcard,
    nameOf(any) {
      try {
        return applier.name(read(any));
      } catch {
        return '';
      }
    },
    apply(update: ResourceUpdate): readonly Rejection[] {
      const rejected: Rejection[] = [];
      const seen = new Set<string>();
      for (const { name, version, any } of update.resources) {
        let real = name;
        try {
          const message = read(any);
          real = applier.name(message);
          seen.add(real);
          applier.apply(message, version);
          book.set(real, { any, version, updated: clock.now() });
        } catch (error) {
          const details = errorText(error);
          rejected.push({ name: name || real, reason: details });
          seen.add(real);
          const before = book.get(real);
          const failure = { details, version, at: clock.now(), failed: any };
          book.set(real, before ? { ...before, error: failure } : { any, version: '', updated: 0, error: failure });
        }
      }
      const gone = update.complete ? applier.held().filter((name) => !seen.has(name)) : update.removed;
      for (const name of gone) {
        applier.remove(name);
        book.delete(name);
      }
      applier.done();
      return rejected;
    },
  };
}

export interface Books {
  readonly clusters: ResourceBook;
  readonly listeners: ResourceBook;
  readonly endpoints: ResourceBook;
  readonly routes: ResourceBook;
}

export function cdsHandler(clusters: ClusterManager, books: Books, clock: Clock, done: () => void): TypeHandler {
  return handler<typeof ClusterSchema>(
    {
      schema: ClusterSchema,
      statPrefix: 'cluster_manager.cds.',
      wildcard: true,
      book: books.clusters,
      name: (message: ClusterMessage) => message.name,
      apply: (message) => void clusters.apply(message, false),
      remove: (name) => void clusters.remove(name),
      held: () => clusters.dynamicNames(),
      done,
    },
    clock,
  );
}

export function ldsHandler(listeners: ListenerManager, books: Books, clock: Clock, done: () => void): TypeHandler {
  return handler<typeof ListenerSchema>(
    {
      schema: ListenerSchema,
      statPrefix: 'listener_manager.lds.',
      wildcard: true,
      book: books.listeners,
      name: (message: ListenerMessage) => message.name,
      apply: (message) => void listeners.apply(message, false),
      remove: (name) => void listeners.remove(name),
      held: () => listeners.dynamicNames(),
      done,
    },
    clock,
  );
}

export function edsHandler(clusters: ClusterManager, books: Books, clock: Clock, done: () => void): TypeHandler {
  return handler<typeof ClusterLoadAssignmentSchema>(
    {
      schema: ClusterLoadAssignmentSchema,
      statPrefix: 'cluster_manager.eds.',
      wildcard: false,
      book: books.endpoints,
      name: (message: ClusterLoadAssignment) => message.clusterName,
      apply: (message) => clusters.applyEndpoints(message),
      remove: (name) => clusters.removeEndpoints(name),
      held: () => [],
      done,
    },
    clock,
  );
}

export function rdsHandler(routes: RouteManager, books: Books, clock: Clock): TypeHandler {
  return handler<typeof RouteConfigurationSchema>(
    {
      schema: RouteConfigurationSchema,
      statPrefix: 'http.rds.',
      wildcard: false,
      book: books.routes,
      name: (message: RouteConfiguration) => message.name,
      apply: (message, version) => routes.apply(message, version),
      // Envoy ignores the removal of a route table: it lives as long as a listener names it.
      remove() {},
      held: () => [],
      done() {},
    },
    clock,
  );
}
