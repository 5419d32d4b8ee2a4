// What the main thread and its workers say to each other: configuration as bytes downwards, numbers and questions upwards.
// Nothing of it is logged: resources hold keys.

import type { HostCounts, ThreadQuestion } from '../admin/target.ts';
import type { ResolverSettings } from '../cluster/dns-config.ts';
import type { Outcome } from '../cluster/lb-context.ts';
import type { CommandLine } from '../command-line.ts';
import type { SocketAddr } from '../config/address.ts';

/** Given to a worker at its start. */
export interface WorkerStart {
  readonly index: number;
  readonly count: number;
  readonly bootstrap: Uint8Array;
  readonly options: CommandLine;
  readonly format: string | undefined;
  /** What was told before, in its order. */
  readonly mirror: readonly Told[];
  /** State that commands brought about before. */
  readonly commands: readonly Command[];
}

/** One thing the main thread took from discovery. `key` is type URL and source. */
export type Discovered =
  | {
      readonly kind: 'resource';
      readonly key: string;
      readonly name: string;
      readonly version: string;
      readonly bytes: Uint8Array;
    }
  | { readonly kind: 'removed'; readonly key: string; readonly name: string }
  /** Nobody in the main thread follows it any more; who still uses it keeps it. */
  | { readonly kind: 'forgotten'; readonly key: string; readonly name: string }
  /** Found on demand (VHDS); without bytes: there is no such thing. */
  | {
      readonly kind: 'found';
      readonly key: string;
      readonly name: string;
      readonly version: string;
      readonly bytes: Uint8Array | undefined;
      readonly aliases: readonly string[];
    }
  /** What was found is no more. */
  | { readonly kind: 'lost'; readonly key: string; readonly name: string }
  /** A complete answer was taken, or its wait is over. */
  | { readonly kind: 'done'; readonly key: string }
  | { readonly kind: 'timed-out'; readonly key: string; readonly name: string };

/** Memory that all threads count in; told before the first configuration that uses it. */
export type BlockTold =
  | { readonly kind: 'block'; readonly key: string; readonly block: SharedArrayBuffer }
  | { readonly kind: 'block-gone'; readonly key: string };

/** Where in a block the numbers of a cluster's hosts stand. `cluster` names its configuration too. */
export type HostsTold =
  | {
      readonly kind: 'hosts';
      readonly cluster: string;
      /** Key and bytes of the block, and of the cluster's first, which has the sum. */
      readonly segment: string;
      readonly bytes: number;
      readonly first: string;
      readonly firstBytes: number;
      readonly slots: readonly (readonly [host: string, slot: number])[];
    }
  | { readonly kind: 'hosts-gone'; readonly cluster: string; readonly hosts: readonly string[] };

/** What the main thread found out about hosts. `cluster` names its configuration too. */
export type HealthTold =
  | {
      readonly kind: 'health';
      readonly cluster: string;
      readonly host: string;
      /** Bits of HEALTH. */
      readonly flags: number;
      readonly healthySince: number;
    }
  /** Undefined host: all of the cluster. */
  | { readonly kind: 'health-gone'; readonly cluster: string; readonly host: string | undefined };

/** So many exchanges with a host went so, one after the other. */
export type OutcomeRun = readonly [cluster: string, host: string, outcome: Outcome, count: number];

/** Everything that reaches the workers in the order in which it came about in the main thread. */
export type Told = Discovered | BlockTold | HostsTold | HealthTold;

/** What an operator asked of the whole proxy. */
export type Command =
  | { readonly kind: 'drain'; readonly inboundOnly: boolean; readonly graceful: boolean; readonly skipExit: boolean }
  | { readonly kind: 'health'; readonly failing: boolean }
  | { readonly kind: 'runtime'; readonly values: readonly (readonly [string, string])[] }
  | { readonly kind: 'log'; readonly logger: string | undefined; readonly level: string }
  /** Show what goes through the tap filters of an id; `config` is a TapConfig. */
  | { readonly kind: 'tap'; readonly id: number; readonly configId: string; readonly config: Uint8Array }
  | { readonly kind: 'untap' }
  | { readonly kind: 'reset-counters' }
  | { readonly kind: 'reopen-logs' }
  | { readonly kind: 'stop' };

export type ToWorker =
  | { readonly kind: 'told'; readonly items: readonly Told[] }
  | { readonly kind: 'command'; readonly command: Command }
  | { readonly kind: 'numbers'; readonly id: number }
  /** A page of the admin interface asks. */
  | { readonly kind: 'question'; readonly id: number; readonly question: ThreadQuestion }
  | { readonly kind: 'trace-taken'; readonly chars: number }
  | { readonly kind: 'outcomes-taken' }
  | { readonly kind: 'answer'; readonly id: number; readonly value: unknown; readonly error: string | undefined };

export type ToMain =
  | { readonly kind: 'started' }
  | { readonly kind: 'failed'; readonly reason: string }
  | { readonly kind: 'stopped' }
  | { readonly kind: 'numbers'; readonly id: number; readonly numbers: Numbers }
  /** Of the tap with this id. */
  | { readonly kind: 'trace'; readonly tap: number; readonly trace: string }
  | { readonly kind: 'reply'; readonly id: number; readonly answer: unknown; readonly error: string | undefined }
  /** Questions; answered under their id. */
  | {
      readonly kind: 'resolve';
      readonly id: number;
      readonly hostname: string;
      readonly family: 4 | 6;
      readonly how: ResolverSettings;
    }
  /** A name of a DNS cache, which has `max` in all workers; answered with whether it may be one of them. */
  | { readonly kind: 'name'; readonly id: number; readonly cache: string; readonly name: string; readonly max: number }
  | { readonly kind: 'name-gone'; readonly cache: string; readonly name: string }
  /** Something that is only discovered on demand. */
  | { readonly kind: 'want'; readonly key: string; readonly names: readonly string[] }
  /** The next ones are sent when these were taken. */
  | { readonly kind: 'outcomes'; readonly runs: readonly OutcomeRun[] }
  | { readonly kind: 'traffic'; readonly cluster: string }
  | { readonly kind: 'port'; readonly id: number; readonly socket: string }
  | { readonly kind: 'bound'; readonly socket: string; readonly address: SocketAddr };

export interface HistogramNumbers {
  readonly name: string;
  readonly cells: Float64Array;
  readonly interval: Float64Array | undefined;
  readonly intervalSum: number;
  readonly sum: number;
  readonly count: number;
}

/** Everything a worker counted. */
export interface Numbers {
  readonly counters: readonly (readonly [string, number])[];
  readonly gauges: readonly (readonly [string, number])[];
  readonly histograms: readonly HistogramNumbers[];
  readonly istio: IstioNumbers;
  readonly hosts: readonly (readonly [cluster: string, host: string, counts: HostCounts])[];
}

/** By the joined label values: numbers of a series in the order of IstioStats. */
export interface IstioNumbers {
  readonly http: readonly (readonly [string, number, readonly HistogramNumbers[]])[];
  readonly tcp: readonly (readonly [string, readonly number[]])[];
}
