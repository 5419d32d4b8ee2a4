// Service account tokens: RS256 JWTs bound to pods, made by TokenRequest, checked here and by anyone with the published keys.
import { createHash, createPublicKey, type KeyObject, randomUUID, sign, verify } from 'node:crypto';
import type { Clock } from '../../../base/runtime/clock.ts';
import type { Store } from '../../store/store.ts';
import type { UserInfo } from '../core.ts';
import { at, type Dict, dict, isDict, num, str, strings } from '../json.ts';
import { ApiError, badRequest, invalid, notFound } from '../status.ts';

export const ISSUER = 'https://kubernetes.default.svc.cluster.local';
const MIN_SECONDS = 600;
const MAX_SECONDS = 2 ** 32;
const DEFAULT_SECONDS = 3600;
const MAX_TOKEN_BYTES = 16 * 1024;
const MAX_AUDIENCES = 64;
/** A pod that is being deleted keeps its identity this long past its deletion time. */
const DELETION_LEEWAY_MS = 60_000;

export type TokenCheck =
  | { readonly kind: 'ok'; readonly user: UserInfo; readonly audiences: readonly string[] }
  | { readonly kind: 'refused'; readonly why: string };

export interface TokenIssuer {
  /** Answers a TokenRequest for an existing service account. Throws ApiError. */
  request(namespace: string, name: string, body: Dict): Dict;
  /** `audiences` empty: the API server's own. */
  check(token: string, audiences: readonly string[]): TokenCheck;
  /** A token without an end, for Secrets of type kubernetes.io/service-account-token. */
  legacy(namespace: string, name: string, uid: string, secret: string): string;
  discovery(): Dict;
  keys(): Dict;
}

export function createTokenIssuer(store: Store, clock: Clock, key: KeyObject): TokenIssuer {
  const publicKey = createPublicKey(key);
  const kid = createHash('sha256')
    .update(publicKey.export({ type: 'spki', format: 'der' }))
    .digest('base64url');
  const signed = (claims: Dict): string => {
    const input = `${encode({ alg: 'RS256', kid })}.${encode(claims)}`;
    return `${input}.${sign('sha256', Buffer.from(input), key).toString('base64url')}`;
  };
  return {
    request: (namespace, name, body) => answerRequest(store, clock, signed, namespace, name, body),
    check: (token, audiences) => checkToken(store, clock, publicKey, kid, token, audiences),
    legacy: (namespace, name, uid, secret) =>
      signed({
        iss: ISSUER,
        sub: `system:serviceaccount:${namespace}:${name}`,
        aud: [ISSUER],
        iat: Math.floor(clock.now() / 1000),
        'kubernetes.io': { namespace, serviceaccount: { name, uid }, secret: { name: secret } },
      }),
    discovery: () => ({
      issuer: ISSUER,
      jwks_uri: `${ISSUER}/openid/v1/jwks`,
      response_types_supported: ['id_token'],
      subject_types_supported: ['public'],
      id_token_signing_alg_values_supported: ['RS256'],
    }),
    keys: () => ({ keys: [{ ...publicKey.export({ format: 'jwk' }), use: 'sig', kid, alg: 'RS256' }] }),
  };
}

const encode = (value: Dict): string => Buffer.from(JSON.stringify(value)).toString('base64url');

function answerRequest(
  store: Store,
  clock: Clock,
  signed: (claims: Dict) => string,
  namespace: string,
  name: string,
  body: Dict,
): Dict {
  const account = store.get('/serviceaccounts', namespace, name);
  if (!account) throw notFound({ group: '', resource: 'serviceaccounts', kind: 'ServiceAccount' }, name);
  const spec = dict(body.spec);
  const seconds = num(spec.expirationSeconds, DEFAULT_SECONDS);
  const type = { group: 'authentication.k8s.io', resource: 'tokenrequests', kind: 'TokenRequest' };
  if (!Number.isInteger(seconds) || seconds < MIN_SECONDS || seconds > MAX_SECONDS)
    throw invalid(type, '', [
      {
        path: 'spec.expirationSeconds',
        message: `Invalid value: ${seconds}: may not specify a duration ${seconds > MAX_SECONDS ? 'larger than 2^32 seconds' : 'less than 10 minutes'}`,
      },
    ]);
  const audiences = strings(spec.audiences);
  if (audiences.length > MAX_AUDIENCES) throw badRequest(`at most ${MAX_AUDIENCES} audiences may be asked for`);
  const now = Math.floor(clock.now() / 1000);
  const bound = boundClaims(store, namespace, name, spec.boundObjectRef);
  const token = signed({
    iss: ISSUER,
    sub: `system:serviceaccount:${namespace}:${name}`,
    aud: audiences.length ? audiences : [ISSUER],
    exp: now + seconds,
    iat: now,
    nbf: now,
    jti: randomUUID(),
    'kubernetes.io': { namespace, ...bound, serviceaccount: { name, uid: account.metadata.uid } },
  });
  return {
    kind: 'TokenRequest',
    apiVersion: 'authentication.k8s.io/v1',
    metadata: { name, namespace, creationTimestamp: isoSeconds(now) },
    spec: {
      ...spec,
      audiences: audiences.length ? audiences : [ISSUER],
      expirationSeconds: seconds,
      boundObjectRef: spec.boundObjectRef ?? null,
    },
    status: { token, expirationTimestamp: isoSeconds(now + seconds) },
  };
}

const isoSeconds = (seconds: number): string => `${new Date(seconds * 1000).toISOString().slice(0, 19)}Z`;

function boundClaims(store: Store, namespace: string, account: string, ref: unknown): Dict {
  if (!isDict(ref)) return {};
  const kind = str(ref.kind);
  const name = str(ref.name);
  if ((kind !== 'Pod' && kind !== 'Secret') || (str(ref.apiVersion) || 'v1') !== 'v1')
    throw badRequest(
      `cannot bind token for serviceaccount "${account}" to type ${kind}: only v1 Pod and Secret are supported`,
    );
  const resource = kind === 'Pod' ? 'pods' : 'secrets';
  const object = store.get(`/${resource}`, namespace, name);
  if (!object) throw notFound({ group: '', resource, kind }, name);
  const uid = str(object.metadata.uid);
  if (ref.uid && ref.uid !== uid)
    throw new ApiError(
      409,
      'Conflict',
      `Operation cannot be fulfilled on ${resource} "${name}": the UID in the bound object reference (${str(ref.uid)}) does not match the UID in record. The object might have been deleted and then recreated`,
    );
  if (kind === 'Secret') return { secret: { name, uid } };
  const owner = str(at(object, 'spec', 'serviceAccountName'));
  if (owner !== account)
    throw badRequest(
      `cannot bind token for serviceaccount "${account}" to pod running with different serviceaccount name.`,
    );
  const nodeName = str(at(object, 'spec', 'nodeName'));
  const node = nodeName ? store.get('/nodes', '', nodeName) : undefined;
  return {
    pod: { name, uid },
    ...(nodeName ? { node: { name: nodeName, ...(node?.metadata.uid ? { uid: node.metadata.uid } : {}) } } : {}),
  };
}

function checkToken(
  store: Store,
  clock: Clock,
  key: KeyObject,
  kid: string,
  token: string,
  wanted: readonly string[],
): TokenCheck {
  const refused = (why: string): TokenCheck => ({ kind: 'refused', why });
  if (token.length > MAX_TOKEN_BYTES) return refused('the token is too long');
  const parts = token.split('.');
  const [head = '', payload = '', signature = ''] = parts;
  if (parts.length !== 3) return refused('invalid bearer token');
  const header = decodePart(head);
  const claims = decodePart(payload);
  if (!header || !claims) return refused('invalid bearer token');
  if (header.alg !== 'RS256' || (header.kid !== undefined && header.kid !== kid))
    return refused('invalid bearer token, unknown key');
  if (claims.iss !== ISSUER) return refused('invalid bearer token, unknown issuer');
  if (!verify('sha256', Buffer.from(`${head}.${payload}`), key, Buffer.from(signature, 'base64url')))
    return refused('invalid bearer token, wrong signature');
  const now = clock.now() / 1000;
  if (claims.exp !== undefined && num(claims.exp) <= now) return refused('service account token has expired');
  if (num(claims.nbf) > now + 1) return refused('service account token is not valid yet');
  const audiences = typeof claims.aud === 'string' ? [claims.aud] : strings(claims.aud);
  const accepted = (wanted.length ? wanted : [ISSUER]).filter((audience) => audiences.includes(audience));
  if (accepted.length === 0)
    return refused(
      `invalid bearer token, token audiences ${JSON.stringify(audiences)} is invalid for the target audiences ${JSON.stringify(wanted.length ? wanted : [ISSUER])}`,
    );
  const gone = missingBinding(store, clock, dict(claims['kubernetes.io']));
  return gone ? refused(gone) : { kind: 'ok', user: userOf(claims), audiences: accepted };
}

function decodePart(part: string): Dict | undefined {
  try {
    const value: unknown = JSON.parse(Buffer.from(part, 'base64url').toString('utf8'));
    return isDict(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

/** Why the token's account or pod is not the one it was made for; undefined when it is. */
function missingBinding(store: Store, clock: Clock, bound: Dict): string | undefined {
  const namespace = str(bound.namespace);
  const checks: readonly (readonly [string, string])[] = [
    ['serviceaccount', '/serviceaccounts'],
    ['pod', '/pods'],
    ['secret', '/secrets'],
  ];
  for (const [claim, collection] of checks) {
    const ref = bound[claim];
    if (!isDict(ref)) {
      if (claim === 'serviceaccount') return 'service account claim is missing';
      continue;
    }
    const object = store.get(collection, namespace, str(ref.name));
    if (!object) return `${claim} ${namespace}/${str(ref.name)} is gone: the token has been invalidated`;
    if (ref.uid !== undefined && object.metadata.uid !== ref.uid)
      return `${claim} UID (${str(object.metadata.uid)}) does not match claim (${str(ref.uid)})`;
    const deletion = str(at(object, 'metadata', 'deletionTimestamp'));
    if (deletion && Date.parse(deletion) + DELETION_LEEWAY_MS < clock.now())
      return `${claim} has been deleted: the token has been invalidated`;
  }
  return undefined;
}

function userOf(claims: Dict): UserInfo {
  const bound = dict(claims['kubernetes.io']);
  const namespace = str(bound.namespace);
  const account = dict(bound.serviceaccount);
  const extra: Record<string, readonly string[]> = {};
  if (claims.jti) extra['authentication.kubernetes.io/credential-id'] = [`JTI=${str(claims.jti)}`];
  const pod = dict(bound.pod);
  const node = dict(bound.node);
  if (pod.name) extra['authentication.kubernetes.io/pod-name'] = [str(pod.name)];
  if (pod.uid) extra['authentication.kubernetes.io/pod-uid'] = [str(pod.uid)];
  if (node.name) extra['authentication.kubernetes.io/node-name'] = [str(node.name)];
  if (node.uid) extra['authentication.kubernetes.io/node-uid'] = [str(node.uid)];
  return {
    username: `system:serviceaccount:${namespace}:${str(account.name)}`,
    uid: str(account.uid),
    groups: ['system:serviceaccounts', `system:serviceaccounts:${namespace}`, 'system:authenticated'],
    extra,
  };
}
