// `$(ip:foo/httpbin)` and the like in resources and requests. Certificates (`$(cert:HOST)`, `$(key:HOST)`, `$(ca)`) are made
// when the test runs; here only their form is checked. Called by read.ts.
import { type Reader, report } from '../../api/istio/reader.ts';
import { nearest } from '../../base/nearest.ts';
import type { Addresses } from './addresses.ts';

const VARIABLE = /\$\(([^()]*)\)/g;

/** A copy of `value` with every address filled in. */
export function substituteAddresses(reader: Reader, value: unknown, path: string, addresses: Addresses): unknown {
  if (typeof value === 'string')
    return value.replace(VARIABLE, (whole, inner: string) => one(reader, whole, inner, path, addresses));
  if (Array.isArray(value)) return value.map((v, i) => substituteAddresses(reader, v, `${path}[${i}]`, addresses));
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([k, v]) => [k, substituteAddresses(reader, v, `${path}.${k}`, addresses)]),
  );
}

function one(reader: Reader, whole: string, inner: string, path: string, addresses: Addresses): string {
  if (inner === 'ca' || /^(cert|key):[^:]+$/.test(inner)) return whole;
  const ip = /^ip:([^/]+\/[^/]+?)(?:#(\d+))?$/.exec(inner);
  if (ip) {
    const found = addresses.pods.get(ip[1] ?? '') ?? [addresses.clusterIps.get(ip[1] ?? '') ?? ''];
    const chosen = found[Number(ip[2] ?? 0)];
    if (chosen) return chosen;
    const names = [...new Set([...addresses.pods.keys(), ...addresses.clusterIps.keys()])];
    const near = nearest(ip[1] ?? '', names);
    report(
      reader,
      path,
      'variable',
      `${whole}: there is no workload or service ${ip[1]}${near ? `; did you mean ${near}?` : `; known are ${names.join(', ') || 'none'}`}`,
    );
    return whole;
  }
  // What a shell or Envoy would read stays as it is, except what looks like ours.
  if (/^(ip|jwks|jwt|cert|key)\b/.test(inner))
    report(
      reader,
      path,
      'variable',
      inner.startsWith('jw')
        ? `${whole} is not supported by this version of Meltemi: tokens come with RequestAuthentication`
        : `${whole}: use $(ip:NAMESPACE/NAME), $(cert:HOST), $(key:HOST) or $(ca)`,
    );
  return whole;
}

/** Every HOST of `$(cert:HOST)` and `$(key:HOST)` in a text is given its PEM. */
export async function substituteCertificates(
  text: string,
  authority: {
    readonly rootPem: string;
    issue(names: readonly string[]): Promise<{ readonly certificatePem: string; readonly keyPem: string }>;
  },
): Promise<string> {
  let out = text;
  for (const [whole, inner] of text.matchAll(VARIABLE)) {
    const [kind, host = ''] = (inner ?? '').split(':');
    if (kind === 'ca') out = out.replaceAll(whole, () => authority.rootPem);
    if (kind !== 'cert' && kind !== 'key') continue;
    const issued = await authority.issue([host]);
    out = out.replaceAll(whole, () => (kind === 'cert' ? issued.certificatePem : issued.keyPem));
  }
  return out;
}
