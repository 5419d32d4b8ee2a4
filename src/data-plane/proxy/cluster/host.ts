// One endpoint of a cluster and what is counted about it. Made by discovery, used by load balancers and pools.
import type { JsonObject } from '@bufbuild/protobuf';
import type { SocketAddr } from '../config/address.ts';
import { addressText } from '../config/address.ts';

export interface Locality {
  readonly region: string;
  readonly zone: string;
  readonly subZone: string;
}

export type Metadata = Readonly<Record<string, JsonObject>>;

export type HealthStatus = 'healthy' | 'degraded' | 'unhealthy' | 'draining';

export interface HostSpec {
  readonly address: SocketAddr;
  readonly hostname: string;
  readonly weight: number;
  readonly priority: number;
  readonly locality: Locality;
  readonly health: HealthStatus;
  readonly metadata: Metadata;
}

export class Host {
  spec: HostSpec;
  /** `ip:port` or the path of a pipe. */
  readonly key: string;
  active = 0;
  cxActive = 0;
  cxTotal = 0;
  cxConnectFail = 0;
  rqTotal = 0;
  rqSuccess = 0;
  rqError = 0;
  rqTimeout = 0;

  constructor(spec: HostSpec) {
    this.spec = spec;
    this.key = addressText(spec.address);
  }

  get usable(): boolean {
    return this.spec.health === 'healthy' || this.spec.health === 'degraded';
  }
}
