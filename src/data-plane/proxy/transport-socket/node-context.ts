// The SecureContext of Node for one certificate and the rules of the moment (MELTEMI_TLS_TRANSPORT=tlssocket). Called by
// tls-context.ts.
import { constants } from 'node:crypto';
import { createSecureContext, type SecureContext } from 'node:tls';
import type { ContextSpec } from './tls-context.ts';
import { NO_CERTIFICATE_COMPRESSION } from './tls-params.ts';

export function nodeContext(spec: ContextSpec): SecureContext {
  const { params, role, certificate, trust } = spec;
  return createSecureContext({
    minVersion: params.minVersion,
    maxVersion: params.maxVersion,
    ciphers: `${params.suites13}:${params.ciphers}`,
    ecdhCurve: params.groups,
    ...(params.sigalgs === '' ? {} : { sigalgs: params.sigalgs }),
    ...(certificate ? { cert: certificate.chainPem, key: certificate.keyPem } : {}),
    // Without a validation context nothing is trusted, so Node's built-in roots must not be either.
    ca: trust?.caPem ? [trust.caPem] : [],
    allowPartialTrustChain: true,
    ...(trust && trust.crls.length > 0 && !trust.leafCrlOnly ? { crl: trust.crls.map((crl) => crl.pem) } : {}),
    ...(role.server
      ? {
          honorCipherOrder: true,
          sessionTimeout: role.sessionTimeoutS,
          sessionIdContext: spec.sessionContext,
          ...(spec.tickets && spec.ticketKey ? { ticketKeys: nodeTicketKey(spec.ticketKey) } : {}),
        }
      : {}),
    secureOptions:
      NO_CERTIFICATE_COMPRESSION +
      constants.SSL_OP_NO_RENEGOTIATION +
      (role.server ? constants.SSL_OP_CIPHER_SERVER_PREFERENCE : 0) +
      (role.server && !spec.tickets ? constants.SSL_OP_NO_TICKET : 0),
  });
}

/** Node takes 48 bytes: name, MAC key, cipher key. */
function nodeTicketKey(key: Buffer): Buffer {
  return Buffer.concat([key.subarray(0, 16), key.subarray(16, 32), key.subarray(48, 64)]);
}
