// When upstream connections were made: known for as long as they live, for every request on them. Written by dial.ts, read by
// access logs.
import type { Transport } from './transport.ts';

/** ms since the epoch; -1 = it did not come to that. */
export interface ConnectTimes {
  readonly begin: number;
  readonly connected: number;
  /** TLS stood. */
  readonly secured: number;
}

const times = new WeakMap<Transport, ConnectTimes>();

export function noteConnectTimes(transport: Transport, of: ConnectTimes): void {
  times.set(transport, of);
}

export function connectTimes(transport: Transport | undefined): ConnectTimes | undefined {
  return transport && times.get(transport);
}
