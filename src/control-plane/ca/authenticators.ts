// Who is calling istiod: by client certificate, OIDC token or Kubernetes TokenReview, first success wins (identity.md §7).
// Used by the CA service and by the xDS server.
import type { Metadata } from '@grpc/grpc-js';
import type { KubeClient } from '../../base/kube/types.ts';
import type { Clock } from '../../base/runtime/clock.ts';
import { errorText } from '../../base/runtime/log.ts';
import { istioSpiffeId, parseIstioId, parseWorkloadId } from '../../base/spiffe/spiffe-id.ts';
import { isIssuedBy, readCertificate } from '../../base/x509/certificate.ts';
import { readPemCertificates } from '../../base/x509/pem.ts';
import type { Authenticate, Caller } from './types.ts';

/** A bearer token longer than this is refused unread. */
export const MAX_TOKEN_BYTES = 16 * 1024;
const TOKEN_REVIEW_PATH = '/apis/authentication.k8s.io/v1/tokenreviews';
const SERVICE_ACCOUNTS_GROUP = 'system:serviceaccounts';
export const DEFAULT_AUDIENCES = ['istio-ca'] as const;

export interface AuthenticatorOptions {
  /** Absent: no TokenReview. */
  readonly client?: KubeClient;
  /** Of tokens; `istio-ca` when absent. */
  readonly audiences?: readonly string[];
  readonly trustDomain: string;
  readonly clock: Clock;
  /** Certificates that may have issued a client's: `authority.issuersPem`. Absent: client certificates are not taken. */
  readonly issuersPem?: () => string;
  readonly oidc?: OidcOptions;
  /** The name callers may claim in the `clusterid` header; `Kubernetes` when absent. */
  readonly clusterId?: string;
}

export interface OidcOptions {
  readonly issuer: string;
  readonly audiences: readonly string[];
  /** Absent: `<issuer>`'s keys must come from `jwks`. */
  readonly jwksUri?: string;
  /** JSON Web Key Set as text. */
  readonly jwks?: string;
}

interface Attempt {
  readonly metadata: Metadata;
  readonly certificate: Buffer | undefined;
  readonly token: string | undefined;
}
/** Resolves with the caller, or with why not. */
type Authenticator = (attempt: Attempt) => Promise<Caller | string>;

export function createAuthenticators(options: AuthenticatorOptions): Authenticate {
  const all: readonly (readonly [string, Authenticator])[] = [
    ...(options.issuersPem ? [['client certificate', byCertificate(options, options.issuersPem)] as const] : []),
    ...(options.oidc ? [['OIDC', byOidc(options, options.oidc)] as const] : []),
    ...(options.client ? [['TokenReview', byTokenReview(options, options.client)] as const] : []),
  ];
  return async (metadata, peer) => {
    const attempt = { metadata, certificate: peer.certificate?.raw, token: bearerToken(metadata) };
    const why: string[] = [];
    for (const [name, authenticator] of all) {
      const result = await authenticator(attempt).catch(errorText);
      if (typeof result !== 'string') return { kind: 'caller', caller: result };
      why.push(`${name}: ${result}`);
    }
    return { kind: 'refused', why };
  };
}

function byCertificate(options: AuthenticatorOptions, issuersPem: () => string): Authenticator {
  return async ({ certificate }) => {
    if (!certificate || certificate.length === 0) return 'none was presented';
    const leaf = readCertificate(certificate);
    const now = options.clock.now();
    if (now < leaf.notBefore || now > leaf.notAfter) return 'it is expired or not yet valid';
    if (leaf.isCa || leaf.keyUsage.has('keyCertSign')) return 'it is a CA certificate';
    // TLS proved the key; that it is ours is proved here, because the port takes connections without one.
    const issuers = readPemCertificates(issuersPem(), 'the CA').map((der) => readCertificate(der));
    if (!issuers.some((issuer) => now <= issuer.notAfter && isIssuedBy(leaf, issuer)))
      return 'it was not issued by this mesh';
    const uris = leaf.altNames.filter((name) => name.kind === 'uri');
    if (uris.length !== 1) return `it has ${uris.length} URI names instead of one`;
    const id = parseWorkloadId(uris[0]?.value ?? '');
    const shape = parseIstioId(uris[0]?.value ?? '');
    if (id.kind === 'invalid' || shape.kind === 'invalid') return 'its URI name is not an Istio identity';
    if (shape.value.trustDomain !== options.trustDomain.replaceAll('@', '.')) return 'it is of another trust domain';
    return { identities: [id.value], source: 'client-certificate' };
  };
}

interface TokenReview {
  readonly status?: {
    readonly authenticated?: boolean;
    readonly error?: string;
    readonly audiences?: readonly string[];
    readonly user?: {
      readonly username?: string;
      readonly groups?: readonly string[];
      readonly extra?: Readonly<Record<string, readonly string[]>>;
    };
  };
}

function byTokenReview(options: AuthenticatorOptions, client: KubeClient): Authenticator {
  const audiences = options.audiences ?? DEFAULT_AUDIENCES;
  return async ({ token, metadata }) => {
    if (!token) return 'no bearer token in the authorization header';
    const cluster = metadataText(metadata, 'clusterid');
    const known = options.clusterId ?? 'Kubernetes';
    if (cluster !== undefined && cluster !== '' && cluster !== known && cluster !== 'Kubernetes')
      return `client claims to be in cluster ${JSON.stringify(cluster.slice(0, 100))}, but only ${known} is known here`;
    const { status } = await client.post<TokenReview>(TOKEN_REVIEW_PATH, {
      apiVersion: 'authentication.k8s.io/v1',
      kind: 'TokenReview',
      spec: { token, audiences },
    });
    if (status?.error) return `the token was refused: ${status.error}`;
    if (!status?.authenticated) return 'the token is not authenticated';
    // A server that ignores audiences leaves the list out: such a token may have been meant for anybody.
    if (audiences.length > 0 && !status.audiences?.some((audience) => audiences.includes(audience)))
      return `the token is not for audience ${audiences.join(' or ')}`;
    const { user } = status;
    if (!user?.groups?.includes(SERVICE_ACCOUNTS_GROUP)) return 'the token is not that of a service account';
    return serviceAccountCaller(options.trustDomain, user.username ?? '', 'token-review', {
      podName: user.extra?.['authentication.kubernetes.io/pod-name']?.[0],
      podUid: user.extra?.['authentication.kubernetes.io/pod-uid']?.[0],
    });
  };
}

function byOidc(options: AuthenticatorOptions, oidc: OidcOptions): Authenticator {
  // jose is loaded when the first token arrives: most meshes have no OIDC provider configured.
  const verifier = lazy(async () => {
    const jose = await import('jose');
    if (oidc.jwks !== undefined) return { jose, keys: jose.createLocalJWKSet(JSON.parse(oidc.jwks)) };
    if (oidc.jwksUri === undefined) throw new Error('neither jwks nor jwksUri is configured');
    return { jose, keys: jose.createRemoteJWKSet(new URL(oidc.jwksUri)) };
  });
  return async ({ token }) => {
    if (!token) return 'no bearer token in the authorization header';
    const { jose, keys } = await verifier();
    const { payload } = await jose.jwtVerify(token, keys, {
      issuer: oidc.issuer,
      audience: [...oidc.audiences],
      requiredClaims: ['sub', 'exp', 'aud'],
      currentDate: new Date(options.clock.now()),
    });
    const pod = podClaim(payload['kubernetes.io']);
    return serviceAccountCaller(options.trustDomain, payload.sub ?? '', 'oidc', pod);
  };
}

function podClaim(claim: unknown): { readonly podName?: string; readonly podUid?: string } {
  if (typeof claim !== 'object' || claim === null || !('pod' in claim)) return {};
  const { pod } = claim;
  if (typeof pod !== 'object' || pod === null) return {};
  const text = (value: unknown) => (typeof value === 'string' ? value : undefined);
  return { podName: 'name' in pod ? text(pod.name) : undefined, podUid: 'uid' in pod ? text(pod.uid) : undefined };
}

/** `system:serviceaccount:<namespace>:<name>`, exactly four parts. */
function serviceAccountCaller(
  trustDomain: string,
  user: string,
  source: Caller['source'],
  pod: { readonly podName?: string; readonly podUid?: string },
): Caller | string {
  const [system, kind, namespace, name, ...rest] = user.split(':');
  if (
    system !== 'system' ||
    kind !== 'serviceaccount' ||
    namespace === undefined ||
    name === undefined ||
    rest.length > 0
  )
    return 'its user is not of the form system:serviceaccount:<namespace>:<name>';
  const id = istioSpiffeId(trustDomain, namespace, name);
  if (id.kind === 'invalid') return id.diagnostics[0]?.message ?? 'its user makes no identity';
  return { identities: [id.value], source, podName: pod.podName, podUid: pod.podUid };
}

function bearerToken(metadata: Metadata): string | undefined {
  const header = metadataText(metadata, 'authorization');
  if (header === undefined || header.length > MAX_TOKEN_BYTES) return undefined;
  return /^Bearer ([A-Za-z0-9._~+/=-]+)$/i.exec(header)?.[1];
}

function metadataText(metadata: Metadata, key: string): string | undefined {
  const [value] = metadata.get(key);
  return value === undefined ? undefined : value.toString();
}

function lazy<T>(make: () => Promise<T>): () => Promise<T> {
  let made: Promise<T> | undefined;
  return () => {
    made ??= make();
    return made;
  };
}
