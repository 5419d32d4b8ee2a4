// Copies of a request for mirror policies: sent beside the real one, their answers thrown away. A mirror never slows the
// request down: what its upstream does not take is kept up to a bound, then the mirror is given up. Made by router-exchange.ts.
import type { Cluster } from '../cluster/cluster.ts';
import { RARE } from '../cluster/counters.ts';
import type { Hash64 } from '../cluster/hash64.ts';
import type { Host } from '../cluster/host.ts';
import type { LbContext, MetadataMatch, RoutingPriority } from '../cluster/lb-context.ts';
import type { SocketAddr } from '../config/address.ts';
import type { BodyKind } from '../http/codec.ts';
import type { HeaderMap } from '../http/header-map.ts';
import { H } from '../http/names.ts';
import type { HttpStream } from '../http/stream.ts';
import { originalDestination } from '../http/stream-info.ts';
import { MAX_MIRROR_BACKLOG_BYTES } from '../limits.ts';
import { applyEdits } from '../route/header-edits.ts';
import type { MirrorPolicy } from '../route/mirror.ts';
import type {
  OutgoingHead,
  PoolFailure,
  PoolWaiter,
  ResponseReceiver,
  UpstreamExchange,
  UpstreamReset,
} from '../upstream/exchange.ts';
import { countAnswer } from './router-stats.ts';

/** How the router finds clusters; the cluster manager. */
export interface ClusterFinder {
  find(name: string): Cluster | undefined;
}

/** Starts the mirrors of a request that is about to go upstream. Undefined when there is none. */
export function startMirrors(
  stream: HttpStream,
  policies: readonly MirrorPolicy[],
  clusters: ClusterFinder,
  timeoutMs: number,
): MirrorExchange[] | undefined {
  let out: MirrorExchange[] | undefined;
  const { random } = stream.manager.deps;
  for (const policy of policies) {
    const share = policy.share();
    if (share < 1 && random() >= share) continue;
    const name = policy.clusterHeader ? (stream.headers.get(policy.clusterHeader) ?? '') : policy.cluster;
    const cluster = clusters.find(name);
    if (!cluster) continue;
    out ??= [];
    out.push(new MirrorExchange(stream, policy, cluster, timeoutMs));
  }
  return out;
}

export class MirrorExchange implements OutgoingHead, PoolWaiter, ResponseReceiver, LbContext {
  // What goes out.
  readonly method: string;
  readonly path: string;
  readonly scheme: string;
  readonly headers: HeaderMap;
  readonly body: BodyKind;
  readonly upgrade = '';
  // What the load balancer reads.
  readonly destination: SocketAddr | undefined;
  readonly hash: Hash64 | undefined = undefined;
  readonly metadataMatch: MetadataMatch | undefined = undefined;
  readonly requestHeaders: HeaderMap;
  readonly avoid = undefined;
  readonly attempts = 0;
  readonly priority: RoutingPriority = 'default';
  readonly #cluster: Cluster;
  readonly #host: Host | undefined;
  #exchange: UpstreamExchange | undefined;
  #leaveQueue: (() => void) | undefined;
  #waiting: Buffer[] | undefined;
  #waitingBytes = 0;
  #ended = false;
  #trailers: HeaderMap | undefined;
  #backlogged = false;
  #done = false;
  /** It has a connection, and is among the active requests of its cluster. */
  #counted = false;
  #cancelTimeout: (() => void) | undefined;
  #cancelDuration: (() => void) | undefined;

  constructor(stream: HttpStream, policy: MirrorPolicy, cluster: Cluster, timeoutMs: number) {
    this.#cluster = cluster;
    this.method = stream.method;
    this.path = stream.path;
    this.scheme = stream.scheme;
    this.body = stream.body;
    this.#ended = stream.body === 'none';
    this.destination = originalDestination(stream.connection);
    this.headers = stream.headers.copy();
    this.requestHeaders = this.headers;
    applyEdits(policy.edits, this.headers, stream.info);
    const host = policy.hostRewrite || stream.authority;
    this.headers.set(H.host, policy.appendSuffix && policy.hostRewrite === '' ? shadowHost(host) : host);
    this.headers.set(H.envoyInternal, 'true');
    const before = this.headers.getAll(H.forwardedFor);
    const { localAddress } = stream.manager.deps.format;
    this.headers.set(H.forwardedFor, before === undefined ? localAddress : `${before},${localAddress}`);
    this.#host = cluster.pick(this);
    if (!this.#host || !cluster.breakers.requests.tryEnter()) {
      this.#done = true;
      return;
    }
    this.#host.beginRequest();
    const { clock } = stream.manager.deps;
    if (timeoutMs > 0)
      this.#cancelTimeout = clock.after(timeoutMs, () => {
        this.#cluster.counters.rqTimeout.value += 1;
        this.#giveUp();
      });
    const { maxStreamMs } = cluster.settings.http;
    if (maxStreamMs > 0)
      this.#cancelDuration = clock.after(maxStreamMs, () => {
        cluster.counters.rare.add(RARE.rqMaxDuration);
        this.#giveUp();
      });
    const leave = cluster
      .pool(this.#host, stream.upstreamAlpn, cluster.nameFor(this.headers, host), stream.protocol)
      ?.request(this);
    if (!leave) {
      this.#finish();
      return;
    }
    if (!this.#exchange && !this.#done) this.#leaveQueue = leave;
  }

  onRequestData(bytes: Buffer, start: number, end: number): void {
    if (this.#done) return;
    if (this.#exchange && !this.#backlogged) {
      this.#exchange.sendData(bytes, start, end);
      return;
    }
    this.#waitingBytes += end - start;
    if (this.#waitingBytes > MAX_MIRROR_BACKLOG_BYTES) {
      this.#giveUp();
      return;
    }
    this.#waiting ??= [];
    this.#waiting.push(Buffer.from(bytes.subarray(start, end)));
  }

  /** The request was sent whole, or ended before that: then its copy makes no sense either. */
  onRequestEnd(trailers?: HeaderMap): void {
    if (this.#done || this.#ended) return;
    this.#ended = true;
    this.#trailers = trailers?.copy();
    this.#flush();
  }

  onRequestCancelled(): void {
    if (!this.#ended) this.#giveUp();
  }

  // --- from the pool and the upstream

  onReady(exchange: UpstreamExchange): void {
    this.#leaveQueue = undefined;
    this.#exchange = exchange;
    this.#counted = true;
    if (this.#host) this.#host.rqTotal += 1;
    this.#cluster.counters.rqTotal.value += 1;
    this.#cluster.counters.rqActive.value += 1;
    exchange.begin(this, this);
    this.#flush();
  }

  onFailure(_failure: PoolFailure): void {
    this.#leaveQueue = undefined;
    this.#finish();
  }

  onResponseInformational(): void {}

  onResponseHead(status: number, _headers: HeaderMap, endStream: boolean): void {
    countAnswer(this.#cluster, status, true, false, '');
    if (endStream) this.onResponseEnd();
  }

  onResponseData(): void {}

  onResponseEnd(): void {
    this.#exchange = undefined;
    this.#finish();
  }

  onUpstreamReset(_reason: UpstreamReset): void {
    this.#exchange = undefined;
    this.#cluster.counters.rqRxReset.value += 1;
    this.#finish();
  }

  onRequestBacklog(full: boolean): void {
    this.#backlogged = full;
    if (!full) this.#flush();
  }

  #flush(): void {
    const exchange = this.#exchange;
    if (!exchange || this.#backlogged || this.#done) return;
    const waiting = this.#waiting;
    this.#waiting = undefined;
    this.#waitingBytes = 0;
    for (const chunk of waiting ?? []) exchange.sendData(chunk, 0, chunk.length);
    if (this.#ended && this.body !== 'none') exchange.sendEnd(this.#trailers);
  }

  #giveUp(): void {
    if (this.#done) return;
    this.#leaveQueue?.();
    const exchange = this.#exchange;
    this.#exchange = undefined;
    exchange?.cancel();
    this.#finish();
  }

  #finish(): void {
    if (this.#done) return;
    this.#done = true;
    this.#cancelTimeout?.();
    this.#cancelDuration?.();
    this.#waiting = undefined;
    const cluster = this.#cluster;
    cluster.breakers.requests.leave();
    if (this.#counted) cluster.counters.rqActive.value -= 1;
    this.#host?.endRequest();
  }
}

/** `-shadow` behind the name, before a port. */
function shadowHost(authority: string): string {
  const port = /:\d+$/.exec(authority);
  return port ? `${authority.slice(0, port.index)}-shadow${port[0]}` : `${authority}-shadow`;
}
