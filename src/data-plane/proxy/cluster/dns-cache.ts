// Addresses of names that requests bring (dynamic forward proxy): resolved when first asked for, kept fresh while used,
// forgotten after a while. Made by the cluster manager, one for each name of a DNS cache; clusters and the filter share it.
import {
  DnsCacheCircuitBreakersSchema,
  type DnsCacheConfig,
  DnsCacheConfigSchema,
} from '#proto/envoy/extensions/common/dynamic_forward_proxy/v3/dns_cache_pb.js';
import type { Clock } from '../../../base/runtime/clock.ts';
import { parseIp } from '../config/address.ts';
import { ConfigError, join, millis, only } from '../config/fields.ts';
import {
  DEFAULT_DNS_CACHE_REFRESH_MS,
  DEFAULT_DNS_HOST_TTL_MS,
  DEFAULT_DNS_QUERY_TIMEOUT_MS,
  DEFAULT_MAX_DNS_HOSTS,
  DEFAULT_MAX_DNS_PENDING,
  MAX_DNS_ADDRESSES,
} from '../limits.ts';
import { StatsScope, type StatsStore } from '../stats/stats.ts';
import type { SharedNumbers } from '../tally/numbers.ts';
import { LocalPlaces, type Places } from '../tally/places.ts';
import { ask, type Resolve, retryAfter } from './dns.ts';
import { type DnsSettings, readDnsFields } from './dns-config.ts';

export interface DnsCacheSettings {
  readonly name: string;
  readonly dns: DnsSettings;
  readonly minRefreshMs: number;
  readonly hostTtlMs: number;
  readonly maxHosts: number;
  readonly maxPending: number;
  readonly queryTimeoutMs: number;
}

export function readDnsCache(message: DnsCacheConfig | undefined, path: string): DnsCacheSettings {
  if (!message) throw new ConfigError(path, 'value is required');
  only(DnsCacheConfigSchema, message, path, [
    'name',
    'dns_lookup_family',
    'dns_refresh_rate',
    'dns_min_refresh_rate',
    'host_ttl',
    'max_hosts',
    'dns_failure_refresh_rate',
    'dns_cache_circuit_breaker',
    'dns_resolution_config',
    'typed_dns_resolver_config',
    'dns_query_timeout',
  ]);
  if (message.name === '') throw new ConfigError(join(path, 'name'), 'value is required');
  const limits = message.dnsCacheCircuitBreaker;
  if (limits)
    only(DnsCacheCircuitBreakersSchema, limits, join(path, 'dns_cache_circuit_breaker'), ['max_pending_requests']);
  const dns = readDnsFields(message, path);
  return {
    name: message.name,
    // Times to live are always respected here.
    dns: {
      ...dns,
      refreshMs: millis(message.dnsRefreshRate, DEFAULT_DNS_CACHE_REFRESH_MS),
      resolver: { ...dns.resolver, ttl: true },
    },
    minRefreshMs: Math.max(1_000, millis(message.dnsMinRefreshRate, 5_000)),
    hostTtlMs: Math.max(1, millis(message.hostTtl, DEFAULT_DNS_HOST_TTL_MS)),
    maxHosts: message.maxHosts ?? DEFAULT_MAX_DNS_HOSTS,
    maxPending: limits?.maxPendingRequests ?? DEFAULT_MAX_DNS_PENDING,
    queryTimeoutMs: millis(message.dnsQueryTimeout, DEFAULT_DNS_QUERY_TIMEOUT_MS),
  };
}

/** A name and what is known about it. */
export interface CachedName {
  /** `name:port`, as requests say it. */
  readonly key: string;
  readonly name: string;
  readonly port: number;
  /** Empty: it could not be resolved. */
  addresses: readonly string[];
  resolved: boolean;
  lastUsed: number;
  failures: number;
  /** Counted among the names of all workers. */
  held: boolean;
  waiting: ((overflow: boolean) => void)[];
  cancel: (() => void) | undefined;
}

/** The names of all workers' caches, which one limit counts; workers/name-desk.ts. */
export interface SharedNames {
  /** False: `max` others are there. */
  hold(cache: string, name: string, max: number): Promise<boolean>;
  letGo(cache: string, name: string): void;
}

export interface DnsCacheDeps {
  readonly resolve: Resolve;
  readonly clock: Clock;
  readonly random: () => number;
  readonly stats: StatsStore;
  /** What limits count by when there are workers. */
  readonly shared?: SharedNumbers | undefined;
  readonly sharedNames?: SharedNames | undefined;
}

export class DnsCache {
  readonly settings: DnsCacheSettings;
  readonly #deps: DnsCacheDeps;
  readonly #names = new Map<string, CachedName>();
  readonly #watchers = new Set<(entry: CachedName, gone: boolean) => void>();
  readonly #counters: ReturnType<typeof cacheCounters>;
  readonly #pending: Places;
  #stopped = false;

  constructor(settings: DnsCacheSettings, deps: DnsCacheDeps) {
    this.settings = settings;
    this.#deps = deps;
    this.#pending = deps.shared?.counters(`dns cache ${settings.name}`)(0) ?? new LocalPlaces();
    this.#counters = cacheCounters(new StatsScope(deps.stats, `dns_cache.${settings.name}.`));
  }

  /** What is known, and used again. */
  find(key: string): CachedName | undefined {
    const entry = this.#names.get(key);
    if (entry) entry.lastUsed = this.#deps.clock.now();
    return entry;
  }

  /**
   * Makes sure that `key` is known. `ready`: it is; `waiting`: `done` is called when it is, or has failed, or there are too
   * many names in all workers (`overflow`); `overflow` and `pending-overflow`: the limits of the cache are reached.
   */
  load(
    key: string,
    name: string,
    port: number,
    done: (overflow: boolean) => void,
  ): 'ready' | 'waiting' | 'overflow' | 'pending-overflow' {
    let entry = this.find(key);
    if (entry?.resolved) return 'ready';
    if (!this.#pending.tryEnter(this.settings.maxPending)) {
      this.#counters.pendingOverflow.value += 1;
      return 'pending-overflow';
    }
    if (!entry) {
      if (this.#names.size >= this.settings.maxHosts) {
        this.#counters.overflow.value += 1;
        this.#pending.leave();
        return 'overflow';
      }
      entry = this.#add(key, name, port);
      if (entry.resolved) {
        this.#pending.leave();
        return 'ready';
      }
    }
    entry.waiting.push((overflow) => {
      this.#pending.leave();
      done(overflow);
    });
    return 'waiting';
  }

  /** Tells of every change of addresses, and of names that are forgotten. */
  watch(run: (entry: CachedName, gone: boolean) => void): () => void {
    this.#watchers.add(run);
    return () => this.#watchers.delete(run);
  }

  stop(): void {
    this.#stopped = true;
    for (const entry of this.#names.values()) entry.cancel?.();
    this.#names.clear();
  }

  #add(key: string, name: string, port: number): CachedName {
    const isIp = parseIp(name) !== undefined;
    const held = this.#deps.sharedNames === undefined;
    const entry: CachedName = {
      key,
      name,
      port,
      addresses: isIp ? [name] : [],
      resolved: isIp && held,
      lastUsed: this.#deps.clock.now(),
      failures: 0,
      held,
      waiting: [],
      cancel: undefined,
    };
    this.#names.set(key, entry);
    this.#counters.hosts.value = this.#names.size;
    if (!held) void this.#hold(entry);
    else this.#begin(entry);
    return entry;
  }

  #begin(entry: CachedName): void {
    this.#counters.added.value += 1;
    if (parseIp(entry.name)) this.#settle(entry, this.settings.dns.refreshMs);
    else void this.#ask(entry);
  }

  /** Other workers may have filled the cache. */
  async #hold(entry: CachedName): Promise<void> {
    const { name, maxHosts } = this.settings;
    entry.held = await this.#deps.sharedNames!.hold(name, entry.key, maxHosts);
    if (this.#stopped) return;
    if (entry.held) {
      this.#begin(entry);
      return;
    }
    this.#names.delete(entry.key);
    this.#counters.hosts.value = this.#names.size;
    this.#counters.overflow.value += 1;
    for (const run of entry.waiting.splice(0)) run(true);
  }

  async #ask(entry: CachedName): Promise<void> {
    const { dns, queryTimeoutMs, minRefreshMs } = this.settings;
    const { clock, resolve, random } = this.#deps;
    const counters = this.#counters;
    counters.attempt.value += 1;
    let delay: number;
    try {
      let cancel = (): void => {};
      const late = new Promise<never>((_, reject) => {
        if (queryTimeoutMs <= 0) return;
        cancel = clock.after(queryTimeoutMs, () => {
          counters.timeout.value += 1;
          reject(new Error('no answer in time'));
        });
      });
      const answer = await Promise.race([ask(entry.name, dns, resolve), late]).finally(() => cancel());
      counters.success.value += 1;
      entry.failures = 0;
      delay = Math.max(minRefreshMs, answer.ttlMs ?? dns.refreshMs);
      this.#take(entry, answer.addresses.slice(0, MAX_DNS_ADDRESSES));
    } catch {
      // A name that fails keeps its last addresses.
      counters.failure.value += 1;
      delay = Math.max(1, retryAfter(dns, entry.failures, random));
      entry.failures += 1;
    }
    if (this.#stopped) return;
    this.#settle(entry, delay);
  }

  #settle(entry: CachedName, delay: number): void {
    entry.resolved = true;
    for (const run of entry.waiting.splice(0)) run(false);
    this.#later(entry, delay);
  }

  #take(entry: CachedName, addresses: readonly string[]): void {
    if (this.#stopped || addresses.length === 0 || addresses.join() === entry.addresses.join()) return;
    if (entry.addresses.length > 0) this.#counters.changed.value += 1;
    entry.addresses = addresses;
    for (const run of [...this.#watchers]) run(entry, false);
  }

  #later(entry: CachedName, delay: number): void {
    const { clock } = this.#deps;
    entry.cancel = clock.after(delay, () => {
      const unused = clock.now() - entry.lastUsed;
      if (unused >= this.settings.hostTtlMs) {
        this.#names.delete(entry.key);
        this.#deps.sharedNames?.letGo(this.settings.name, entry.key);
        this.#counters.removed.value += 1;
        this.#counters.hosts.value = this.#names.size;
        for (const run of [...this.#watchers]) run(entry, true);
      } else if (parseIp(entry.name)) this.#later(entry, delay);
      else void this.#ask(entry);
    });
  }
}

function cacheCounters(scope: StatsScope) {
  return {
    attempt: scope.counter('dns_query_attempt'),
    success: scope.counter('dns_query_success'),
    failure: scope.counter('dns_query_failure'),
    timeout: scope.counter('dns_query_timeout'),
    changed: scope.counter('host_address_changed'),
    added: scope.counter('host_added'),
    removed: scope.counter('host_removed'),
    overflow: scope.counter('host_overflow'),
    pendingOverflow: scope.counter('dns_rq_pending_overflow'),
    hosts: scope.gauge('num_hosts'),
  };
}

/** Caches by name: everybody who says the same name must say the same of it. */
export class DnsCaches {
  readonly #deps: DnsCacheDeps;
  readonly #all = new Map<string, DnsCache>();

  constructor(deps: DnsCacheDeps) {
    this.#deps = deps;
  }

  get(settings: DnsCacheSettings, path: string): DnsCache {
    const known = this.#all.get(settings.name);
    if (known) {
      if (JSON.stringify(known.settings) !== JSON.stringify(settings))
        throw new ConfigError(path, `config specified DNS cache '${settings.name}' with different settings`);
      return known;
    }
    const made = new DnsCache(settings, this.#deps);
    this.#all.set(settings.name, made);
    return made;
  }

  stop(): void {
    for (const cache of this.#all.values()) cache.stop();
  }
}
