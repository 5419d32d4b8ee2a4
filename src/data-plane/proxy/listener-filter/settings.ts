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
import { type Discovered, discover, type ExtensionProvider } from '../config/discovered.ts';
import { ConfigError, join, only } from '../config/fields.ts';
import { MAX_CLIENT_HELLO_BYTES } from '../limits.ts';
import type { Live } from '../transport-socket/secrets.ts';
import type { TlsInspection } from './client-hello.ts';
import { type ProxyProtocolSettings, readProxyProtocol } from './proxy-protocol.ts';

type Kind = 'original-dst' | 'tls' | 'http' | 'proxy';
/** What one listener filter is, and the settings of those that have some. */
interface Built {
  readonly kind: Kind;
  readonly proxy?: ProxyProtocolSettings;
  readonly inspection?: TlsInspection;
}
/** True when a filter is switched off for a connection to this port. */
type Disabled = (port: number) => boolean;

export interface ListenerFilters {
  readonly originalDst: Disabled | undefined;
  readonly tls: Disabled | undefined;
  readonly inspection: TlsInspection | undefined;
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
    only(TlsInspectorSchema, message, path, [
      'initial_read_buffer_size',
      'enable_ja3_fingerprinting',
      'enable_ja4_fingerprinting',
      'close_connection_on_client_hello_parsing_errors',
      'max_client_hello_size',
    ]);
    const ja3 = message.enableJa3Fingerprinting ?? false;
    const ja4 = message.enableJa4Fingerprinting ?? false;
    return {
      kind: 'tls',
      inspection: {
        fingerprinting: ja3 || ja4 ? { ja3, ja4 } : undefined,
        maxBytes: message.maxClientHelloSize ?? MAX_CLIENT_HELLO_BYTES,
        closeOnErrors: message.closeConnectionOnClientHelloParsingErrors,
      },
    };
  }),
  extension(HttpInspectorSchema, (): Built => ({ kind: 'http' })),
];

/** The filters of a listener, some of which may come later (ECDS). */
export interface ListenerFilterSource {
  /** Undefined: one is not known, and connections are closed. */
  current(): ListenerFilters | undefined;
  readonly awaits: readonly Live<unknown>[];
  release(): void;
}

/** One place: what stands there now. */
interface Place {
  readonly name: string;
  readonly disabled: Disabled;
  readonly path: string;
  current(): Built | undefined;
  readonly found: Discovered<Built> | undefined;
}

/** Throws ConfigError. */
export function listenerFilters(
  messages: readonly ListenerFilter[],
  extensions: ExtensionProvider,
  path: string,
): ListenerFilterSource {
  const places: Place[] = [];
  const release = (): void => {
    for (const place of places) place.found?.release();
  };
  try {
    for (const [i, message] of messages.entries())
      places.push(placeOf(message, i, places, extensions, join(path, `listener_filters[${i}]`)));
    const first = arrange(places);
    const awaits = places.flatMap(({ found }) => (found ? [found.live] : []));
    if (awaits.length === 0) return { current: () => first, awaits, release };
    let now = complete(places) ? first : undefined;
    const stops = awaits.map((live) =>
      live.listen(() => {
        now = arranged(places);
      }),
    );
    return {
      current: () => now,
      awaits,
      release() {
        for (const stop of stops) stop();
        release();
      },
    };
  } catch (error) {
    release();
    throw error;
  }
}

/** Undefined too when a default that is back does not go with what the others have become. */
function arranged(places: readonly Place[]): ListenerFilters | undefined {
  try {
    return complete(places) ? arrange(places) : undefined;
  } catch {
    return undefined;
  }
}

const complete = (places: readonly Place[]): boolean => places.every((place) => place.current() !== undefined);

function placeOf(
  message: ListenerFilter,
  index: number,
  before: readonly Place[],
  extensions: ExtensionProvider,
  path: string,
): Place {
  only(ListenerFilterSchema, message, path, ['name', 'typed_config', 'config_discovery', 'filter_disabled']);
  const { name, configType } = message;
  const disabled = message.filterDisabled
    ? predicate(message.filterDisabled, join(path, 'filter_disabled'))
    : () => false;
  if (configType.case !== 'configDiscovery') {
    const any = configType.case === 'typedConfig' ? configType.value : undefined;
    const built = buildExtension(KINDS, any, name, undefined, join(path, 'typed_config'));
    return { name, disabled, path, current: () => built, found: undefined };
  }
  const found = discover(
    'tcp_listener_filter',
    name,
    configType.value,
    extensions,
    (any): Built & { dispose?(): void } => {
      const built = buildExtension(KINDS, any, name, undefined, `extension '${name}'`);
      // It has to go with the others as they are now.
      const here: Place = { name, disabled, path, current: () => built, found: undefined };
      arrange(before.toSpliced(index, 1, here));
      return built;
    },
    join(path, 'config_discovery'),
  );
  return { name, disabled, path, current: () => found.live.current(), found };
}

/** Which of the filters that are known do what. Throws ConfigError when they do not go together. */
function arrange(places: readonly Place[]): ListenerFilters {
  const found: Partial<Record<Kind, Disabled>> = {};
  let proxy: ProxyProtocolSettings | undefined;
  let inspection: TlsInspection | undefined;
  let originalDstLast = false;
  for (const { name, disabled, path, ...place } of places) {
    const built = place.current();
    if (!built) continue;
    const { kind, proxy: settings } = built;
    if (settings) proxy = settings;
    if (built.inspection) inspection = built.inspection;
    if (kind === 'original-dst' && proxy) originalDstLast = true;
    // Looking for HTTP or TLS before the header was taken off would find neither.
    if (kind === 'proxy' && (found.tls || found.http))
      throw new ConfigError(path, 'proxy_protocol must stand before tls_inspector and http_inspector');
    if (found[kind]) throw new ConfigError(path, `${name} is listed twice`);
    found[kind] = disabled;
  }
  return {
    originalDst: found['original-dst'],
    tls: found.tls,
    inspection,
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
