// Reads how a DNS cluster resolves its names. Called by config.ts.
import {
  Cluster_RefreshRateSchema,
  type Cluster as ClusterMessage,
  Cluster_DnsLookupFamily as Family,
} from '#proto/envoy/config/cluster/v3/cluster_pb.js';
import type { Address } from '#proto/envoy/config/core/v3/address_pb.js';
import {
  DnsResolutionConfigSchema,
  type DnsResolverOptions,
  DnsResolverOptionsSchema,
} from '#proto/envoy/config/core/v3/resolver_pb.js';
import { CaresDnsResolverConfigSchema } from '#proto/envoy/extensions/network/dns_resolver/cares/v3/cares_dns_resolver_pb.js';
import { GetAddrInfoDnsResolverConfigSchema } from '#proto/envoy/extensions/network/dns_resolver/getaddrinfo/v3/getaddrinfo_dns_resolver_pb.js';
import { addressOf, ipPort } from '../config/address.ts';
import { openAny } from '../config/any.ts';
import { ConfigError, join, millis, only, required } from '../config/fields.ts';
import { DEFAULT_DNS_REFRESH_MS } from '../limits.ts';

/** Who is asked. */
export interface ResolverSettings {
  /** `ip:port` of DNS servers; empty = the system's way (hosts file, resolv.conf). */
  readonly servers: readonly string[];
  /** `servers` are only asked when the system does not know. */
  readonly serversAsFallback: boolean;
  /** Search domains of the system are tried. */
  readonly search: boolean;
  /** Times to live are wanted beside addresses. */
  readonly ttl: boolean;
}

export interface DnsSettings {
  readonly refreshMs: number;
  /** After failures: from `baseMs`, doubling up to `maxMs`, with jitter; undefined = `refreshMs`. */
  readonly failure: { readonly baseMs: number; readonly maxMs: number } | undefined;
  readonly family: 'auto' | 'v4' | 'v6' | 'v4-preferred' | 'all';
  readonly resolver: ResolverSettings;
  /** The cluster is not used before the first answer. */
  readonly warm: boolean;
}

const FAMILIES: Readonly<Record<Family, DnsSettings['family']>> = {
  [Family.AUTO]: 'auto',
  [Family.V4_ONLY]: 'v4',
  [Family.V6_ONLY]: 'v6',
  [Family.V4_PREFERRED]: 'v4-preferred',
  [Family.ALL]: 'all',
};

/** Fields that clusters and DNS caches have alike. */
type DnsFields = Pick<
  ClusterMessage,
  'dnsRefreshRate' | 'dnsFailureRefreshRate' | 'dnsLookupFamily' | 'dnsResolutionConfig' | 'typedDnsResolverConfig'
> & {
  readonly respectDnsTtl?: boolean;
  readonly waitForWarmOnInit?: boolean;
  readonly dnsResolvers?: ClusterMessage['dnsResolvers'];
};

export function readDns(message: ClusterMessage, path: string): DnsSettings {
  return readDnsFields(message, path);
}

export function readDnsFields(message: DnsFields, path: string): DnsSettings {
  const refreshMs = millis(message.dnsRefreshRate, DEFAULT_DNS_REFRESH_MS);
  if (refreshMs < 1) throw new ConfigError(join(path, 'dns_refresh_rate'), 'value must be greater than 1ms');
  return {
    refreshMs,
    failure: failureOf(message, path),
    family: FAMILIES[message.dnsLookupFamily],
    resolver: { ...resolverOf(message, path), ttl: message.respectDnsTtl ?? false },
    warm: message.waitForWarmOnInit ?? true,
  };
}

function failureOf(message: DnsFields, path: string): DnsSettings['failure'] {
  const rate = message.dnsFailureRefreshRate;
  if (!rate) return undefined;
  const at = join(path, 'dns_failure_refresh_rate');
  only(Cluster_RefreshRateSchema, rate, at, ['base_interval', 'max_interval']);
  const baseMs = millis(required(rate.baseInterval, join(at, 'base_interval')), 0);
  if (baseMs < 1) throw new ConfigError(join(at, 'base_interval'), 'value must be greater than 1ms');
  const maxMs = millis(rate.maxInterval, baseMs * 10);
  if (maxMs < baseMs)
    throw new ConfigError(at, 'dns_failure_refresh_rate must have max_interval greater than or equal to base_interval');
  return { baseMs, maxMs };
}

type Resolver = Omit<ResolverSettings, 'ttl'>;
const SYSTEM: Resolver = { servers: [], serversAsFallback: false, search: true };

function resolverOf(message: DnsFields, path: string): Resolver {
  const typed = message.typedDnsResolverConfig;
  if (typed?.typedConfig) {
    const at = join(path, 'typed_dns_resolver_config');
    const any = openAny(typed.typedConfig, at);
    if (any.typeName === GetAddrInfoDnsResolverConfigSchema.typeName) {
      only(GetAddrInfoDnsResolverConfigSchema, any.open(GetAddrInfoDnsResolverConfigSchema), at, []);
      return SYSTEM;
    }
    if (any.typeName !== CaresDnsResolverConfigSchema.typeName)
      throw new ConfigError(
        at,
        `Didn't find a registered implementation for '${typed.name}' with type URL: '${any.typeName}'`,
      );
    const cares = any.open(CaresDnsResolverConfigSchema);
    only(CaresDnsResolverConfigSchema, cares, at, ['resolvers', 'use_resolvers_as_fallback', 'dns_resolver_options']);
    return {
      servers: serversOf(cares.resolvers, join(at, 'resolvers')),
      serversAsFallback: cares.useResolversAsFallback,
      search: searchOf(cares.dnsResolverOptions, join(at, 'dns_resolver_options')),
    };
  }
  const older = message.dnsResolutionConfig;
  if (older) {
    const at = join(path, 'dns_resolution_config');
    only(DnsResolutionConfigSchema, older, at, ['resolvers', 'dns_resolver_options']);
    return {
      servers: serversOf(older.resolvers, join(at, 'resolvers')),
      serversAsFallback: false,
      search: searchOf(older.dnsResolverOptions, join(at, 'dns_resolver_options')),
    };
  }
  return { ...SYSTEM, servers: serversOf(message.dnsResolvers ?? [], join(path, 'dns_resolvers')) };
}

function searchOf(options: DnsResolverOptions | undefined, path: string): boolean {
  if (options) only(DnsResolverOptionsSchema, options, path, ['no_default_search_domain']);
  return !options?.noDefaultSearchDomain;
}

function serversOf(addresses: readonly Address[], path: string): string[] {
  return addresses.map((entry, i) => {
    // DNS servers are usually told as UDP addresses; the protocol says nothing else about them.
    const kind = entry.address;
    const plain =
      kind.case === 'socketAddress' ? { ...entry, address: { ...kind, value: { ...kind.value, protocol: 0 } } } : entry;
    const address = addressOf(plain, `${path}[${i}]`);
    if (address.kind !== 'ip') throw new ConfigError(`${path}[${i}]`, 'must be a socket_address');
    return ipPort(address.ip, address.port || 53);
  });
}
