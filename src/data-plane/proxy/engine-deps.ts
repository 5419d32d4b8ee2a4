// What an engine is made with: the effects it may have, the options of the process, and its workers. Given by wiring.ts and by
// tests.
import type { Clock } from '../../base/runtime/clock.ts';
import type { Logger } from '../../base/runtime/log.ts';
import type { LogFiles } from './access-log/logger.ts';
import type { ThreadAnswer, ThreadQuestion } from './admin/target.ts';
import type { Resolve } from './cluster/dns.ts';
import type { SharedNames } from './cluster/dns-cache.ts';
import type { ToldHealth } from './cluster/health/remote.ts';
import type { HealthTeller } from './cluster/host-health.ts';
import type { Capture } from './listener/capture.ts';
import type { SocketSharing } from './listener/manager.ts';
import type { MemoryReader } from './overload/manager.ts';
import type { LogControl } from './process-log.ts';
import type { RuntimeFiles } from './runtime/disk.ts';
import type { SharedHosts } from './tally/host-numbers.ts';
import type { SharedBlocks } from './tally/numbers.ts';
import type { DataReader } from './transport-socket/secrets.ts';
import type { TlsTransport } from './transport-socket/tls-context.ts';
import type { Command, Numbers } from './workers/protocol.ts';
import type { WatchedFiles } from './xds/file-source.ts';
import type { DiscoveryHub, HubDeps } from './xds/hub.ts';

export interface EngineDeps {
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Logger;
  readonly reader: DataReader;
  readonly files: LogFiles;
  readonly resolve: Resolve;
  readonly runtimeFiles: RuntimeFiles;
  readonly memory?: MemoryReader;
  /** Of this machine, for access logs. */
  readonly hostname: string;
  /** Its own address towards others (Envoy's local address). */
  readonly localAddress: string;
  readonly watchedFiles: WatchedFiles;
  /** Discovery other than the engine's own: with workers the main thread mirrors it, and they follow. */
  readonly createHub?: (deps: HubDeps) => DiscoveryHub;
  /** Absent: this thread serves alone. */
  readonly sockets?: SocketSharing;
  /** Memory that all workers count in. */
  readonly shared?: SharedBlocks;
  readonly sharedHosts?: SharedHosts;
  readonly sharedNames?: SharedNames;
  /** What the main thread tells of the health of hosts, and what a worker was told. */
  readonly healthTeller?: HealthTeller;
  readonly toldHealth?: ToldHealth;
  /** The workers of a main thread. */
  readonly workers?: WorkerGroup;
  /** Absent: the kernel captures. */
  readonly capture?: Capture;
  /** Who does TLS; absent: OpenSSL called directly. */
  readonly tlsTransport?: TlsTransport;
}

export interface EngineOptions {
  /** A worker serves connections only: no admin interface, no discovery of its own. */
  readonly isWorker?: boolean;
  readonly drainMs: number;
  /** Whether connections are asked to end over the whole drain time, or at once. */
  readonly drainStrategy: 'gradual' | 'immediate';
  readonly logFlushMs: number;
  readonly logFlushBytes: number;
  /** `tag:value`, carried by all stats. */
  readonly statsTags: readonly string[];
  /** What happens to fields of xDS resources that their type does not know. */
  readonly unknownFields: 'warn' | 'reject' | 'ignore';
  /** Options of the command line, shown by /server_info. */
  readonly commandLine: Readonly<Record<string, string | number | boolean | readonly string[]>>;
  readonly nodeZone: string;
  readonly nodeId: string;
  readonly nodeCluster: string;
  /** Version text of /server_info. */
  readonly version: string;
  /** The level of the process's log, changed by /logging. */
  readonly logLevel: LogControl;
  /** Asked by /quitquitquit with code 0, by a failed start with 1: the exit code of the process. */
  readonly onQuit: (code: number) => void;
}

/** Workers as the engine of the main thread sees them. */
export interface WorkerGroup {
  readonly count: number;
  /** Begins to start them; `failed` when one cannot, before all have. */
  start(failed: (error: Error) => void): void;
  /** Resolves when all take connections. */
  started(): Promise<void>;
  command(command: Command): void;
  gather(): Promise<readonly Numbers[]>;
  onTrace(run: (tap: number, trace: string) => void): void;
  askWorkers<Q extends ThreadQuestion>(question: Q): Promise<readonly ThreadAnswer<Q>[]>;
}

/** What differs for an engine with workers, and for a worker. */
export type ThreadDeps = Pick<
  EngineDeps,
  | 'createHub'
  | 'sockets'
  | 'workers'
  | 'resolve'
  | 'shared'
  | 'sharedHosts'
  | 'sharedNames'
  | 'healthTeller'
  | 'toldHealth'
> & {
  readonly isWorker?: boolean;
};
