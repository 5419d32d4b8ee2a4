// All streams of this control plane: who is connected, and the push to everyone when a new snapshot comes.

import type { Clock } from '../../base/runtime/clock.ts';
import type { Logger } from '../../base/runtime/log.ts';
import type { SpiffeId } from '../../base/spiffe/spiffe-id.ts';
import type { ProxyNode } from '../model/proxy.ts';
import type { Snapshot } from '../model/snapshot.ts';
import type { ServeMetrics } from './metrics.ts';
import { type Adapt, createGate, createStream, type PushScope, type Wire, type XdsStream } from './stream.ts';

export interface DiscoveryOptions {
  readonly clock: Clock;
  readonly log: Logger;
  readonly metrics: ServeMetrics;
  readonly version: string;
  /** Streams pushed to at the same time. */
  readonly pushThrottle: number;
  readonly adapt?: Adapt;
  /** Take proxies at their word: where nobody else can connect. */
  readonly trustEveryone?: boolean;
}

/** Answers a debug path (`syncz`, `config_dump?proxyID=…`) for a caller; rejects with a message when it may not see it. */
export type DebugAnswer = (path: string, caller: readonly SpiffeId[] | undefined) => Promise<string>;

export interface Discovery {
  /** False until the first snapshot. */
  ready(): boolean;
  snapshot(): Snapshot;
  /** `since`: when the change that led to it was seen. */
  publish(snapshot: Snapshot, scope: PushScope, since: number): void;
  streams(): readonly XdsStream[];
  open(
    proxy: ProxyNode,
    form: 'sotw' | 'delta',
    wire: Wire,
    caller: readonly SpiffeId[] | undefined,
  ): { readonly stream: XdsStream; readonly close: () => void };
  setDebug(debug: DebugAnswer): void;
}

export function createDiscovery(options: DiscoveryOptions): Discovery {
  const { clock, log, metrics } = options;
  const streams = new Map<string, XdsStream>();
  const gate = createGate(options.pushThrottle);
  let current: Snapshot | undefined;
  let counter = 0;
  let debug: DebugAnswer = () => Promise.reject(new Error('debug requests are switched off'));
  const snapshot = (): Snapshot => {
    if (!current) throw new Error('server is not ready to serve discovery information');
    return current;
  };
  const count = (): void => metrics.connected.set(streams.size, { version: options.version });
  return {
    ready: () => current !== undefined,
    snapshot,
    publish(next, scope, since) {
      current = next;
      for (const stream of streams.values()) stream.push(scope, since);
    },
    streams: () => [...streams.values()],
    open(proxy, form, wire, caller) {
      counter += 1;
      const id = `${proxy.id}-${counter}`;
      const stream = createStream({ id, proxy, form }, wire, {
        snapshot,
        clock,
        log,
        metrics,
        gate,
        adapt: options.adapt,
        trusted: caller !== undefined || options.trustEveryone === true,
        debug: (path) => debug(path, caller),
      });
      streams.set(id, stream);
      count();
      log.info('ADS: new connection', { node: id, form });
      return {
        stream,
        close() {
          stream.close();
          if (streams.delete(id)) log.info('ADS: connection closed', { node: id });
          count();
        },
      };
    },
    setDebug(answer) {
      debug = answer;
    },
  };
}
