// SDS of gateways: Secrets named by credentialName, from the namespace of the gateway's own pod only (traffic.md §6).
// serve/stream.ts hands them only to callers who have proved who they are; here they must also be a pod that a Gateway selects,
// under the pod's own account, and the Gateway must name the Secret: any other pod of the namespace could say it is a router.
import { SecretSchema } from '#proto/envoy/extensions/transport_sockets/tls/v3/secret_pb.js';
import { type EncodedResource, encodeResource } from '../../base/envoy-api/any.ts';
import { matches } from '../model/peer-authentication.ts';
import type { ProxyNode } from '../model/proxy.ts';
import type { Snapshot } from '../model/snapshot.ts';

const PREFIX = 'kubernetes://';
/** The CA for clients' certificates may stand in a Secret of its own. */
export const CA_SUFFIX = '-cacert';

export function credentialResource(name: string): string {
  return `${PREFIX}${name}`;
}

/** Undefined: there is no such Secret, or it lacks what is asked for. */
export function buildSecret(snapshot: Snapshot, proxy: ProxyNode, resource: string): EncodedResource | undefined {
  if (proxy.type !== 'router' || !resource.startsWith(PREFIX)) return undefined;
  const name = resource.slice(PREFIX.length);
  if (!mayRead(snapshot, proxy, name)) return undefined;
  const read = (secret: string, ...keys: readonly string[]): Buffer | undefined => {
    const data = snapshot.secrets.get(`${proxy.namespace}/${secret}`)?.data ?? {};
    const key = keys.find((k) => data[k] !== undefined);
    return key === undefined ? undefined : Buffer.from(data[key] ?? '', 'base64');
  };
  const inline = (bytes: Uint8Array) => ({ specifier: { case: 'inlineBytes' as const, value: bytes } });
  if (name.endsWith(CA_SUFFIX)) {
    const base = name.slice(0, -CA_SUFFIX.length);
    const roots = read(name, 'cacert', 'ca.crt') ?? read(base, 'cacert', 'ca.crt');
    return (
      roots &&
      encodeResource(SecretSchema, resource, {
        name: resource,
        type: { case: 'validationContext', value: { trustedCa: inline(roots) } },
      })
    );
  }
  const certificate = read(name, 'tls.crt', 'cert');
  const key = read(name, 'tls.key', 'key');
  if (!certificate || !key) return undefined;
  return encodeResource(SecretSchema, resource, {
    name: resource,
    type: { case: 'tlsCertificate', value: { certificateChain: inline(certificate), privateKey: inline(key) } },
  });
}

function mayRead(snapshot: Snapshot, proxy: ProxyNode, name: string): boolean {
  const pod = snapshot.workloads.get(`${proxy.namespace}/${proxy.podName}`);
  if (!pod || pod.serviceAccount !== proxy.serviceAccount) return false;
  return snapshot.gateways.some(
    ({ spec }) =>
      matches(spec.selector, pod.labels) &&
      spec.servers.some(
        ({ tls }) =>
          tls?.credentialName !== undefined &&
          (name === tls.credentialName || name === `${tls.credentialName}${CA_SUFFIX}`),
      ),
  );
}
