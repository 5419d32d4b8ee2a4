// Where the rules for peers of a TLS context come from: its own words, SDS, or both joined. Called by tls-context.ts.
import {
  type CommonTlsContext,
  CommonTlsContext_CombinedCertificateValidationContextSchema,
} from '#proto/envoy/extensions/transport_sockets/tls/v3/tls_pb.js';
import { ConfigError, join, only } from '../config/fields.ts';
import { constant, type Live, mergeTrust, type TrustMaterial, trustMaterial } from './secrets.ts';
import type { TlsBuildContext } from './tls-context.ts';

export function trustOf(
  message: CommonTlsContext,
  context: TlsBuildContext,
  path: string,
): Live<TrustMaterial> | undefined {
  const kind = message.validationContextType;
  switch (kind.case) {
    case 'validationContext': {
      const at = join(path, 'validation_context');
      return constant(at, trustMaterial(kind.value, context.reader, at));
    }
    case 'validationContextSdsSecretConfig':
      return context.secrets.trust(kind.value);
    case 'combinedValidationContext': {
      const at = join(path, 'combined_validation_context');
      only(CommonTlsContext_CombinedCertificateValidationContextSchema, kind.value, at, [
        'default_validation_context',
        'validation_context_sds_secret_config',
      ]);
      const { defaultValidationContext, validationContextSdsSecretConfig } = kind.value;
      if (!defaultValidationContext || !validationContextSdsSecretConfig)
        throw new ConfigError(at, 'default_validation_context and validation_context_sds_secret_config are required');
      const base = trustMaterial(
        defaultValidationContext,
        context.reader,
        join(at, 'default_validation_context'),
        '',
        true,
      );
      const live = context.secrets.trust(validationContextSdsSecretConfig);
      let from: TrustMaterial | undefined;
      let merged: TrustMaterial | undefined;
      return {
        name: live.name,
        ready: () => live.ready(),
        listen: (changed) => live.listen(changed),
        current() {
          const now = live.current();
          if (now !== from) {
            from = now;
            merged = now && mergeTrust(base, now);
          }
          return merged;
        },
      };
    }
    default:
      return undefined;
  }
}
