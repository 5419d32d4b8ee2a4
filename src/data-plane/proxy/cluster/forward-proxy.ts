// Hosts of a dynamic forward proxy cluster: whatever host requests name, by a DNS cache. Owned by a cluster; the filter
// dynamic_forward_proxy has the name resolved before the router asks for the host.
import {
  type ClusterConfig,
  ClusterConfigSchema,
} from '#proto/envoy/extensions/clusters/dynamic_forward_proxy/v3/cluster_pb.js';
import type { SocketAddr } from '../config/address.ts';
import { ConfigError, join, only } from '../config/fields.ts';
import { H } from '../http/names.ts';
import type { Gauge } from '../stats/stats.ts';
import { type CachedName, type DnsCache, type DnsCacheSettings, readDnsCache } from './dns-cache.ts';
import { bareHost, Host, type HostSpec } from './host.ts';
import type { LbContext } from './lb-context.ts';

export interface ForwardSettings {
  readonly cache: DnsCacheSettings;
  readonly path: string;
  /** TLS without checking that the certificate is for the host. */
  readonly insecure: boolean;
}

export function readForward(message: ClusterConfig, path: string): ForwardSettings {
  only(ClusterConfigSchema, message, path, ['dns_cache_config', 'allow_insecure_cluster_options']);
  const at = join(path, 'dns_cache_config');
  const implementation = message.clusterImplementationSpecifier;
  if (implementation.case !== 'dnsCacheConfig') throw new ConfigError(at, 'value is required');
  return { cache: readDnsCache(implementation.value, at), path: at, insecure: message.allowInsecureClusterOptions };
}

/** Name and port of an authority; undefined when there is no sense in it. */
export function authorityTarget(
  authority: string,
  defaultPort: number,
): { readonly key: string; readonly name: string; readonly port: number } | undefined {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]]+))(?::(\d{1,5}))?$/.exec(authority);
  const name = match?.[1] ?? match?.[2];
  const port = match?.[3] === undefined ? defaultPort : Number(match[3]);
  if (name === undefined || port === 0 || port > 65_535) return undefined;
  return { key: `${name.toLowerCase()}:${port}`, name: name.toLowerCase(), port };
}

export class ForwardProxy {
  readonly cache: DnsCache;
  readonly defaultPort: number;
  readonly #hosts = new Map<string, Host>();
  readonly #total: Gauge;
  readonly #stop: () => void;

  constructor(cache: DnsCache, defaultPort: number, total: Gauge, forgotten: (host: Host) => void) {
    this.cache = cache;
    this.defaultPort = defaultPort;
    this.#total = total;
    this.#stop = cache.watch((entry, gone) => {
      const host = this.#hosts.get(entry.key);
      if (!host) return;
      if (!gone) {
        host.spec = specOf(entry);
        return;
      }
      this.#hosts.delete(entry.key);
      this.#total.value = this.#hosts.size;
      forgotten(host);
    });
  }

  get hosts(): readonly Host[] {
    return [...this.#hosts.values()];
  }

  pick(context: LbContext): Host | undefined {
    const target = authorityTarget(context.requestHeaders?.get(H.host) ?? '', this.defaultPort);
    const entry = target && this.cache.find(target.key);
    if (!entry || entry.addresses.length === 0) return undefined;
    let host = this.#hosts.get(entry.key);
    if (!host) {
      host = new Host(specOf(entry));
      this.#hosts.set(entry.key, host);
      this.#total.value = this.#hosts.size;
    }
    return host;
  }

  stop(): void {
    this.#stop();
  }
}

function specOf(entry: CachedName): HostSpec {
  const [first, ...others] = entry.addresses.map((ip): SocketAddr => ({ kind: 'ip', ip, port: entry.port }));
  return { ...bareHost(first!, entry.name), additional: others };
}
