// Builds transport sockets from Envoy's TransportSocket messages. Called by filter chains and clusters.
import { create } from '@bufbuild/protobuf';
import { type TransportSocket, TransportSocketSchema } from '#proto/envoy/config/core/v3/base_pb.js';
import {
  ProxyProtocolConfig_Version,
  ProxyProtocolConfigSchema,
  TlvEntrySchema,
} from '#proto/envoy/config/core/v3/proxy_protocol_pb.js';
import { ProxyProtocolUpstreamTransportSchema } from '#proto/envoy/extensions/transport_sockets/proxy_protocol/v3/upstream_proxy_protocol_pb.js';
import { RawBufferSchema } from '#proto/envoy/extensions/transport_sockets/raw_buffer/v3/raw_buffer_pb.js';
import {
  CommonTlsContextSchema,
  DownstreamTlsContextSchema,
  UpstreamTlsContextSchema,
} from '#proto/envoy/extensions/transport_sockets/tls/v3/tls_pb.js';
import { buildExtension, type Extension, extension } from '../config/any.ts';
import { ConfigError, join, millis, only } from '../config/fields.ts';
import { TLS_SESSION_TIMEOUT_S } from '../limits.ts';
import { passedTlvs } from '../listener-filter/proxy-protocol.ts';
import type { StatsScope } from '../stats/stats.ts';
import type { UpstreamSocket } from './dial.ts';
import { constant, ticketKeys } from './secrets.ts';
import type { DownstreamTls } from './tls-accept.ts';
import { type TlsBuildContext, TlsContext } from './tls-context.ts';
import { TlsCounters } from './tls-stats.ts';

const DOWNSTREAM: readonly Extension<TlsBuildContext, DownstreamTls | undefined>[] = [
  extension(RawBufferSchema, () => undefined),
  extension(DownstreamTlsContextSchema, (message, context, path) => {
    only(DownstreamTlsContextSchema, message, path, [
      'common_tls_context',
      'require_client_certificate',
      'session_ticket_keys',
      'session_ticket_keys_sds_secret_config',
      'session_timeout',
      'disable_stateless_session_resumption',
      'disable_stateful_session_resumption',
      'full_scan_certs_on_sni_mismatch',
    ]);
    if (!message.commonTlsContext) throw new ConfigError(join(path, 'common_tls_context'), 'value is required');
    const requireClientCertificate = message.requireClientCertificate ?? false;
    const keys = message.sessionTicketKeysType;
    const at = join(path, 'common_tls_context');
    const tls = new TlsContext(message.commonTlsContext, context, at, {
      server: true,
      requireClientCertificate,
      sessionStore: !message.disableStatefulSessionResumption,
      tickets: !(keys.case === 'disableStatelessSessionResumption' && keys.value),
      ticketKeys:
        keys.case === 'sessionTicketKeys'
          ? constant(path, ticketKeys(keys.value, context.reader, join(path, 'session_ticket_keys')))
          : keys.case === 'sessionTicketKeysSdsSecretConfig'
            ? context.secrets.ticketKeys(keys.value)
            : undefined,
      sessionTimeoutS: Math.round(millis(message.sessionTimeout, TLS_SESSION_TIMEOUT_S * 1000) / 1000),
      sessionKeys: 0,
      enforceRsaKeyUsage: false,
    });
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
  extension(ProxyProtocolUpstreamTransportSchema, (message, context, path) => {
    only(ProxyProtocolUpstreamTransportSchema, message, path, ['config', 'transport_socket']);
    const config = join(path, 'config');
    if (message.config)
      only(ProxyProtocolConfigSchema, message.config, config, ['version', 'pass_through_tlvs', 'added_tlvs']);
    const at = join(path, 'transport_socket');
    if (!message.transportSocket) throw new ConfigError(at, 'value is required');
    const inner = upstreamSocket(message.transportSocket, context, at);
    if (inner.proxyProtocol) throw new ConfigError(at, 'one PROXY protocol header is enough');
    const version = message.config?.version === ProxyProtocolConfig_Version.V2 ? 2 : 1;
    const passes = passedTlvs(message.config?.passThroughTlvs, join(config, 'pass_through_tlvs'));
    const added = (message.config?.addedTlvs ?? []).map((entry, i) => {
      const at = join(config, `added_tlvs[${i}]`);
      only(TlvEntrySchema, entry, at, ['type', 'value']);
      if (entry.type > 255) throw new ConfigError(join(at, 'type'), 'value must be less than 256');
      if (entry.value.length === 0) throw new ConfigError(join(at, 'value'), 'value is required');
      return { type: entry.type, value: Buffer.from(entry.value) };
    });
    const tooLong = context.scope.counter('upstream.proxyprotocol.v2_tlvs_exceed_max_length');
    return { ...inner, proxyProtocol: { version, passes, added, tooLong } };
  }),
  extension(RawBufferSchema, () => ({ kind: 'raw' as const })),
  extension(UpstreamTlsContextSchema, (message, context, path) => {
    only(UpstreamTlsContextSchema, message, path, [
      'common_tls_context',
      'sni',
      'max_session_keys',
      'enforce_rsa_key_usage',
    ]);
    if (message.sni.length > 255) throw new ConfigError(join(path, 'sni'), 'value length must be at most 255 bytes');
    return {
      kind: 'tls' as const,
      context: new TlsContext(
        message.commonTlsContext ?? create(CommonTlsContextSchema),
        context,
        join(path, 'common_tls_context'),
        {
          server: false,
          requireClientCertificate: false,
          sessionStore: false,
          tickets: false,
          ticketKeys: undefined,
          sessionTimeoutS: 0,
          sessionKeys: message.maxSessionKeys ?? 1,
          enforceRsaKeyUsage: message.enforceRsaKeyUsage ?? true,
        },
      ),
      sni: message.sni,
      counters: new TlsCounters(context.scope, false),
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
