// The transport sockets of a cluster: the one of its own and those that transport_socket_matches choose by metadata of
// endpoint, locality or health check. Owned by a cluster.
import type { JsonObject, JsonValue } from '@bufbuild/protobuf';
import type { Cluster as ClusterMessage } from '#proto/envoy/config/cluster/v3/cluster_pb.js';
import { Cluster_TransportSocketMatchSchema } from '#proto/envoy/config/cluster/v3/cluster_pb.js';
import { ConfigError, join, only } from '../config/fields.ts';
import type { StatsScope } from '../stats/stats.ts';
import type { UpstreamSocket } from '../transport-socket/dial.ts';
import { upstreamSocket } from '../transport-socket/factory.ts';
import type { TlsBuildContext } from '../transport-socket/tls-context.ts';
import type { Host, HostSpec } from './host.ts';

interface SocketMatch {
  readonly name: string;
  readonly match: readonly (readonly [string, JsonValue])[];
  readonly socket: UpstreamSocket;
}

const KEY = 'envoy.transport_socket_match';

export class SocketMatches {
  readonly plain: UpstreamSocket;
  readonly #matches: readonly SocketMatch[];
  /** The choice for a host, as long as discovery says the same about it. */
  readonly #chosen = new WeakMap<HostSpec, UpstreamSocket>();

  constructor(message: ClusterMessage, deps: TlsBuildContext, scope: StatsScope, path: string) {
    const context = { ...deps, scope };
    this.plain = upstreamSocket(message.transportSocket, context, join(path, 'transport_socket'));
    const names = new Set<string>();
    this.#matches = message.transportSocketMatches.map((entry, i) => {
      const at = join(path, `transport_socket_matches[${i}]`);
      only(Cluster_TransportSocketMatchSchema, entry, at, ['name', 'match', 'transport_socket']);
      if (entry.name === '') throw new ConfigError(join(at, 'name'), 'value is required');
      if (names.has(entry.name))
        throw new ConfigError(at, `Cluster ${message.name} has duplicated transport socket match name '${entry.name}'`);
      names.add(entry.name);
      return {
        name: entry.name,
        match: Object.entries(entry.match ?? {}),
        socket: upstreamSocket(entry.transportSocket, context, join(at, 'transport_socket')),
      };
    });
  }

  all(): UpstreamSocket[] {
    return [this.plain, ...this.#matches.map((entry) => entry.socket)];
  }

  /** Metadata of the endpoint goes before that of its locality. */
  for(host: Host): UpstreamSocket {
    if (this.#matches.length === 0) return this.plain;
    const { spec } = host;
    let socket = this.#chosen.get(spec);
    if (!socket) {
      socket = this.#find(spec.metadata[KEY]) ?? this.#find(spec.group.metadata[KEY]) ?? this.plain;
      if (socket === this.plain) socket = this.#matches.find((entry) => entry.match.length === 0)?.socket ?? this.plain;
      this.#chosen.set(spec, socket);
    }
    return socket;
  }

  /** The choice of a health check that has criteria of its own. */
  byCriteria(criteria: JsonObject): UpstreamSocket {
    return this.#find(criteria) ?? this.plain;
  }

  #find(labels: JsonObject | undefined): UpstreamSocket | undefined {
    if (!labels) return undefined;
    return this.#matches.find((entry) => entry.match.every(([key, want]) => equal(labels[key], want)))?.socket;
  }
}

function equal(a: JsonValue | undefined, b: JsonValue): boolean {
  return a === b || JSON.stringify(a) === JSON.stringify(b);
}
