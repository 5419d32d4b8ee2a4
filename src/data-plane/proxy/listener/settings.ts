// Reads a Listener message (all but its filter chains) into checked settings.
import { create, toBinary } from '@bufbuild/protobuf';
import { TrafficDirection } from '#proto/envoy/config/core/v3/base_pb.js';
import { AdditionalAddressSchema, type Listener, ListenerSchema } from '#proto/envoy/config/listener/v3/listener_pb.js';
import { fingerprint } from '../cluster/cluster.ts';
import { addressOf, type SocketAddr } from '../config/address.ts';
import { join, millis, only } from '../config/fields.ts';
import { DEFAULT_LISTENER_FILTERS_TIMEOUT_MS } from '../limits.ts';
import { type ListenerFilters, readListenerFilters } from '../listener-filter/settings.ts';

export interface ListenerSettings {
  readonly name: string;
  readonly addresses: readonly SocketAddr[];
  readonly bind: boolean;
  readonly useOriginalDst: boolean;
  readonly direction: 'inbound' | 'outbound' | 'unspecified';
  readonly filters: ListenerFilters;
  /** ms; 0 = no limit. */
  readonly filtersTimeoutMs: number;
  readonly continueOnTimeout: boolean;
  readonly backlog: number;
  /** Not counted against the limit of all listeners. */
  readonly ignoreGlobalLimit: boolean;
  /** Everything but the chains: equal means that chains may be swapped in place. */
  readonly fingerprint: string;
}

const FIELDS = [
  'name',
  'address',
  'additional_addresses',
  'stat_prefix',
  'filter_chains',
  'default_filter_chain',
  'use_original_dst',
  'metadata',
  'listener_filters',
  'listener_filters_timeout',
  'continue_on_listener_filters_timeout',
  'traffic_direction',
  'access_log',
  'tcp_backlog_size',
  'bind_to_port',
  'deprecated_v1',
  // One worker accepts: ports are never shared, connections never need balancing.
  'enable_reuse_port',
  'connection_balance_config',
  'max_connections_to_accept_per_socket_event',
  'ignore_global_conn_limit',
  // The overload manager of this proxy only counts connections.
  'bypass_overload_manager',
  // Our buffers are smaller than any limit Istio sends.
  'per_connection_buffer_limit_bytes',
  // Both kinds drain when a listener is changed or removed; only /healthcheck/fail makes the difference.
  'drain_type',
];

const DEFAULT_BACKLOG = 1024;

export function readListener(message: Listener, path: string): ListenerSettings {
  only(ListenerSchema, message, path, FIELDS);
  const address = addressOf(message.address, join(path, 'address'));
  const more = message.additionalAddresses.map((entry, i) => {
    const at = join(path, `additional_addresses[${i}]`);
    only(AdditionalAddressSchema, entry, at, ['address']);
    return addressOf(entry.address, join(at, 'address'));
  });
  return {
    name: message.name,
    addresses: [address, ...more],
    bind: message.bindToPort ?? message.deprecatedV1?.bindToPort ?? true,
    useOriginalDst: message.useOriginalDst ?? false,
    direction:
      message.trafficDirection === TrafficDirection.INBOUND
        ? 'inbound'
        : message.trafficDirection === TrafficDirection.OUTBOUND
          ? 'outbound'
          : 'unspecified',
    filters: readListenerFilters(message.listenerFilters, path),
    filtersTimeoutMs: millis(message.listenerFiltersTimeout, DEFAULT_LISTENER_FILTERS_TIMEOUT_MS),
    continueOnTimeout: message.continueOnListenerFiltersTimeout,
    backlog: message.tcpBacklogSize ?? DEFAULT_BACKLOG,
    ignoreGlobalLimit: message.ignoreGlobalConnLimit,
    fingerprint: frameFingerprint(message),
  };
}

function frameFingerprint(message: Listener): string {
  const frame = create(ListenerSchema, { ...message, filterChains: [], defaultFilterChain: undefined });
  return fingerprint(toBinary(ListenerSchema, frame));
}
