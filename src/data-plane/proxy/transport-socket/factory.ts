// Builds transport sockets from Envoy's TransportSocket messages. Called by filter chains and clusters.
import { type TransportSocket, TransportSocketSchema } from '#proto/envoy/config/core/v3/base_pb.js';
import { RawBufferSchema } from '#proto/envoy/extensions/transport_sockets/raw_buffer/v3/raw_buffer_pb.js';
import {
  DownstreamTlsContextSchema,
  UpstreamTlsContextSchema,
} from '#proto/envoy/extensions/transport_sockets/tls/v3/tls_pb.js';
import { buildExtension, type Extension, extension } from '../config/any.ts';
import { ConfigError, join, only } from '../config/fields.ts';
import type { StatsScope } from '../stats/stats.ts';
import { type UpstreamSocket, upstreamTlsCounters } from './dial.ts';
import type { DownstreamTls } from './tls-accept.ts';
import { type TlsBuildContext, TlsContext } from './tls-context.ts';

const DOWNSTREAM: readonly Extension<TlsBuildContext, DownstreamTls | undefined>[] = [
  extension(RawBufferSchema, () => undefined),
  extension(DownstreamTlsContextSchema, (message, context, path) => {
    only(DownstreamTlsContextSchema, message, path, [
      'common_tls_context',
      'require_client_certificate',
      // Sessions are never resumed here, which is what both fields ask for.
      'disable_stateless_session_resumption',
      'disable_stateful_session_resumption',
    ]);
    if (!message.commonTlsContext) throw new ConfigError(join(path, 'common_tls_context'), 'value is required');
    const requireClientCertificate = message.requireClientCertificate ?? false;
    const tls = new TlsContext(message.commonTlsContext, context, join(path, 'common_tls_context'), true);
    if (requireClientCertificate && !tls.verifyPeer)
      throw new ConfigError(path, 'require_client_certificate needs a validation context: nothing could be verified');
    return { context: tls, requireClientCertificate };
  }),
];

/** Undefined means plain text. */
export function downstreamSocket(
  message: TransportSocket | undefined,
  context: TlsBuildContext,
  path: string,
): DownstreamTls | undefined {
  if (!message) return undefined;
  only(TransportSocketSchema, message, path, ['name', 'typed_config']);
  return buildExtension(DOWNSTREAM, typed(message), message.name, context, path);
}

interface UpstreamContext extends TlsBuildContext {
  readonly scope: StatsScope;
}
const UPSTREAM: readonly Extension<UpstreamContext, UpstreamSocket>[] = [
  extension(RawBufferSchema, () => ({ kind: 'raw' as const })),
  extension(UpstreamTlsContextSchema, (message, context, path) => {
    only(UpstreamTlsContextSchema, message, path, ['common_tls_context', 'sni', 'max_session_keys']);
    if (!message.commonTlsContext) throw new ConfigError(join(path, 'common_tls_context'), 'value is required');
    return {
      kind: 'tls' as const,
      context: new TlsContext(message.commonTlsContext, context, join(path, 'common_tls_context'), false),
      sni: message.sni,
      counters: upstreamTlsCounters(context.scope),
    };
  }),
];

export function upstreamSocket(
  message: TransportSocket | undefined,
  context: UpstreamContext,
  path: string,
): UpstreamSocket {
  if (!message) return { kind: 'raw' };
  only(TransportSocketSchema, message, path, ['name', 'typed_config']);
  return buildExtension(UPSTREAM, typed(message), message.name, context, path);
}

function typed(message: TransportSocket) {
  return message.configType.case === 'typedConfig' ? message.configType.value : undefined;
}
