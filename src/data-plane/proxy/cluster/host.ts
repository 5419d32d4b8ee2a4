// One endpoint of a cluster: its health and what is counted about it. Made by discovery; used by load balancers, health
// checks, outlier detection and pools.
import type { JsonObject } from '@bufbuild/protobuf';
import type { SocketAddr } from '../config/address.ts';
import { addressText } from '../config/address.ts';
import type { HostNumbers } from '../tally/host-numbers.ts';
import type { UpstreamSocket } from '../transport-socket/dial.ts';
import type { UpstreamPool } from '../upstream/exchange.ts';

export interface Locality {
  readonly region: string;
  readonly zone: string;
  readonly subZone: string;
}

export type Metadata = Readonly<Record<string, JsonObject>>;

export type HealthStatus = 'healthy' | 'degraded' | 'unhealthy' | 'timeout' | 'draining';

/** What LocalityLbEndpoints says of all its endpoints; one object for the group. */
export interface EndpointGroup {
  readonly locality: Locality;
  /** load_balancing_weight of the locality; 0 = none given. */
  readonly weight: number;
  readonly metadata: Metadata;
}

/** HealthCheckConfig of an endpoint. */
export interface EndpointHealthCheck {
  readonly address: SocketAddr | undefined;
  readonly port: number;
  readonly hostname: string;
  readonly disabled: boolean;
}

export interface HostSpec {
  readonly address: SocketAddr;
  /** More addresses of the same endpoint, tried in turn (Happy Eyeballs). */
  readonly additional: readonly SocketAddr[];
  readonly hostname: string;
  readonly weight: number;
  readonly priority: number;
  readonly locality: Locality;
  readonly group: EndpointGroup;
  readonly health: HealthStatus;
  readonly healthCheck: EndpointHealthCheck | undefined;
  readonly metadata: Metadata;
}

/** Envoy's health flags. */
export const HEALTH = {
  failedActiveHc: 0x1,
  failedOutlier: 0x2,
  failedEds: 0x4,
  degradedActiveHc: 0x8,
  degradedEds: 0x10,
  pendingRemoval: 0x20,
  pendingActiveHc: 0x40,
  excludedByImmediateFail: 0x80,
  activeHcTimeout: 0x100,
  edsDraining: 0x200,
} as const;

const UNHEALTHY = HEALTH.failedActiveHc | HEALTH.failedOutlier | HEALTH.failedEds | HEALTH.edsDraining;
const DEGRADED = HEALTH.degradedActiveHc | HEALTH.degradedEds;
const EXCLUDED = HEALTH.pendingActiveHc | HEALTH.excludedByImmediateFail | HEALTH.edsDraining;
const FROM_EDS = HEALTH.failedEds | HEALTH.degradedEds | HEALTH.edsDraining;

const FLAG_TEXT: readonly (readonly [number, string])[] = [
  [HEALTH.failedActiveHc, '/failed_active_hc'],
  [HEALTH.failedOutlier, '/failed_outlier_check'],
  [HEALTH.failedEds, '/failed_eds_health'],
  [HEALTH.degradedActiveHc, '/degraded_active_hc'],
  [HEALTH.degradedEds, '/degraded_eds_health'],
  [HEALTH.pendingRemoval, '/pending_dynamic_removal'],
  [HEALTH.pendingActiveHc, '/pending_active_hc'],
  [HEALTH.excludedByImmediateFail, '/excluded_via_immediate_hc_fail'],
  [HEALTH.activeHcTimeout, '/active_hc_timeout'],
  [HEALTH.edsDraining, '/eds_status_draining'],
];

const EDS_FLAG: Readonly<Record<HealthStatus, number>> = {
  healthy: 0,
  degraded: HEALTH.degradedEds,
  unhealthy: HEALTH.failedEds,
  timeout: HEALTH.failedEds,
  draining: HEALTH.edsDraining,
};

/** Success rates of the last interval, -1 = too few requests to tell. */
export interface OutlierView {
  readonly successRate: number;
  readonly localOriginSuccessRate: number;
}

export interface PoolMemo {
  readonly socket: UpstreamSocket;
  readonly alpn: readonly string[] | undefined;
  readonly protocol: string;
  readonly priority: string;
  readonly pool: UpstreamPool;
}

let lastId = 0;

export class Host {
  #spec: HostSpec;
  /** Different for every host of this process, the same for its life. */
  readonly id: number;
  /** `ip:port` or the path of a pipe. */
  key: string;
  /** Bits of HEALTH. */
  flags = 0;
  /** Since when the host is healthy, ms; -1 = unknown. Slow start counts from it. */
  healthySince = -1;
  outlier: OutlierView | undefined;
  /** The pool that was asked for last, while the question stays the same. */
  lastPool: PoolMemo | undefined;
  /** Of all workers, where a balancer or a limit asks for them. */
  numbers: HostNumbers | undefined;
  active = 0;
  /** Requests that wait for a connection. */
  pending = 0;
  cxActive = 0;
  cxTotal = 0;
  cxConnectFail = 0;
  rqTotal = 0;
  rqSuccess = 0;
  rqError = 0;
  rqTimeout = 0;

  constructor(spec: HostSpec) {
    this.#spec = spec;
    lastId += 1;
    this.id = lastId;
    this.key = addressText(spec.address);
    this.flags = EDS_FLAG[spec.health];
  }

  get spec(): HostSpec {
    return this.#spec;
  }

  /** Discovery says something new about the same endpoint. */
  set spec(spec: HostSpec) {
    // The host of LOGICAL_DNS moves.
    if (spec.address !== this.#spec.address) this.key = addressText(spec.address);
    this.#spec = spec;
    this.flags = (this.flags & ~FROM_EDS) | EDS_FLAG[spec.health];
  }

  get weight(): number {
    return this.#spec.weight;
  }

  get healthy(): boolean {
    return (this.flags & (UNHEALTHY | DEGRADED)) === 0;
  }

  get degraded(): boolean {
    return (this.flags & UNHEALTHY) === 0 && (this.flags & DEGRADED) !== 0;
  }

  get usable(): boolean {
    return (this.flags & UNHEALTHY) === 0;
  }

  /** Counts neither as healthy nor as unhealthy. */
  get excluded(): boolean {
    return (this.flags & EXCLUDED) !== 0;
  }

  /** Requests under way, of all workers where balancers go by them. */
  get load(): number {
    return this.numbers === undefined ? this.active : this.numbers.active;
  }

  get connections(): number {
    return this.numbers === undefined ? this.cxActive : this.numbers.cx.used;
  }

  beginRequest(): void {
    this.active += 1;
    this.numbers?.begin();
  }

  endRequest(): void {
    this.active -= 1;
    this.numbers?.end();
  }

  beginConnection(): void {
    this.cxActive += 1;
    this.numbers?.cx.enter();
  }

  endConnection(): void {
    this.cxActive -= 1;
    this.numbers?.cx.leave();
  }

  /** What this thread uses already counts among all. */
  share(numbers: HostNumbers): void {
    const before = this.numbers;
    if (before === numbers) return;
    this.numbers = numbers;
    for (let i = 0; i < this.active; i++) {
      before?.end();
      numbers.begin();
    }
    for (let i = 0; i < this.cxActive; i++) {
      before?.cx.leave();
      numbers.cx.enter();
    }
  }

  has(flag: number): boolean {
    return (this.flags & flag) !== 0;
  }

  set(flag: number, on: boolean): void {
    this.flags = on ? this.flags | flag : this.flags & ~flag;
  }

  /** As /clusters prints it. */
  get flagsText(): string {
    if (this.flags === 0) return 'healthy';
    return FLAG_TEXT.filter(([flag]) => (this.flags & flag) !== 0)
      .map(([, text]) => text)
      .join('');
  }
}

export const NOWHERE: Locality = { region: '', zone: '', subZone: '' };
export const NO_GROUP: EndpointGroup = { locality: NOWHERE, weight: 0, metadata: {} };

/** An endpoint known by nothing but its address. */
export function bareHost(address: SocketAddr, hostname = ''): HostSpec {
  return {
    address,
    additional: [],
    hostname,
    weight: 1,
    priority: 0,
    locality: NOWHERE,
    group: NO_GROUP,
    health: 'healthy',
    healthCheck: undefined,
    metadata: {},
  };
}
