// What a forwarded request tells the load balancer: the route's wishes, its hash, and the hosts that were tried. The base of
// router-exchange.ts, so that a pick allocates nothing.
import type { JsonObject } from '@bufbuild/protobuf';
import type { Hash64 } from '../cluster/hash64.ts';
import type { Host } from '../cluster/host.ts';
import type { LbContext, MetadataMatch, RoutingPriority } from '../cluster/lb-context.ts';
import type { SocketAddr } from '../config/address.ts';
import type { HeaderMap } from '../http/header-map.ts';
import type { HttpStream } from '../http/stream.ts';
import { originalDestination } from '../http/stream-info.ts';
import type { ClusterChoice, ForwardSettings } from '../route/action.ts';
import { omitted, type RetrySettings } from '../route/retry.ts';

const NO_PRIORITIES: number[] = [];

export class RouterLbContext implements LbContext {
  readonly metadataMatch: MetadataMatch | undefined;
  readonly priority: RoutingPriority;
  avoid: ((host: Host) => boolean) | undefined;
  avoidPriorities: ReadonlySet<number> | undefined;
  attempts = 0;
  protected readonly stream: HttpStream;
  protected readonly action: ForwardSettings;
  /** Set-Cookie values that a hash policy made. */
  protected cookies: string[] | undefined;
  /** Hosts of all tries, when there may be several. */
  #tried: Set<Host> | undefined;
  /** previous_priorities: priorities of tries that are not left out yet, and after how many they are; 0 = never. */
  #priorities: number[] = NO_PRIORITIES;
  #priorityEvery = 0;
  #hash: Hash64 | undefined;
  #hashKnown = false;

  constructor(stream: HttpStream, action: ForwardSettings, choice: ClusterChoice) {
    this.stream = stream;
    this.action = action;
    this.metadataMatch = choice.metadataMatch;
    this.priority = action.priority;
  }

  get destination(): SocketAddr | undefined {
    return originalDestination(this.stream.connection);
  }

  get requestHeaders(): HeaderMap {
    return this.stream.headers;
  }

  metadataOf(filter: string): JsonObject | undefined {
    const { info, connection } = this.stream;
    return info.metadata?.get(filter) ?? connection.metadata.get(filter);
  }

  /** Only balancers that hash ask for it. */
  get hash(): Hash64 | undefined {
    const { hash } = this.action;
    if (this.#hashKnown || !hash) return this.#hash;
    this.#hashKnown = true;
    const { method, path, authority, scheme, headers, info, manager } = this.stream;
    const addCookie = (value: string): void => {
      this.cookies ??= [];
      this.cookies.push(value);
    };
    this.#hash = hash({ method, path, authority, scheme, headers, info, random: manager.deps.random, addCookie });
    return this.#hash;
  }

  /** Later tries keep away from hosts as the policy says. */
  protected follow(settings: RetrySettings): void {
    const tried = new Set<Host>();
    this.#tried = tried;
    this.attempts = settings.hostAttempts;
    this.#priorityEvery = settings.priorityEvery;
    if (settings.avoidPrevious || settings.omitCanary || settings.omitMetadata)
      this.avoid = (host) => tried.size > 0 && ((settings.avoidPrevious && tried.has(host)) || omitted(settings, host));
  }

  #notePriority(priority: number): void {
    this.#priorities = [...this.#priorities, priority];
    if (this.#priorities.length < this.#priorityEvery) return;
    this.avoidPriorities = new Set([...(this.avoidPriorities ?? []), ...this.#priorities]);
    this.#priorities = NO_PRIORITIES;
  }

  /** `host` is the one of the next try. */
  protected noteHost(host: Host, attempt: number): void {
    const { info, manager } = this.stream;
    const before = info.upstreamSpec;
    info.setHost(host.spec);
    info.upstreamAsked = manager.deps.clock.now();
    this.#tried?.add(host);
    if (this.#priorityEvery > 0) this.#notePriority(host.spec.priority);
    if (attempt < 2) return;
    info.upstreamTried ??= before ? [before] : [];
    info.upstreamTried.push(host.spec);
  }
}
