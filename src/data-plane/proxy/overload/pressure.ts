// What the process as a whole asks of its connections at the moment: made by the overload manager and by /healthcheck/fail,
// read by listeners and the connection manager for each connection and request. One flag says that there is nothing to read.
export interface Pressure {
  /** False: everything below is as if there were no load. */
  any: boolean;
  /** /healthcheck/fail: answers end their connections. */
  failingHealth: boolean;
  /** Share of requests answered 503, 0 to 1. */
  refuseRequests: number;
  /** Share of new connections that are not taken. */
  refuseConnections: number;
  /** Answers end their HTTP/1 connections. */
  endKeepAlive: boolean;
  /** Factor on downstream idle timeouts, with the shortest that may become of them. */
  idleScale: number;
  minIdleMs: number;
}

export function noPressure(): Pressure {
  return {
    any: false,
    failingHealth: false,
    refuseRequests: 0,
    refuseConnections: 0,
    endKeepAlive: false,
    idleScale: 1,
    minIdleMs: 0,
  };
}

/** Brings `any` up to date after a change. */
export function settle(pressure: Pressure): void {
  pressure.any =
    pressure.failingHealth ||
    pressure.refuseRequests > 0 ||
    pressure.refuseConnections > 0 ||
    pressure.endKeepAlive ||
    pressure.idleScale < 1;
}

/** How one listener takes the pressure. */
export interface PressureView {
  readonly pressure: Pressure;
  /** False for drain_type MODIFY_ONLY. */
  readonly drainsOnFailingHealth: boolean;
  /** bypass_overload_manager. */
  readonly bypass: boolean;
}
