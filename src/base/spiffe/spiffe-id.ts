// SPIFFE IDs and trust domains as validated values (identity.md §1): the only makers of the two branded types.
// Called by the CA, the authenticators, the agent, the translation of policies and the proxy's peer check.
import type { Diagnostic, Parsed } from '../runtime/diagnostics.ts';

declare const spiffeIdBrand: unique symbol;
declare const trustDomainBrand: unique symbol;

/** `spiffe://` + trust domain + path. Trust domain in lower case; at most {@link MAX_SPIFFE_ID_BYTES} bytes. */
export type SpiffeId = string & { readonly [spiffeIdBrand]: true };
/** A trust domain name without scheme: `cluster.local`. */
export type TrustDomain = string & { readonly [trustDomainBrand]: true };

/** Kubernetes namespace and service account as Istio writes them into a SPIFFE ID. */
export interface IstioIdentity {
  readonly trustDomain: TrustDomain;
  readonly namespace: string;
  readonly serviceAccount: string;
}

export const MAX_SPIFFE_ID_BYTES = 2048;
export const MAX_TRUST_DOMAIN_BYTES = 255;
const SCHEME = 'spiffe://';
const TRUST_DOMAIN = /^[a-z0-9._-]+$/;
const SEGMENT = /^[A-Za-z0-9._-]+$/;

/** Any SPIFFE ID, also that of a trust domain itself (no path). Upper case in the trust domain is lowered. */
export function parseSpiffeId(text: string): Parsed<SpiffeId> {
  if (text.length > MAX_SPIFFE_ID_BYTES) return bad('too-long', `is longer than ${MAX_SPIFFE_ID_BYTES} bytes`);
  if (!text.startsWith(SCHEME)) return bad('scheme', `${quote(text)} does not start with ${SCHEME}`);
  const rest = text.slice(SCHEME.length);
  const slash = rest.indexOf('/');
  const domain = parseTrustDomain((slash < 0 ? rest : rest.slice(0, slash)).toLowerCase());
  if (domain.kind === 'invalid') return domain;
  if (slash < 0) return { kind: 'ok', value: `${SCHEME}${domain.value}` as SpiffeId };
  for (const segment of rest.slice(slash + 1).split('/')) {
    if (segment === '') return bad('empty-segment', `${quote(text)} has an empty path segment or a trailing slash`);
    if (segment === '.' || segment === '..') return bad('dot-segment', `${quote(text)} has a ${segment} segment`);
    if (!SEGMENT.test(segment))
      return bad('path-character', `${quote(text)} has a path character outside a-z A-Z 0-9 . - _`);
  }
  return { kind: 'ok', value: `${SCHEME}${domain.value}${rest.slice(slash)}` as SpiffeId };
}

/** A SPIFFE ID a workload may carry: it has a path. */
export function parseWorkloadId(text: string): Parsed<SpiffeId> {
  const id = parseSpiffeId(text);
  if (id.kind === 'ok' && pathOf(id.value) === '')
    return bad('no-path', `${quote(text)} names a trust domain, not a workload: the path is missing`);
  return id;
}

/** A trust domain name, lower case already (a port, user info, percent or upper case is refused). */
export function parseTrustDomain(text: string): Parsed<TrustDomain> {
  if (text === '') return bad('empty-trust-domain', 'the trust domain is empty');
  if (text.length > MAX_TRUST_DOMAIN_BYTES)
    return bad('too-long', `the trust domain is longer than ${MAX_TRUST_DOMAIN_BYTES} bytes`);
  if (!TRUST_DOMAIN.test(text))
    return bad('trust-domain-character', `trust domain ${quote(text)} has a character outside a-z 0-9 . - _`);
  return { kind: 'ok', value: text as TrustDomain };
}

export function trustDomainOf(id: SpiffeId): TrustDomain {
  const end = id.indexOf('/', SCHEME.length);
  return (end < 0 ? id.slice(SCHEME.length) : id.slice(SCHEME.length, end)) as TrustDomain;
}

/** With its leading slash; empty for a trust domain's own ID. */
export function pathOf(id: SpiffeId): string {
  const start = id.indexOf('/', SCHEME.length);
  return start < 0 ? '' : id.slice(start);
}

/** `spiffe://<trustDomain>/ns/<namespace>/sa/<serviceAccount>`; `@` in the trust domain becomes `.` as in Istio. */
export function istioSpiffeId(trustDomain: string, namespace: string, serviceAccount: string): Parsed<SpiffeId> {
  if (namespace === '' || serviceAccount === '')
    return bad('empty-identity', 'a workload identity needs a namespace and a service account');
  if (namespace.includes('/') || serviceAccount.includes('/'))
    return bad('path-character', 'a namespace or service account name has a slash');
  return parseWorkloadId(`${SCHEME}${trustDomain.replaceAll('@', '.')}/ns/${namespace}/sa/${serviceAccount}`);
}

/** The three parts of an ID of Istio's shape; invalid for every other ID. */
export function parseIstioId(text: string): Parsed<IstioIdentity> {
  const id = parseSpiffeId(text);
  if (id.kind === 'invalid') return id;
  const parts = id.value.slice(SCHEME.length).split('/');
  if (parts.length !== 5 || parts[1] !== 'ns' || parts[3] !== 'sa')
    return bad('not-istio-shape', `${quote(text)} is not of the form spiffe://<domain>/ns/<namespace>/sa/<account>`);
  return {
    kind: 'ok',
    value: { trustDomain: parts[0] as TrustDomain, namespace: parts[2] ?? '', serviceAccount: parts[4] ?? '' },
  };
}

/**
 * Every ID with the trust domain and each alias in turn (identity.md §1.1): originals first, no duplicates.
 * An ID that is not of Istio's shape, or of a domain that is neither the mesh's nor an alias, stays alone.
 */
export function expandTrustDomains(
  ids: readonly SpiffeId[],
  trustDomain: TrustDomain,
  aliases: readonly TrustDomain[],
): readonly SpiffeId[] {
  const domains = [trustDomain, ...aliases];
  const out = new Set<SpiffeId>(ids);
  for (const id of ids) {
    const parsed = parseIstioId(id);
    if (parsed.kind === 'invalid' || !domains.includes(parsed.value.trustDomain)) continue;
    for (const domain of domains) out.add(`${SCHEME}${domain}${pathOf(id)}` as SpiffeId);
  }
  return [...out];
}

function bad(code: string, message: string): { readonly kind: 'invalid'; readonly diagnostics: readonly Diagnostic[] } {
  return { kind: 'invalid', diagnostics: [{ path: 'spiffeId', code, message }] };
}

/** Enough of hostile text to recognise it, without control characters. */
function quote(text: string): string {
  return JSON.stringify(text.length > 100 ? `${text.slice(0, 100)}…` : text);
}
