// Reads a Listener message (all but its filters and filter chains) into checked settings.
import { create, toBinary } from '@bufbuild/protobuf';
import { TrafficDirection } from '#proto/envoy/config/core/v3/base_pb.js';
import {
  AdditionalAddressSchema,
  type Listener,
  Listener_DrainType,
  ListenerSchema,
} from '#proto/envoy/config/listener/v3/listener_pb.js';
import { addressOf, type SocketAddr } from '../config/address.ts';
import { join, millis, only } from '../config/fields.ts';
import { fingerprint } from '../config/fingerprint.ts';
import { DEFAULT_LISTENER_FILTERS_TIMEOUT_MS } from '../limits.ts';
import { readSocket, type SocketSettings } from './socket-settings.ts';

export interface ListenerSettings {
  readonly name: string;
  readonly addresses: readonly SocketAddr[];
  readonly bind: boolean;
  readonly useOriginalDst: boolean;
  readonly direction: 'inbound' | 'outbound' | 'unspecified';
  /** ms; 0 = no limit. */
  readonly filtersTimeoutMs: number;
  readonly continueOnTimeout: boolean;
  readonly backlog: number;
  /** Not counted against the limit of all listeners. */
  readonly ignoreGlobalLimit: boolean;
  readonly bypassOverload: boolean;
  /** drain_type MODIFY_ONLY: /healthcheck/fail does not drain it. */
  readonly modifyOnly: boolean;
  readonly socket: SocketSettings;
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
  'enable_reuse_port',
  'connection_balance_config',
  'freebind',
  'transparent',
  'socket_options',
  'tcp_fast_open_queue_length',
  // Connections are taken one after the other, each with its first work done.
  'max_connections_to_accept_per_socket_event',
  'ignore_global_conn_limit',
  'bypass_overload_manager',
  // Our buffers are smaller than any limit Istio sends.
  'per_connection_buffer_limit_bytes',
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
    filtersTimeoutMs: millis(message.listenerFiltersTimeout, DEFAULT_LISTENER_FILTERS_TIMEOUT_MS),
    continueOnTimeout: message.continueOnListenerFiltersTimeout,
    backlog: message.tcpBacklogSize ?? DEFAULT_BACKLOG,
    ignoreGlobalLimit: message.ignoreGlobalConnLimit,
    bypassOverload: message.bypassOverloadManager,
    modifyOnly: message.drainType === Listener_DrainType.MODIFY_ONLY,
    socket: readSocket(message, path),
    fingerprint: frameFingerprint(message),
  };
}

function frameFingerprint(message: Listener): string {
  const frame = create(ListenerSchema, { ...message, filterChains: [], defaultFilterChain: undefined });
  return fingerprint(toBinary(ListenerSchema, frame));
}
