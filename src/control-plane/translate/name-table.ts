// NDS: the names the agent's DNS proxy answers itself (xds.md §12).
import { NameTableSchema } from '#proto/istio/nds_pb.js';
import { type EncodedResource, encodeResource } from '../../base/envoy-api/any.ts';
import { isVisible } from '../model/hosts.ts';
import type { ProxyNode } from '../model/proxy.ts';
import { memoize, type Snapshot } from '../model/snapshot.ts';

interface NameInfo {
  readonly ips: string[];
  readonly registry: string;
  readonly shortname: string;
  readonly namespace: string;
}

export function buildNameTable(snapshot: Snapshot, proxy: ProxyNode): EncodedResource {
  return memoize(snapshot, `nds|${proxy.namespace}`, () => {
    const table: Record<string, NameInfo> = {};
    for (const service of snapshot.services) {
      if (!isVisible(service.exportTo, service.namespace, proxy.namespace)) continue;
      if (service.origin === 'entry') {
        // Without an address of its own a name is the outside world's to resolve.
        if (service.addresses.length > 0 && !service.host.startsWith('*'))
          table[service.host] = { registry: 'External', shortname: '', namespace: '', ips: [...service.addresses] };
        continue;
      }
      const info = { registry: 'Kubernetes', shortname: service.name, namespace: service.namespace };
      if (!service.headless) {
        table[service.host] = { ...info, ips: [...service.addresses] };
        continue;
      }
      const ips = new Set<string>();
      for (const endpoint of [...service.endpoints.values()].flat()) {
        if (!endpoint.ready) continue;
        ips.add(endpoint.address);
        if (endpoint.hostname)
          table[`${endpoint.hostname}.${service.host}`] = {
            ...info,
            shortname: `${endpoint.hostname}.${service.name}`,
            ips: [endpoint.address],
          };
      }
      if (ips.size > 0) table[service.host] = { ...info, ips: [...ips] };
    }
    return encodeResource(NameTableSchema, '', { table });
  });
}
