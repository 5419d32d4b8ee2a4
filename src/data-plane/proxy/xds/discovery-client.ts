// A discovery stream, aggregated or for one type, incremental or state-of-the-world: subscriptions, ACK and NACK, TTLs,
// reconnection. What a resource means is the business of the receivers. Opened by hub.ts.
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import type { Node } from '#proto/envoy/config/core/v3/base_pb.js';
import {
  DeltaDiscoveryRequestSchema,
  DeltaDiscoveryResponseSchema,
  DiscoveryRequestSchema,
  DiscoveryResponseSchema,
} from '#proto/envoy/service/discovery/v3/discovery_pb.js';
import { type Backoff, createBackoff } from '../../../base/runtime/backoff.ts';
import type { Clock } from '../../../base/runtime/clock.ts';
import { errorText, type Logger } from '../../../base/runtime/log.ts';
import { ConfigError, millis } from '../config/fields.ts';
import { MAX_XDS_RESOURCES } from '../limits.ts';
import type { StatsStore } from '../stats/stats.ts';
import type { GrpcStream } from '../upstream/grpc-client.ts';
import { createRate, type Rate } from './rate.ts';
import type { GrpcSource } from './source.ts';
import { TtlTable } from './ttl.ts';
import {
  duplicates,
  nackStatus,
  nackText,
  type ReceivedResource,
  type Receiver,
  type Rejection,
  type ResourceUpdate,
  unwrap,
} from './update.ts';

export interface DiscoveryOptions {
  readonly source: GrpcSource;
  /** `/package.Service/Method` of the stream. */
  readonly method: string;
  /** Opens a stream to the discovery cluster; undefined when it has no usable endpoint. */
  readonly open: (call: {
    readonly source: GrpcSource;
    readonly method: string;
    onMessage(bytes: Buffer): void;
    onClose(reason: string): void;
  }) => GrpcStream | undefined;
  readonly node: Node;
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Logger;
  readonly stats: StatsStore;
  /** Prefix of `connected_state`; undefined: it is not kept. */
  readonly statPrefix: string | undefined;
}

interface Subscription {
  readonly receiver: Receiver;
  readonly wildcard: boolean;
  names: ReadonlySet<string>;
  /** What the server was told on this stream. */
  told: Set<string>;
  started: boolean;
  /** Versions held, by name (incremental). */
  readonly versions: Map<string, string>;
  readonly ttl: TtlTable;
  version: string;
  nonce: string;
}

export class DiscoveryClient {
  readonly #options: DiscoveryOptions;
  readonly #delta: boolean;
  readonly #subscriptions = new Map<string, Subscription>();
  readonly #backoff: Backoff;
  readonly #rate: Rate;
  #stream: GrpcStream | undefined;
  #cancelRetry: (() => void) | undefined;
  #nodeSent = false;
  #started = false;
  #stopped = false;
  #flushing = false;

  constructor(options: DiscoveryOptions) {
    const { source, random, clock } = options;
    this.#options = options;
    this.#delta = source.delta;
    this.#backoff = createBackoff({ baseMs: source.backoffBaseMs, maxMs: source.backoffMaxMs, jitter: 0.5, random });
    this.#rate = createRate(source.rate, clock, options.stats.counter('control_plane.rate_limit_enforced'));
  }

  start(): void {
    if (this.#started || this.#stopped) return;
    this.#started = true;
    this.#connect();
  }

  stop(): void {
    this.#stopped = true;
    this.#cancelRetry?.();
    this.#rate.stop();
    for (const subscription of this.#subscriptions.values()) subscription.ttl.clear();
    this.#stream?.close();
  }

  /** Begins to ask for a type; `names` undefined: for all there are. */
  subscribe(receiver: Receiver, names: ReadonlySet<string> | undefined): void {
    const { clock } = this.#options;
    const ttl = new TtlTable(clock, (name) => this.#expired(receiver.typeUrl, name));
    this.#subscriptions.set(receiver.typeUrl, {
      receiver,
      wildcard: names === undefined,
      names: names ?? new Set(),
      told: new Set(),
      started: false,
      versions: new Map(),
      ttl,
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
    for (const name of subscription.versions.keys())
      if (!names.has(name)) {
        subscription.versions.delete(name);
        subscription.ttl.drop(name);
      }
    this.#scheduleFlush();
  }

  #connect(): void {
    const { options } = { options: this.#options };
    this.#nodeSent = false;
    for (const subscription of this.#subscriptions.values()) {
      subscription.started = false;
      subscription.told = new Set();
      subscription.nonce = '';
    }
    const connected =
      options.statPrefix === undefined ? undefined : options.stats.gauge(`${options.statPrefix}connected_state`);
    const stream = options.open({
      source: options.source,
      method: options.method,
      onMessage: (bytes) => {
        this.#backoff.reset();
        if (connected) connected.value = 1;
        this.#receive(bytes);
      },
      onClose: (reason) => {
        if (this.#stream !== stream) return;
        this.#stream = undefined;
        if (connected) connected.value = 0;
        this.#lost(reason);
      },
    });
    if (!stream) {
      this.#lost(`cluster '${options.source.cluster}' has no usable endpoint`);
      return;
    }
    this.#stream = stream;
    this.#scheduleFlush();
  }

  #lost(reason: string): void {
    if (this.#stopped) return;
    const wait = this.#backoff.next();
    this.#options.log.warn('discovery stream closed, the last configuration stays', {
      cluster: this.#options.source.cluster,
      reason,
      retryMs: Math.round(wait),
    });
    for (const { receiver } of this.#subscriptions.values()) receiver.failed(reason);
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
    const { wildcard, names, told } = subscription;
    const first = !subscription.started;
    // A named type without names: nothing to ask yet.
    if (first && !wildcard && names.size === 0) return;
    const added = [...names].filter((name) => !told.has(name));
    const gone = [...told].filter((name) => !names.has(name));
    if (!first && added.length === 0 && gone.length === 0) return;
    subscription.started = true;
    subscription.told = new Set(names);
    subscription.receiver.attempted();
    if (this.#delta) {
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
      typeUrl: subscription.receiver.typeUrl,
      ...this.#node(),
      ...fields,
    });
    this.#send(toBinary(DeltaDiscoveryRequestSchema, request));
  }

  #sendSotw(subscription: Subscription, errorDetail: ReturnType<typeof nackStatus> | undefined): void {
    const request = create(DiscoveryRequestSchema, {
      typeUrl: subscription.receiver.typeUrl,
      ...this.#node(),
      resourceNames: [...subscription.names],
      versionInfo: subscription.version,
      responseNonce: subscription.nonce,
      ...(errorDetail ? { errorDetail } : {}),
    });
    this.#send(toBinary(DiscoveryRequestSchema, request));
  }

  #send(bytes: Uint8Array): void {
    const stream = this.#stream;
    this.#rate.run(() => {
      if (stream && this.#stream === stream) stream.send(bytes);
    });
  }

  #node(): { node?: Node } {
    if (this.#nodeSent && this.#options.source.nodeOnce) return {};
    this.#nodeSent = true;
    return { node: this.#options.node };
  }

  #receive(bytes: Buffer): void {
    try {
      if (this.#delta) this.#receiveDelta(bytes);
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
    this.#identify(response.controlPlane?.identifier);
    const resources = response.resources.map((resource) => ({
      name: resource.name,
      version: resource.version,
      any: resource.resource,
      aliases: resource.aliases,
      ttlMs: resource.ttl ? millis(resource.ttl, 0) : undefined,
    }));
    const removed = response.removedResources;
    const version = response.systemVersionInfo;
    const rejected = this.#apply(subscription, { resources, removed, version, complete: false });
    const bad = new Set(rejected.map((rejection) => rejection.name));
    for (const resource of resources) {
      if (bad.has(resource.name)) continue;
      subscription.versions.set(resource.name, resource.version);
      subscription.ttl.set(resource.name, resource.ttlMs);
    }
    for (const name of removed) {
      subscription.versions.delete(name);
      subscription.ttl.drop(name);
    }
    this.#sendDelta(subscription, {
      responseNonce: response.nonce,
      ...(rejected.length > 0 ? { errorDetail: nackStatus(nackText(subscription.receiver, rejected)) } : {}),
    });
  }

  #receiveSotw(bytes: Buffer): void {
    const response = fromBinary(DiscoveryResponseSchema, bytes);
    const subscription = this.#subscriptions.get(response.typeUrl);
    if (!subscription) return;
    this.#identify(response.controlPlane?.identifier);
    const resources = response.resources.map((any) => {
      const resource = unwrap(any, response.versionInfo);
      return resource.name === '' && resource.any
        ? { ...resource, name: subscription.receiver.nameOf(resource.any) }
        : resource;
    });
    const rejected = this.#apply(subscription, {
      resources,
      removed: [],
      version: response.versionInfo,
      // Heartbeats of TTLs list only what they keep alive.
      complete: subscription.wildcard && !resources.some((resource) => resource.any === undefined),
    });
    const bad = new Set(rejected.map((rejection) => rejection.name));
    for (const resource of resources) if (!bad.has(resource.name)) subscription.ttl.set(resource.name, resource.ttlMs);
    subscription.nonce = response.nonce;
    if (rejected.length === 0) subscription.version = response.versionInfo;
    // The answer carries the names wanted now; a change of this turn need not be told again.
    subscription.told = new Set(subscription.names);
    this.#sendSotw(
      subscription,
      rejected.length > 0 ? nackStatus(nackText(subscription.receiver, rejected)) : undefined,
    );
  }

  /** Heartbeats only keep their resource alive: receivers do not see them. */
  #apply(subscription: Subscription, update: ResourceUpdate): readonly Rejection[] {
    const { receiver } = subscription;
    if (update.resources.length > MAX_XDS_RESOURCES)
      return [
        { name: '', reason: `${update.resources.length} resources in one answer; the limit is ${MAX_XDS_RESOURCES}` },
      ];
    const twice = [...duplicates(update.resources)];
    const resources = update.resources.filter((resource) => !isHeartbeat(resource));
    const rejected = twice.length > 0 ? twice : receiver.apply({ ...update, resources });
    if (rejected.length > 0)
      this.#options.log.warn('configuration refused, the last good one stays', {
        type: receiver.typeUrl,
        reason: nackText(receiver, rejected),
      });
    return rejected;
  }

  #expired(typeUrl: string, name: string): void {
    const subscription = this.#subscriptions.get(typeUrl);
    if (!subscription) return;
    subscription.versions.delete(name);
    this.#options.log.warn('resource outlived its TTL and is removed', { type: typeUrl, name });
    try {
      subscription.receiver.apply({ resources: [], removed: [name], version: subscription.version, complete: false });
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error;
    }
  }

  #identify(identifier: string | undefined): void {
    if (identifier && this.#options.statPrefix !== undefined)
      this.#options.stats.texts.set(`${this.#options.statPrefix}identifier`, identifier);
  }
}

/** Nothing but a name, which is still alive. VHDS says "no such host" with aliases. */
function isHeartbeat(resource: ReceivedResource): boolean {
  return resource.any === undefined && resource.aliases.length === 0;
}
