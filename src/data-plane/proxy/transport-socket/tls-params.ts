// TlsParameters as values for OpenSSL: versions, ciphers, groups, signature algorithms. Each name is tried when the
// configuration is read, so that a wrong one is refused with Envoy's words. Called by tls-context.ts.
import { createSecureContext, type SecureContextOptions, type SecureVersion } from 'node:tls';
import {
  TlsParameters_TlsProtocol as Protocol,
  type TlsParameters,
  TlsParametersSchema,
} from '#proto/envoy/extensions/transport_sockets/tls/v3/common_pb.js';
import { ConfigError, join, only } from '../config/fields.ts';

export interface TlsParams {
  readonly minVersion: SecureVersion;
  readonly maxVersion: SecureVersion;
  /** TLS 1.2 cipher list and TLS 1.3 suites in one OpenSSL string. */
  readonly ciphers: string;
  readonly suites13: string;
  readonly groups: string;
  /** Empty: OpenSSL's own list. */
  readonly sigalgs: string;
}

const VERSIONS: Readonly<Record<Protocol, SecureVersion | undefined>> = {
  [Protocol.TLS_AUTO]: undefined,
  [Protocol.TLSv1_0]: 'TLSv1',
  [Protocol.TLSv1_1]: 'TLSv1.1',
  [Protocol.TLSv1_2]: 'TLSv1.2',
  [Protocol.TLSv1_3]: 'TLSv1.3',
};
const ORDER: readonly SecureVersion[] = ['TLSv1', 'TLSv1.1', 'TLSv1.2', 'TLSv1.3'];

/**
 * SSL_OP_NO_TX_CERTIFICATE_COMPRESSION and its RX counterpart: OpenSSL compresses a client's certificate anew in every
 * handshake, at four times the price of the rest. Envoy does not offer it either.
 */
export const NO_CERTIFICATE_COMPRESSION = 2 ** 32 + 2 ** 33;

/** TLS 1.3 suites are not configurable in Envoy; the cheap one first for in-mesh traffic. */
const TLS13_SUITES = 'TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256';
/** Envoy's default list for TLS 1.2, in its order. */
const TLS12_CIPHERS = [
  'ECDHE-ECDSA-AES128-GCM-SHA256',
  'ECDHE-ECDSA-CHACHA20-POLY1305',
  'ECDHE-RSA-AES128-GCM-SHA256',
  'ECDHE-RSA-CHACHA20-POLY1305',
  'ECDHE-ECDSA-AES256-GCM-SHA384',
  'ECDHE-RSA-AES256-GCM-SHA384',
];
/** The hybrid where both have it, else X25519: a client that sent a share for one of them is never asked for another. */
const SERVER_GROUPS = 'X25519MLKEM768:X25519:P-256:P-384';
/** The same; a star sends a share, so that no server costs a round trip more. */
const CLIENT_GROUPS = '*X25519MLKEM768:*X25519:P-256:P-384';

export function readTlsParams(params: TlsParameters | undefined, path: string, server: boolean): TlsParams {
  if (params)
    only(TlsParametersSchema, params, path, [
      'tls_minimum_protocol_version',
      'tls_maximum_protocol_version',
      'cipher_suites',
      'ecdh_curves',
      'signature_algorithms',
    ]);
  const minVersion = VERSIONS[params?.tlsMinimumProtocolVersion ?? Protocol.TLS_AUTO] ?? 'TLSv1.2';
  const maxVersion = VERSIONS[params?.tlsMaximumProtocolVersion ?? Protocol.TLS_AUTO] ?? 'TLSv1.3';
  if (ORDER.indexOf(minVersion) > ORDER.indexOf(maxVersion))
    throw new ConfigError(path, `no TLS version between ${minVersion} and ${maxVersion}`);
  const suites = (params?.cipherSuites ?? []).flatMap(suiteNames);
  const wrong = suites.filter((suite) => !works({ ciphers: suite }));
  if (wrong.length > 0)
    throw new ConfigError(
      join(path, 'cipher_suites'),
      `Failed to initialize cipher suites ${params!.cipherSuites.join(':')}. The following ciphers were rejected when tried individually: ${wrong.join(', ')}`,
    );
  const groups = params?.ecdhCurves ?? [];
  if (groups.length > 0 && !groups.every((group) => works({ ecdhCurve: group })))
    throw new ConfigError(join(path, 'ecdh_curves'), `Failed to initialize ECDH curves ${groups.join(':')}`);
  const sigalgs = params?.signatureAlgorithms ?? [];
  if (sigalgs.length > 0 && !sigalgs.every((name) => works({ sigalgs: name })))
    throw new ConfigError(
      join(path, 'signature_algorithms'),
      `Failed to initialize TLS signature algorithms ${sigalgs.join(':')}`,
    );
  // OpenSSL speaks the two old versions only at its lowest security level.
  const level = ORDER.indexOf(minVersion) < 2 ? ':@SECLEVEL=0' : '';
  const list = suites.length > 0 ? suites : level === '' ? TLS12_CIPHERS : [...TLS12_CIPHERS, ...TLS10_CIPHERS];
  return {
    minVersion,
    maxVersion,
    ciphers: list.join(':') + level,
    suites13: TLS13_SUITES,
    groups: groups.length > 0 ? groups.join(':') : server ? SERVER_GROUPS : CLIENT_GROUPS,
    sigalgs: sigalgs.join(':'),
  };
}

const TLS10_CIPHERS = [
  'ECDHE-ECDSA-AES128-SHA',
  'ECDHE-RSA-AES128-SHA',
  'ECDHE-ECDSA-AES256-SHA',
  'ECDHE-RSA-AES256-SHA',
];

/** `[A|B]` is a group of equal preference, which OpenSSL does not have: its members follow each other. */
function suiteNames(text: string): string[] {
  return text
    .replaceAll(/[[\]]/g, '')
    .split(/[|:]/)
    .filter((name) => name !== '');
}

/** Answers by name: every cluster of a mesh names the same few. */
const tried = new Map<string, boolean>();
const MAX_TRIED = 1_000;

function works(options: SecureContextOptions): boolean {
  const key = JSON.stringify(options);
  const known = tried.get(key);
  if (known !== undefined) return known;
  let answer = true;
  try {
    createSecureContext(options);
  } catch {
    answer = false;
  }
  if (tried.size < MAX_TRIED) tried.set(key, answer);
  return answer;
}
