// What the admin interface sees of a proxy, and what its pages answer with. The engine is such a target; pages know nothing
// else of it.
import type { Bootstrap } from '#proto/envoy/config/bootstrap/v3/bootstrap_pb.js';
import type { Node } from '#proto/envoy/config/core/v3/base_pb.js';
import type { Clock } from '../../../base/runtime/clock.ts';
import type { ClusterView } from '../cluster/manager.ts';
import type { HeaderMap } from '../http/header-map.ts';
import type { ListenerView } from '../listener/manager.ts';
import type { LogControl } from '../process-log.ts';
import type { Runtime } from '../runtime/runtime.ts';
import type { IstioStats } from '../stats/istio-stats.ts';
import type { LookupNumbers, LookupQuestion } from '../stats/recent-lookups.ts';
import type { StatNaming } from '../stats/render.ts';
import type { StatsStore } from '../stats/stats.ts';
import type { TapControl } from '../tap/control.ts';
import type { DiscoveryHub } from '../xds/hub.ts';
import type { RouteView } from '../xds/rds.ts';
import type { SecretView } from '../xds/sds.ts';
import type { Sample } from './pprof.ts';
import type { ProfileQuestion } from './thread-profiler.ts';

export type ServerState = 'PRE_INITIALIZING' | 'INITIALIZING' | 'LIVE' | 'DRAINING';

/** Counts of one upstream host that another worker keeps. */
export interface HostCounts {
  readonly cxActive: number;
  readonly cxConnectFail: number;
  readonly cxTotal: number;
  readonly active: number;
  /** Requests that wait for a connection. */
  readonly pending: number;
  readonly rqError: number;
  readonly rqSuccess: number;
  readonly rqTimeout: number;
  readonly rqTotal: number;
}

/** The numbers of all workers together. */
export interface Gathered {
  readonly stats: StatsStore;
  readonly istioStats: Pick<IstioStats, 'families' | 'render'>;
  /** What other workers counted about a host; undefined when there are none. */
  readonly hosts: ((cluster: string, host: string) => HostCounts | undefined) | undefined;
}

export interface AdminTarget {
  readonly bootstrap: Bootstrap;
  readonly node: Node;
  readonly version: string;
  readonly commandLine: Readonly<Record<string, string | number | boolean | readonly string[]>>;
  readonly startedAt: number;
  readonly clock: Clock;
  readonly state: ServerState;
  readonly naming: StatNaming;
  readonly stats: StatsStore;
  readonly istioStats: IstioStats;
  readonly log: LogControl;
  readonly runtime: Runtime;
  readonly hub: Pick<DiscoveryHub, 'book'>;
  readonly clusters: { views(): ClusterView[] };
  readonly listeners: { views(): ListenerView[] };
  readonly routes: { views(): RouteView[] };
  readonly tap: Pick<TapControl, 'attached' | 'knows' | 'read' | 'attach'>;
  readonly secrets: { views(): readonly SecretView[] };
  /** Brings gauges up to date and adds what workers counted. */
  gather(): Gathered | Promise<Gathered>;
  /** The main thread and all workers that answer in time. Rejects when one of them cannot do it. */
  askThreads<Q extends ThreadQuestion>(question: Q): Promise<readonly ThreadAnswer<Q>[]>;
  drainListeners(how: { readonly inboundOnly: boolean; readonly graceful: boolean; readonly skipExit: boolean }): void;
  setHealthFailing(failing: boolean): void;
  overrideRuntime(values: ReadonlyMap<string, string>): boolean;
  resetCounters(): void;
  reopenLogs(): void;
  quit(): void;
}

/** What a page asks of every thread. */
export type ThreadQuestion = ProfileQuestion | LookupQuestion;
export type AnswerTo<Q extends ThreadQuestion> = Q extends ProfileQuestion ? readonly Sample[] : LookupNumbers;

export interface ThreadAnswer<Q extends ThreadQuestion> {
  /** `main`, `worker 0` … */
  readonly thread: string;
  readonly answer: AnswerTo<Q>;
}

/** An answer that is written bit by bit. */
export interface AdminStream {
  /** The client does not keep up. */
  readonly full: boolean;
  write(text: string): void;
  end(): void;
  /** Before the end. */
  onGone(run: () => void): void;
}

export interface AdminReply {
  /** Text or bytes, or parts made while the answer is sent: nothing large is made at once. */
  readonly body: string | Uint8Array | Iterable<string | Uint8Array>;
  readonly status?: number;
  readonly type?: string;
  /** Goes on with the answer after its head, for as long as it likes. */
  readonly stream?: (out: AdminStream) => void;
  /** Runs after the answer was written. */
  readonly after?: () => void;
}

/** One parameter of a page, for /help. */
export interface Parameter {
  readonly name: string;
  readonly help: string;
}

/** What was asked beside path and query. */
export interface AdminAsk {
  readonly headers: HeaderMap;
  readonly body: string;
}

export interface Page {
  readonly help: string;
  /** Changes something: only POST. */
  readonly mutates?: boolean;
  /** The page is there only then. */
  readonly when?: (target: AdminTarget) => boolean;
  readonly parameters?: readonly Parameter[];
  readonly show: (target: AdminTarget, query: URLSearchParams, ask: AdminAsk) => AdminReply | Promise<AdminReply>;
}

export const OK: AdminReply = { body: 'OK\n' };
export const JSON_TYPE = 'application/json';
