// Whether a caller may be the proxy it says it is (identity.md §11.4).
import { pathOf, type SpiffeId } from '../../base/spiffe/spiffe-id.ts';
import type { ProxyNode } from '../model/proxy.ts';

/** Undefined when allowed; else why not. */
export function refuseIdentity(identities: readonly SpiffeId[], proxy: ProxyNode): string | undefined {
  for (const id of identities) {
    const found = /^\/ns\/([^/]+)\/sa\/([^/]+)$/.exec(pathOf(id));
    if (!found || found[1] !== proxy.namespace) continue;
    if (proxy.serviceAccount !== undefined && found[2] !== proxy.serviceAccount) continue;
    return undefined;
  }
  const wanted = `${proxy.namespace}/${proxy.serviceAccount ?? '*'}`;
  return `authorization failed: no identities (${identities.join(', ')}) matched ${wanted}`;
}

/** The namespace of the first identity that has one. */
export function namespaceOf(identities: readonly SpiffeId[]): string | undefined {
  for (const id of identities) {
    const found = /^\/ns\/([^/]+)\/sa\//.exec(pathOf(id));
    if (found?.[1]) return found[1];
  }
  return undefined;
}
