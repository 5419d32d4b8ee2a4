// Listener filters: original destination, TLS and HTTP inspection.
import type { MessageInitShape } from '@bufbuild/protobuf';
import type {
  ListenerFilterChainMatchPredicateSchema,
  ListenerFilterSchema,
} from '#proto/envoy/config/listener/v3/listener_components_pb.js';
import { HttpInspectorSchema } from '#proto/envoy/extensions/filters/listener/http_inspector/v3/http_inspector_pb.js';
import { OriginalDstSchema } from '#proto/envoy/extensions/filters/listener/original_dst/v3/original_dst_pb.js';
import { TlsInspectorSchema } from '#proto/envoy/extensions/filters/listener/tls_inspector/v3/tls_inspector_pb.js';
import { packAny } from '../../base/envoy-api/any.ts';

type ListenerFilter = MessageInitShape<typeof ListenerFilterSchema>;
type Predicate = MessageInitShape<typeof ListenerFilterChainMatchPredicateSchema>;

/** Bytes the TLS inspector reads first: a whole ClientHello of a mesh client fits. */
const TLS_READ_BYTES = 512;

const filter = (name: string, value: ReturnType<typeof packAny>, filterDisabled?: Predicate): ListenerFilter => ({
  name,
  configType: { case: 'typedConfig', value },
  ...(filterDisabled ? { filterDisabled } : {}),
});

export const originalDst = (): ListenerFilter =>
  filter('envoy.filters.listener.original_dst', packAny(OriginalDstSchema, {}));

export const tlsInspector = (disabled?: Predicate): ListenerFilter =>
  filter(
    'envoy.filters.listener.tls_inspector',
    packAny(TlsInspectorSchema, { initialReadBufferSize: TLS_READ_BYTES }),
    disabled,
  );

export const httpInspector = (disabled?: Predicate): ListenerFilter =>
  filter('envoy.filters.listener.http_inspector', packAny(HttpInspectorSchema, {}), disabled);

/**
 * On which ports an inspector is off. `needed` holds what is known port by port, `otherwise` every other port.
 * `'never'`: no port needs it, leave the filter out.
 */
export function disabledPorts(
  needed: ReadonlyMap<number, boolean>,
  otherwise: boolean,
): Predicate | undefined | 'never' {
  const differing = [...needed].filter(([, need]) => need !== otherwise).map(([port]) => port);
  if (otherwise) return differing.length === 0 ? undefined : anyOf(differing);
  if (differing.length === 0) return 'never';
  return { rule: { case: 'notMatch', value: anyOf(differing) } };
}

function anyOf(ports: readonly number[]): Predicate {
  const rules = ports.map(
    (port): Predicate => ({ rule: { case: 'destinationPortRange', value: { start: port, end: port + 1 } } }),
  );
  return rules.length === 1 && rules[0] ? rules[0] : { rule: { case: 'orMatch', value: { rules } } };
}
