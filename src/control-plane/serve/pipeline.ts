// Configuration changes → debounce → snapshot → push. Made by wiring.ts; the heart of the process.
import type { Clock } from '../../base/runtime/clock.ts';
import type { Logger } from '../../base/runtime/log.ts';
import { createDebounce } from '../config/debounce.ts';
import type { ConfigChange, ConfigStore } from '../config/store.ts';
import { buildSnapshot, type Snapshot } from '../model/snapshot.ts';
import type { Discovery } from './discovery.ts';
import type { ServeMetrics } from './metrics.ts';

export interface PipelineOptions {
  readonly store: ConfigStore;
  readonly discovery: Discovery;
  readonly domain: string;
  readonly clock: Clock;
  readonly log: Logger;
  readonly metrics: ServeMetrics;
  readonly debounceQuietMs: number;
  readonly debounceMaxMs: number;
}

export interface Pipeline {
  /** Resolves when the first snapshot is published. */
  readonly ready: Promise<void>;
  close(): void;
}

const REGISTRY_KINDS: ReadonlySet<string> = new Set(['Namespace', 'Node', 'Pod', 'Service', 'EndpointSlice']);
/** Names of changed objects in one log line. */
const MAX_LOGGED_CHANGES = 3;

export function startPipeline(options: PipelineOptions): Pipeline {
  const { store, discovery, clock, log, metrics } = options;
  let counter = 0;
  let last: Snapshot | undefined;

  const rebuild = (changes: readonly ConfigChange[], since: number): void => {
    const started = clock.now();
    counter += 1;
    const version = `${new Date(started).toISOString().replace(/\.\d+Z$/, 'Z')}/${counter}`;
    const snapshot = buildSnapshot(store.read(), { version, domain: options.domain });
    const scope =
      last && changes.every((c) => c.scope === 'endpoints') && snapshot.shape === last.shape ? 'endpoints' : 'full';
    last = snapshot;
    metrics.contextInit.observe((clock.now() - started) / 1000);
    metrics.services.set(snapshot.services.length);
    metrics.virtualServices.set(snapshot.virtualServices.length);
    metrics.noInstances.set(
      snapshot.services.flatMap((s) => [...s.endpoints.values()]).filter((list) => list.length === 0).length,
    );
    discovery.publish(snapshot, scope, since);
    const named = changes.slice(0, MAX_LOGGED_CHANGES).map((c) => `${c.kind}/${c.namespace}/${c.name}`);
    log.info(`Push debounce stable[${counter}] ${changes.length}`, {
      changes: named.join(','),
      scope,
      connections: discovery.streams().length,
      version,
    });
  };

  const debounce = createDebounce<ConfigChange>({
    quietMs: options.debounceQuietMs,
    maxMs: options.debounceMaxMs,
    clock,
    run(batch, waitedMs) {
      metrics.debounce.observe(waitedMs / 1000);
      rebuild(batch, clock.now() - waitedMs);
    },
  });
  const unsubscribe = store.onChange((change) => {
    const counterOf = REGISTRY_KINDS.has(change.kind) ? metrics.registryEvents : metrics.configEvents;
    counterOf.inc({ type: change.kind, event: EVENT[change.event] });
    metrics.inboundUpdates.inc({ type: change.scope === 'endpoints' ? 'eds' : 'config' });
    // Before the first snapshot everything is still arriving; it will contain all of it.
    if (last) debounce.add(change);
  });
  const ready = store.synced.then(() => rebuild([], clock.now()));
  return {
    ready,
    close() {
      unsubscribe();
      debounce.close();
    },
  };
}

const EVENT = { added: 'add', updated: 'update', deleted: 'delete' } as const;
