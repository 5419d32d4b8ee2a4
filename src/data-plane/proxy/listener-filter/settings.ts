// Reads the listener filters of a Listener: which inspections run, and on which ports they are switched off.
import {
  type ListenerFilter,
  type ListenerFilterChainMatchPredicate,
  ListenerFilterChainMatchPredicateSchema,
  ListenerFilterSchema,
} from '#proto/envoy/config/listener/v3/listener_components_pb.js';
import { HttpInspectorSchema } from '#proto/envoy/extensions/filters/listener/http_inspector/v3/http_inspector_pb.js';
import { OriginalDstSchema } from '#proto/envoy/extensions/filters/listener/original_dst/v3/original_dst_pb.js';
import { ProxyProtocolSchema } from '#proto/envoy/extensions/filters/listener/proxy_protocol/v3/proxy_protocol_pb.js';
import { TlsInspectorSchema } from '#proto/envoy/extensions/filters/listener/tls_inspector/v3/tls_inspector_pb.js';
import { buildExtension, type Extension, extension } from '../config/any.ts';
import { ConfigError, join, only } from '../config/fields.ts';
import { type ProxyProtocolSettings, readProxyProtocol } from './proxy-protocol.ts';

type Kind = 'original-dst' | 'tls' | 'http' | 'proxy';
/** What one listener filter is; only PROXY protocol has settings of its own. */
interface Built {
  readonly kind: Kind;
  readonly proxy?: ProxyProtocolSettings;
}
/** True when a filter is switched off for a connection to this port. */
type Disabled = (port: number) => boolean;

export interface ListenerFilters {
  readonly originalDst: Disabled | undefined;
  readonly tls: Disabled | undefined;
  readonly http: Disabled | undefined;
  readonly proxy: { readonly settings: ProxyProtocolSettings; readonly disabled: Disabled } | undefined;
  /** original_dst stands behind proxy_protocol: its address wins over the header's. */
  readonly originalDstLast: boolean;
}

const KINDS: readonly Extension<undefined, Built>[] = [
  extension(OriginalDstSchema, (): Built => ({ kind: 'original-dst' })),
  extension(
    ProxyProtocolSchema,
    (message, _context, path): Built => ({ kind: 'proxy', proxy: readProxyProtocol(message, path) }),
  ),
  extension(TlsInspectorSchema, (message, _context, path): Built => {
    // The size of the first read is ours to choose.
    only(TlsInspectorSchema, message, path, ['initial_read_buffer_size']);
    return { kind: 'tls' };
  }),
  extension(HttpInspectorSchema, (): Built => ({ kind: 'http' })),
];

export function readListenerFilters(messages: readonly ListenerFilter[], path: string): ListenerFilters {
  const found: Partial<Record<Kind, Disabled>> = {};
  let proxy: ProxyProtocolSettings | undefined;
  let originalDstLast = false;
  for (const [i, message] of messages.entries()) {
    const at = join(path, `listener_filters[${i}]`);
    only(ListenerFilterSchema, message, at, ['name', 'typed_config', 'filter_disabled']);
    const any = message.configType.case === 'typedConfig' ? message.configType.value : undefined;
    const { kind, proxy: settings } = buildExtension(KINDS, any, message.name, undefined, join(at, 'typed_config'));
    if (settings) proxy = settings;
    if (kind === 'original-dst' && proxy) originalDstLast = true;
    // Looking for HTTP or TLS before the header was taken off would find neither.
    if (kind === 'proxy' && (found.tls || found.http))
      throw new ConfigError(at, 'proxy_protocol must stand before tls_inspector and http_inspector');
    if (found[kind]) throw new ConfigError(at, `${message.name} is listed twice`);
    found[kind] = message.filterDisabled ? predicate(message.filterDisabled, join(at, 'filter_disabled')) : () => false;
  }
  return {
    originalDst: found['original-dst'],
    tls: found.tls,
    http: found.http,
    proxy: proxy && found.proxy && { settings: proxy, disabled: found.proxy },
    originalDstLast,
  };
}

function predicate(message: ListenerFilterChainMatchPredicate, path: string): Disabled {
  only(ListenerFilterChainMatchPredicateSchema, message, path, [
    'or_match',
    'and_match',
    'not_match',
    'any_match',
    'destination_port_range',
  ]);
  const { rule } = message;
  switch (rule.case) {
    case 'orMatch': {
      const any = rule.value.rules.map((entry, i) => predicate(entry, join(path, `or_match.rules[${i}]`)));
      return (port) => any.some((test) => test(port));
    }
    case 'andMatch': {
      const all = rule.value.rules.map((entry, i) => predicate(entry, join(path, `and_match.rules[${i}]`)));
      return (port) => all.every((test) => test(port));
    }
    case 'notMatch': {
      const inner = predicate(rule.value, join(path, 'not_match'));
      return (port) => !inner(port);
    }
    case 'anyMatch': {
      const value = rule.value;
      return () => value;
    }
    case 'destinationPortRange': {
      const { start, end } = rule.value;
      return (port) => port >= start && port < end;
    }
    default:
      throw new ConfigError(path, 'a rule is required');
  }
}
