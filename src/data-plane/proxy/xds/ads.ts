// The aggregated discovery client, incremental or state-of-the-world: subscriptions, ACK and NACK, reconnection.
// What a resource means is the business of the handlers (engine.ts).
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import type { Any } from '@bufbuild/protobuf/wkt';
import type { Node } from '#proto/envoy/config/core/v3/base_pb.js';
import {
  DeltaDiscoveryRequestSchema,
  DeltaDiscoveryResponseSchema,
  DiscoveryRequestSchema,
  DiscoveryResponseSchema,
} from '#proto/envoy/service/discovery/v3/discovery_pb.js';
import { StatusSchema } from '#proto/google/rpc/status_pb.js';
import { type Backoff, createBackoff } from '../../../base/runtime/backoff.ts';
import type { Clock } from '../../../base/runtime/clock.ts';
import { errorText, type Logger } from '../../../base/runtime/log.ts';
import type { SocketAddr } from '../config/address.ts';
import { XDS_BACKOFF_BASE_MS, XDS_BACKOFF_MAX_MS } from '../limits.ts';
import type { StatsStore } from '../stats/stats.ts';
import { type GrpcStream, openGrpcStream } from './grpc-stream.ts';

export interface ReceivedResource {
  /** Empty for state-of-the-world answers: the handler reads it from the resource. */
  readonly name: string;
  readonly version: string;
  readonly any: Any;
}

export interface ResourceUpdate {
  readonly resources: readonly ReceivedResource[];
  readonly removed: readonly string[];
  readonly version: string;
  /** True: resources that are not listed are gone (state of the world, CDS and LDS). */
  readonly complete: boolean;
}

export interface TypeHandler {
  readonly typeUrl: string;
  /** Prefix of the subscription's stats, with its dot. */
  readonly statPrefix: string;
  readonly wildcard: boolean;
  /** Applies what is good; the answer names the resources that were refused and why. */
  apply(update: ResourceUpdate): readonly Rejection[];
  /** The name inside a resource (needed for state of the world). */
  nameOf(any: Any): string;
}

export interface Rejection {
  readonly name: string;
  readonly reason: string;
}

export interface AdsOptions {
  readonly delta: boolean;
  /** Asked at each connection: the address of the discovery cluster. */
  readonly address: () => SocketAddr | undefined;
  readonly metadata: readonly (readonly [string, string])[];
  readonly node: Node;
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Logger;
  readonly stats: StatsStore;
}

interface Subscription {
  readonly handler: TypeHandler;
  names: Set<string>;
  /** What the server was told on this stream. */
  told: Set<string>;
  started: boolean;
  /** Versions held, by name (incremental). */
  readonly versions: Map<string, string>;
  version: string;
  nonce: string;
}

const DELTA_METHOD = '/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources';
const SOTW_METHOD = '/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources';
/** A NACK text longer than this is cut. */
const MAX_NACK_CHARS = 8_192;

export class AdsClient {
  readonly #options: AdsOptions;
  readonly #subscriptions = new Map<string, Subscription>();
  readonly #backoff: Backoff;
  #stream: GrpcStream | undefined;
  #cancelRetry: (() => void) | undefined;
  #nodeSent = false;
  #stopped = false;
  #flushing = false;

  constructor(options: AdsOptions) {
    this.#options = options;
    this.#backoff = createBackoff({
      baseMs: XDS_BACKOFF_BASE_MS,
      maxMs: XDS_BACKOFF_MAX_MS,
      jitter: 0.5,
      random: options.random,
    });
  }

  start(): void {
    this.#connect();
  }

  stop(): void {
    this.#stopped = true;
    this.#cancelRetry?.();
    this.#stream?.close();
  }

  /** Begins to ask for a type; `names` are ignored for wildcard types. */
  subscribe(handler: TypeHandler, names: Iterable<string> = []): void {
    this.#subscriptions.set(handler.typeUrl, {
      handler,
      names: new Set(names),
      told: new Set(),
      started: false,
      versions: new Map(),
      version: '',
      nonce: '',
    });
    this.#scheduleFlush();
  }

  /** Replaces the names asked for. */
  setNames(typeUrl: string, names: ReadonlySet<string>): void {
    const subscription = this.#subscriptions.get(typeUrl);
    if (!subscription) return;
    subscription.names = new Set(names);
    for (const name of subscription.versions.keys()) if (!names.has(name)) subscription.versions.delete(name);
    this.#scheduleFlush();
  }

  get connected(): boolean {
    return this.#stream !== undefined;
  }

  #connect(): void {
    const { options } = { options: this.#options };
    const address = options.address();
    if (!address) {
      this.#lost('the discovery cluster has no endpoint');
      return;
    }
    this.#nodeSent = false;
    for (const subscription of this.#subscriptions.values()) {
      subscription.started = false;
      subscription.told = new Set();
      subscription.nonce = '';
    }
    const connected = options.stats.gauge('control_plane.connected_state');
    const stream = openGrpcStream({
      address,
      method: options.delta ? DELTA_METHOD : SOTW_METHOD,
      metadata: options.metadata,
      onMessage: (bytes) => {
        this.#backoff.reset();
        connected.value = 1;
        this.#receive(bytes);
      },
      onClose: (reason) => {
        if (this.#stream !== stream) return;
        this.#stream = undefined;
        connected.value = 0;
        this.#lost(reason);
      },
    });
    this.#stream = stream;
    this.#scheduleFlush();
  }

  #lost(reason: string): void {
    if (this.#stopped) return;
    const wait = this.#backoff.next();
    this.#options.log.warn('discovery stream closed, the last configuration stays', {
      reason,
      retryMs: Math.round(wait),
    });
    for (const subscription of this.#subscriptions.values()) this.#count(subscription, 'update_failure');
    this.#cancelRetry = this.#options.clock.after(wait, () => this.#connect());
  }

  /** Changes of one turn become one request a type. */
  #scheduleFlush(): void {
    if (this.#flushing) return;
    this.#flushing = true;
    queueMicrotask(() => {
      this.#flushing = false;
      if (!this.#stream) return;
      for (const subscription of this.#subscriptions.values()) this.#tell(subscription);
    });
  }

  #tell(subscription: Subscription): void {
    const { handler, names, told } = subscription;
    const first = !subscription.started;
    // A named type without names: nothing to ask yet.
    if (first && !handler.wildcard && names.size === 0) return;
    const added = [...names].filter((name) => !told.has(name));
    const gone = [...told].filter((name) => !names.has(name));
    if (!first && added.length === 0 && gone.length === 0) return;
    subscription.started = true;
    subscription.told = new Set(names);
    this.#count(subscription, 'update_attempt');
    if (this.#options.delta) {
      this.#sendDelta(subscription, {
        resourceNamesSubscribe: added,
        resourceNamesUnsubscribe: gone,
        initialResourceVersions: first ? Object.fromEntries(subscription.versions) : {},
      });
    } else this.#sendSotw(subscription, undefined);
  }

  #sendDelta(
    subscription: Subscription,
    fields: {
      readonly resourceNamesSubscribe?: string[];
      readonly resourceNamesUnsubscribe?: string[];
      readonly initialResourceVersions?: Record<string, string>;
      readonly responseNonce?: string;
      readonly errorDetail?: ReturnType<typeof nackStatus>;
    },
  ): void {
    const request = create(DeltaDiscoveryRequestSchema, {
      typeUrl: subscription.handler.typeUrl,
      ...this.#node(),
      ...fields,
    });
    this.#stream?.send(toBinary(DeltaDiscoveryRequestSchema, request));
  }

  #sendSotw(subscription: Subscription, errorDetail: ReturnType<typeof nackStatus> | undefined): void {
    const request = create(DiscoveryRequestSchema, {
      typeUrl: subscription.handler.typeUrl,
      ...this.#node(),
      resourceNames: [...subscription.names],
      versionInfo: subscription.version,
      responseNonce: subscription.nonce,
      ...(errorDetail ? { errorDetail } : {}),
    });
    this.#stream?.send(toBinary(DiscoveryRequestSchema, request));
  }

  #node(): { node?: Node } {
    if (this.#nodeSent) return {};
    this.#nodeSent = true;
    return { node: this.#options.node };
  }

  #receive(bytes: Buffer): void {
    try {
      if (this.#options.delta) this.#receiveDelta(bytes);
      else this.#receiveSotw(bytes);
    } catch (error) {
      this.#options.log.error('discovery answer cannot be read', { error: errorText(error) });
      this.#stream?.close();
    }
  }

  #receiveDelta(bytes: Buffer): void {
    const response = fromBinary(DeltaDiscoveryResponseSchema, bytes);
    const subscription = this.#subscriptions.get(response.typeUrl);
    if (!subscription) return;
    const resources: ReceivedResource[] = [];
    for (const resource of response.resources)
      if (resource.resource) resources.push({ name: resource.name, version: resource.version, any: resource.resource });
    const removed = response.removedResources;
    const rejected = this.#apply(subscription, {
      resources,
      removed,
      version: response.systemVersionInfo,
      complete: false,
    });
    const bad = new Set(rejected.map((rejection) => rejection.name));
    for (const { name, version } of resources) if (!bad.has(name)) subscription.versions.set(name, version);
    for (const name of removed) subscription.versions.delete(name);
    this.#sendDelta(subscription, {
      responseNonce: response.nonce,
      ...(rejected.length > 0 ? { errorDetail: nackStatus(rejected) } : {}),
    });
  }

  #receiveSotw(bytes: Buffer): void {
    const response = fromBinary(DiscoveryResponseSchema, bytes);
    const subscription = this.#subscriptions.get(response.typeUrl);
    if (!subscription) return;
    const resources = response.resources.map((any) => ({
      name: subscription.handler.nameOf(any),
      version: response.versionInfo,
      any,
    }));
    const rejected = this.#apply(subscription, {
      resources,
      removed: [],
      version: response.versionInfo,
      complete: subscription.handler.wildcard,
    });
    subscription.nonce = response.nonce;
    if (rejected.length === 0) subscription.version = response.versionInfo;
    // The answer carries the names wanted now; a change of this turn need not be told again.
    subscription.told = new Set(subscription.names);
    this.#sendSotw(subscription, rejected.length > 0 ? nackStatus(rejected) : undefined);
  }

  #apply(subscription: Subscription, update: ResourceUpdate): readonly Rejection[] {
    const rejected = [...duplicates(update.resources)];
    if (rejected.length === 0) rejected.push(...subscription.handler.apply(update));
    const { stats, clock, log } = this.#options;
    const prefix = subscription.handler.statPrefix;
    if (rejected.length > 0) {
      this.#count(subscription, 'update_rejected');
      log.warn('configuration refused, the last good one stays', {
        type: subscription.handler.typeUrl,
        reason: nackText(rejected),
      });
    } else {
      this.#count(subscription, 'update_success');
      stats.texts.set(`${prefix}version_text`, update.version);
      stats.gauge(`${prefix}version`).value = hashOf(update.version);
    }
    stats.gauge(`${prefix}update_time`).value = clock.now();
    return rejected;
  }

  #count(subscription: Subscription, name: string): void {
    this.#options.stats.counter(subscription.handler.statPrefix + name).value += 1;
  }
}

function* duplicates(resources: readonly ReceivedResource[]): Iterable<Rejection> {
  const seen = new Set<string>();
  for (const { name } of resources) {
    if (seen.has(name)) yield { name, reason: `duplicate resource ${name} found` };
    seen.add(name);
  }
}

function nackText(rejected: readonly Rejection[]): string {
  const text = rejected.map((rejection) => `${rejection.name}: ${rejection.reason}`).join('\n');
  return text.length > MAX_NACK_CHARS ? `${text.slice(0, MAX_NACK_CHARS)}…` : text;
}

/** code 13 = INTERNAL, as Envoy sends. */
export function nackStatus(rejected: readonly Rejection[]) {
  return create(StatusSchema, { code: 13, message: nackText(rejected) });
}

/** A number that changes with the text, within the range of exact doubles. */
export function hashOf(text: string): number {
  let hash = 0;
  for (let i = 0; i < text.length; i++) hash = (Math.imul(hash, 31) + text.charCodeAt(i)) | 0;
  return hash >>> 0;
}
