// Where a request's route table comes from: fixed, one that changes (RDS), chosen by a scope (SRDS), or fetched when asked for
// (VHDS). Made by network-filter/routing.ts, asked by streams.
import type { Live } from '../transport-socket/secrets.ts';
import type { RequestView } from './matchers.ts';
import type { RouteTable } from './route-table.ts';

export interface RouteSource {
  /** Undefined: there is none for this request. */
  tableFor(request: RequestView): RouteTable | undefined;
  /**
   * Asks for what this request lacks; `done` is called once, later. False: nothing can be asked for.
   * Used by the on_demand filter.
   */
  fetch?(request: RequestView, done: () => void): boolean;
}

export function oneTable(live: Live<RouteTable>): RouteSource {
  return { tableFor: () => live.current() };
}
