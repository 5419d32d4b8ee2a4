// Hosts of an ORIGINAL_DST cluster: wherever the client wanted to go, or where a header says. Owned by a cluster.
import type { Clock } from '../../../base/runtime/clock.ts';
import { addressText, parseIp, type SocketAddr } from '../config/address.ts';
import type { HeaderName } from '../http/header-map.ts';
import { MAX_ORIGINAL_DST_HOSTS } from '../limits.ts';
import { metadataValue } from '../route/metadata-match.ts';
import type { Counter, Gauge } from '../stats/stats.ts';
import { bareHost, Host } from './host.ts';
import type { LbContext } from './lb-context.ts';

export interface OriginalDstSettings {
  /** The header that overrides the destination; undefined = none may. */
  readonly header: HeaderName | undefined;
  /** The filter and the path of dynamic metadata that override it. */
  readonly metadata: { readonly filter: string; readonly keys: readonly string[] } | undefined;
  readonly portOverride: number | undefined;
  /** Hosts that nobody used for this long are forgotten, ms (cleanup_interval). */
  readonly cleanupMs: number;
}

/** Where an address is really dialled; see listener/capture.ts. */
type Reach = (address: SocketAddr) => SocketAddr;

export class OriginalDst {
  readonly #settings: OriginalDstSettings;
  readonly #clock: Clock;
  readonly #counters: { readonly originalDstHostInvalid: Counter; readonly membershipTotal: Gauge };
  readonly #forgotten: (host: Host) => void;
  readonly #reach: Reach | undefined;
  readonly #hosts = new Map<string, { readonly host: Host; used: boolean }>();
  #cancel: (() => void) | undefined;

  constructor(
    settings: OriginalDstSettings,
    clock: Clock,
    counters: { readonly originalDstHostInvalid: Counter; readonly membershipTotal: Gauge },
    forgotten: (host: Host) => void,
    reach?: Reach,
  ) {
    this.#settings = settings;
    this.#clock = clock;
    this.#counters = counters;
    this.#forgotten = forgotten;
    this.#reach = reach;
  }

  get hosts(): readonly Host[] {
    return [...this.#hosts.values()].map((entry) => entry.host);
  }

  pick(context: LbContext): Host | undefined {
    const target = this.#target(context);
    if (target?.kind !== 'ip') return undefined;
    const { portOverride } = this.#settings;
    const wanted: SocketAddr = portOverride === undefined ? target : { ...target, port: portOverride };
    const address = this.#reach ? this.#reach(wanted) : wanted;
    const key = addressText(address);
    const known = this.#hosts.get(key);
    if (known) {
      known.used = true;
      return known.host;
    }
    if (this.#hosts.size >= MAX_ORIGINAL_DST_HOSTS) this.#makeRoom();
    const host = new Host(bareHost(address));
    this.#hosts.set(key, { host, used: true });
    this.#counters.membershipTotal.value = this.#hosts.size;
    this.#cancel ??= this.#clock.after(this.#settings.cleanupMs, () => this.#cleanup());
    return host;
  }

  stop(): void {
    this.#cancel?.();
    this.#cancel = undefined;
  }

  #fromMetadata(context: LbContext): string | undefined {
    const { metadata } = this.#settings;
    if (!metadata) return undefined;
    const value = metadataValue(context.metadataOf?.(metadata.filter), metadata.keys);
    return typeof value === 'string' ? value : undefined;
  }

  #target(context: LbContext): SocketAddr | undefined {
    const { header } = this.#settings;
    const text = this.#fromMetadata(context) ?? (header ? context.requestHeaders?.get(header) : undefined);
    if (text === undefined) return context.destination;
    const address = parseTarget(text);
    if (!address) this.#counters.originalDstHostInvalid.value += 1;
    return address;
  }

  /** Two rounds without use and without anything open: forgotten. */
  #cleanup(): void {
    this.#cancel = undefined;
    for (const entry of [...this.#hosts.values()]) {
      if (entry.used || entry.host.active > 0 || entry.host.cxActive > 0) entry.used = false;
      else this.#forget(entry.host);
    }
    if (this.#hosts.size > 0) this.#cancel = this.#clock.after(this.#settings.cleanupMs, () => this.#cleanup());
  }

  #makeRoom(): void {
    for (const { host } of this.#hosts.values())
      if (host.active === 0 && host.cxActive === 0) {
        this.#forget(host);
        return;
      }
    // All are busy: the oldest is only forgotten, its connections live on.
    const oldest = this.#hosts.keys().next().value;
    if (oldest !== undefined) this.#hosts.delete(oldest);
  }

  #forget(host: Host): void {
    this.#hosts.delete(host.key);
    this.#counters.membershipTotal.value = this.#hosts.size;
    this.#forgotten(host);
  }
}

/** `1.2.3.4:80` or `[::1]:80`. */
export function parseTarget(text: string): SocketAddr | undefined {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([0-9.]+)):(\d{1,5})$/.exec(text);
  const ip = match?.[1] ?? match?.[2];
  const port = Number(match?.[3]);
  if (ip === undefined || port > 65_535 || !parseIp(ip)) return undefined;
  return { kind: 'ip', ip, port };
}
