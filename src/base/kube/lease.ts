// Leader election over a Lease: at most one holder at a time, as long as clocks run at the same speed.
// Called by istiod, so that one replica alone writes what must have one writer.
import { type Clock, delay } from '../runtime/clock.ts';
import { errorText, type Logger } from '../runtime/log.ts';
import { type KubeClient, KubeError, type KubeObject, type ResourceType } from './types.ts';

const LEASES: ResourceType = {
  group: 'coordination.k8s.io',
  version: 'v1',
  resource: 'leases',
  kind: 'Lease',
  namespaced: true,
};

interface LeaseObject extends KubeObject {
  readonly spec?: {
    readonly holderIdentity?: string;
    readonly leaseDurationSeconds?: number;
    readonly acquireTime?: string;
    readonly renewTime?: string;
    readonly leaseTransitions?: number;
  };
}

export interface LeaderElectionOptions {
  readonly client: KubeClient;
  readonly namespace: string;
  readonly name: string;
  /** Ours alone: the pod's name. */
  readonly identity: string;
  readonly clock: Clock;
  readonly log: Logger;
  readonly random: () => number;
  /** Called each time we become leader; `signal` aborts when we no longer are. */
  readonly onLeading: (signal: AbortSignal) => void;
}

export interface LeaderElection {
  isLeader(): boolean;
  /** Stops, and gives the lease up when it is ours. */
  close(): Promise<void>;
}

const LEASE_MS = 15_000;
/** Without a renewal for this long we stop leading, before anybody else may start. */
const RENEW_DEADLINE_MS = 10_000;
const RETRY_MS = 2_000;

export function startLeaderElection(options: LeaderElectionOptions): LeaderElection {
  const { client, namespace, name, identity, clock, log } = options;
  const stop = new AbortController();
  let leading: AbortController | undefined;
  let renewedAt = 0;
  /** What we last saw, and when by our own clock: the holder's clock is not trusted. */
  let seen: { readonly text: string; readonly at: number } | undefined;
  let mine: LeaseObject | undefined;

  const lead = (askedAt: number): void => {
    // An answer that came too late proves nothing about now.
    if (stop.signal.aborted || clock.now() - askedAt >= RENEW_DEADLINE_MS) return;
    renewedAt = askedAt;
    if (leading) return;
    leading = new AbortController();
    log.info('became leader', { lease: name });
    options.onLeading(leading.signal);
  };
  const yieldLead = (why: string): void => {
    if (!leading) return;
    log.info('no longer leader', { lease: name, why });
    leading.abort();
    leading = undefined;
  };
  const record = (lease: LeaseObject | undefined): LeaseObject => {
    const now = micro(clock.now());
    const held = lease?.spec?.holderIdentity === identity;
    return {
      apiVersion: 'coordination.k8s.io/v1',
      kind: 'Lease',
      metadata: lease?.metadata ?? { name, namespace },
      spec: {
        holderIdentity: identity,
        leaseDurationSeconds: LEASE_MS / 1000,
        acquireTime: held ? lease.spec?.acquireTime : now,
        renewTime: now,
        leaseTransitions: (lease?.spec?.leaseTransitions ?? 0) + (held || !lease ? 0 : 1),
      },
    };
  };
  const attempt = async (): Promise<void> => {
    const askedAt = clock.now();
    let lease: LeaseObject;
    try {
      lease = await client.get<LeaseObject>(LEASES, namespace, name);
    } catch (error) {
      if (!(error instanceof KubeError) || error.code !== 404) throw error;
      mine = await client.create<LeaseObject>(LEASES, record(undefined));
      lead(askedAt);
      return;
    }
    const holder = lease.spec?.holderIdentity ?? '';
    const text = `${holder} ${lease.spec?.renewTime ?? ''}`;
    if (seen?.text !== text) seen = { text, at: clock.now() };
    const duration = (lease.spec?.leaseDurationSeconds ?? LEASE_MS / 1000) * 1000;
    const free = holder === '' || holder === identity || clock.now() >= seen.at + duration;
    if (!free) {
      yieldLead(`held by ${holder}`);
      return;
    }
    mine = await client.update<LeaseObject>(LEASES, record(lease));
    lead(askedAt);
  };
  const run = async (): Promise<void> => {
    while (!stop.signal.aborted) {
      try {
        await withDeadline(attempt(), clock, RENEW_DEADLINE_MS);
      } catch (error) {
        log.debug('lease not renewed', { lease: name, error: errorText(error) });
      }
      if (leading && clock.now() - renewedAt >= RENEW_DEADLINE_MS) yieldLead('could not renew in time');
      await delay(clock, RETRY_MS * (0.9 + 0.2 * options.random()), stop.signal).catch(() => {});
    }
  };
  const done = run();

  return {
    isLeader: () => leading !== undefined,
    async close() {
      const held = leading !== undefined;
      stop.abort();
      yieldLead('closing');
      await done;
      if (!held || !mine) return;
      const released = { ...mine, spec: { ...mine.spec, holderIdentity: '', leaseDurationSeconds: 1 } };
      await client
        .update(LEASES, released)
        .catch((error) => log.debug('lease not released', { error: errorText(error) }));
    },
  };
}

/** A request that hangs must not keep us from noticing that our time is over. */
async function withDeadline(work: Promise<void>, clock: Clock, ms: number): Promise<void> {
  const over = Promise.withResolvers<void>();
  const cancel = clock.after(ms, () => over.reject(new Error(`no answer within ${ms} ms`)));
  try {
    await Promise.race([work, over.promise]);
  } finally {
    cancel();
  }
}

const micro = (ms: number): string => new Date(ms).toISOString().replace('Z', '000Z');
