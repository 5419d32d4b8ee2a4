// One listener: accepts connections, finds out what they are, gives them to a filter chain; its chains can be swapped
// while connections live on. Owned by the listener manager.
import type { Socket } from 'node:net';
import type { JsonObject } from '@bufbuild/protobuf';
import type { Listener as ListenerMessage } from '#proto/envoy/config/listener/v3/listener_pb.js';
import type { LogEntry } from '../access-log/logger.ts';
import { metadataOf, NO_METADATA } from '../cluster/endpoints.ts';
import { addressText, type SocketAddr } from '../config/address.ts';
import type { ChainContext, FilterChain } from '../filter-chain/chain.ts';
import { ChainTable } from '../filter-chain/match.ts';
import { type ConnectionInfo, FLAG, LOG_TYPE, StreamInfo } from '../http/stream-info.ts';
import { originalDestination } from '../listener-filter/original-dst.ts';
import { type ProxyCounters, type ProxyProtocolSettings, proxyCounters } from '../listener-filter/proxy-protocol.ts';
import { type ListenerFilterSource, listenerFilters } from '../listener-filter/settings.ts';
import type { Pressure, PressureView } from '../overload/pressure.ts';
import { StatsScope } from '../stats/stats.ts';
import type { Places } from '../tally/places.ts';
import { handleOf } from '../transport-socket/read-buffer.ts';
import { resetSocket, SocketTransport } from '../transport-socket/socket-transport.ts';
import { acceptTls } from '../transport-socket/tls-accept.ts';
import { TlsCounters } from '../transport-socket/tls-stats.ts';
import type { Transport } from '../transport-socket/transport.ts';
import { type Arrival, endpoint, proxiedArrival } from './arrival.ts';
import { type BuiltChains, buildChains } from './build-chains.ts';
import type { Capture } from './capture.ts';
import { type Drain, startDrain } from './drain.ts';
import { type HelloFault, type Inspection, inspect, NOT_INSPECTED } from './inspect.ts';
import { InspectorCounters } from './inspector-counters.ts';
import { type ListenerSettings, readListener } from './settings.ts';

export interface ListenerDeps extends Omit<ChainContext, 'direction' | 'load' | 'onMissingConfig' | 'listenerScope'> {
  /** Where a connection to `destination` belongs when this listener hands off. */
  readonly handOff: (destination: SocketAddr, from: Listener) => Listener | undefined;
  readonly nextConnectionId: () => number;
  /** Connections of all listeners that count against the limit. */
  readonly connections: ConnectionLimit;
  /** How connections of removed chains end. */
  readonly drain: { readonly drainMs: number; readonly strategy: 'gradual' | 'immediate' };
  readonly pressure: Pressure;
  readonly capture?: Capture | undefined;
}

/** Connections of all listeners. */
export interface ConnectionLimit {
  readonly max: number;
  readonly places: Places;
}

function counters(scope: StatsScope) {
  return {
    total: scope.counter('downstream_cx_total'),
    active: scope.gauge('downstream_cx_active'),
    destroy: scope.counter('downstream_cx_destroy'),
    length: scope.histogram('downstream_cx_length_ms'),
    filterRemoteClose: scope.counter('downstream_listener_filter_remote_close'),
    preTimeout: scope.counter('downstream_pre_cx_timeout'),
    preActive: scope.gauge('downstream_pre_cx_active'),
    noChain: scope.counter('no_filter_chain_match'),
    globalOverflow: scope.counter('downstream_global_cx_overflow'),
    overloadReject: scope.counter('downstream_cx_overload_reject'),
    connectTimeout: scope.counter('downstream_cx_transport_socket_connect_timeout'),
  };
}

interface ProxyFilter {
  readonly settings: ProxyProtocolSettings;
  readonly counters: ProxyCounters;
}

export class Listener {
  readonly name: string;
  readonly settings: ListenerSettings;
  readonly scope: StatsScope;
  message: ListenerMessage;
  readonly #deps: ListenerDeps;
  readonly #counters: ReturnType<typeof counters>;
  readonly #inspectors: InspectorCounters;
  #tlsCounters: TlsCounters | undefined;
  readonly #log: LogEntry | undefined;
  readonly #filters: ListenerFilterSource;
  #chains: readonly FilterChain[];
  #default: FilterChain | undefined;
  #table: ChainTable<FilterChain>;
  #proxy: ProxyFilter | undefined;
  #drained = false;

  /** Throws ConfigError and leaves nothing. `reuse`: chains of the previous version that did not change keep their connections. */
  static create(
    message: ListenerMessage,
    deps: ListenerDeps,
    path: string,
    reuse: readonly FilterChain[] = [],
  ): Listener {
    const settings = readListener(message, path);
    const scope = new StatsScope(deps.stats, `listener.${statName(message, settings)}.`);
    try {
      return new Listener(message, settings, scope, deps, path, reuse);
    } catch (error) {
      scope.drop();
      throw error;
    }
  }

  private constructor(
    message: ListenerMessage,
    settings: ListenerSettings,
    scope: StatsScope,
    deps: ListenerDeps,
    path: string,
    reuse: readonly FilterChain[],
  ) {
    this.message = message;
    this.#deps = deps;
    this.settings = settings;
    this.name = message.name;
    this.scope = scope;
    this.#log = deps.logs.build(message.accessLog, path);
    const load: PressureView = {
      pressure: deps.pressure,
      drainsOnFailingHealth: !this.settings.modifyOnly,
      bypass: this.settings.bypassOverload,
    };
    this.#filters = listenerFilters(message.listenerFilters, deps.extensions, path);
    const built = this.#buildChains(load, path, reuse);
    this.#chains = built.chains;
    this.#default = built.fallback;
    this.#table = new ChainTable(this.#chains.map((chain) => [chain.match, chain] as const));
    this.#counters = counters(this.scope);
    this.#inspectors = new InspectorCounters(deps.stats);
    const filters = this.#filters.current();
    this.#inspectors.prepare(filters?.tls !== undefined, filters?.http !== undefined);
    if ([...this.#chains, this.#default].some((chain) => chain?.tls)) this.#tls();
  }

  #tls(): TlsCounters {
    this.#tlsCounters ??= new TlsCounters(this.scope, true);
    return this.#tlsCounters;
  }

  #buildChains(load: PressureView, path: string, reuse: readonly FilterChain[]): BuiltChains {
    const onMissingConfig = (): void => {
      this.scope.counter('network_extension_config_missing').value += 1;
    };
    const { direction } = this.settings;
    try {
      return buildChains(
        this.message,
        { ...this.#deps, direction, load, onMissingConfig, listenerScope: this.scope },
        path,
        reuse,
      );
    } catch (error) {
      this.#filters.release();
      throw error;
    }
  }

  chains(): readonly FilterChain[] {
    return this.#default ? [...this.#chains, this.#default] : this.#chains;
  }

  /** Names of secrets and routes this listener waits for. */
  awaited(): string[] {
    const filters = this.#filters.awaits.flatMap((live) => (live.ready() ? [] : [live.name]));
    return [...filters, ...this.chains().flatMap((chain) => chain.awaited())];
  }

  listen(changed: () => void): () => void {
    const filters = this.#filters.awaits.map((live) => live.listen(changed));
    const stops = [...filters, ...this.chains().map((chain) => chain.listen(changed))];
    return () => {
      for (const stop of stops) stop();
    };
  }

  /**
   * Takes the chains of `next` (same settings and filters); chains that are in both keep their connections, others drain. True:
   * there are such.
   */
  adopt(next: Listener): boolean {
    const before = this.chains();
    next.#filters.release();
    // Of the same name, and so of the same statistics.
    next.scope.drop();
    this.message = next.message;
    this.#chains = next.#chains;
    this.#default = next.#default;
    this.#table = next.#table;
    const kept = new Set(this.chains());
    const dropped = before.filter((chain) => !kept.has(chain));
    this.#drainChains(dropped);
    return dropped.length > 0;
  }

  /** This listener was replaced or removed. */
  drain(): void {
    if (this.#drained) return;
    this.#drained = true;
    this.#filters.release();
    this.#drainChains(this.chains(), () => this.scope.drop());
  }

  /** Responses close their connections as `drain` says, but new ones are still accepted (/drain_listeners?graceful). */
  drainGracefully(drain: Drain): void {
    for (const chain of this.chains()) chain.built.handler.drain(drain);
  }

  /** Forgets chains made for a version that will not be used, except those in `kept`. */
  discard(kept: readonly FilterChain[]): void {
    this.#filters.release();
    for (const chain of this.chains()) if (!kept.includes(chain)) chain.dispose();
    this.scope.drop();
  }

  #drainChains(chains: readonly FilterChain[], ended: () => void = () => {}): void {
    const { clock, random, drain } = this.#deps;
    const running = startDrain({ ...drain, clock, random });
    let left = chains.length;
    if (left === 0) ended();
    for (const chain of chains) {
      chain.built.handler.drain(running);
      const end = (): void => {
        chain.built.handler.closeAll();
        chain.dispose();
        left -= 1;
        if (left === 0) ended();
      };
      if (chain.built.handler.active === 0) end();
      else clock.after(drain.drainMs, end);
    }
  }

  // --- connections

  accept(socket: Socket): void {
    const directLocal = endpoint(socket.localAddress, socket.localPort);
    const captured = this.#deps.capture?.arrival(socket);
    const remote = captured?.remote ?? endpoint(socket.remoteAddress, socket.remotePort);
    let local = captured?.local ?? directLocal;
    const filter = this.#filters.current()?.originalDst;
    const port = directLocal.kind === 'ip' ? directLocal.port : 0;
    if (filter && !captured && !filter(port)) {
      const fd = handleOf(socket)?.fd ?? -1;
      local = originalDestination(fd, directLocal.kind === 'ip' && directLocal.ip.includes(':')) ?? directLocal;
    }
    const arrival: Arrival = { at: this.#deps.clock.now(), socket, remote, directRemote: remote, directLocal, local };
    const other = this.settings.useOriginalDst && local !== directLocal ? this.#deps.handOff(local, this) : undefined;
    (other ?? this).#inspect(arrival);
  }

  #inspect(arrival: Arrival): void {
    const { settings } = this;
    const { connections } = this.#deps;
    if (!settings.ignoreGlobalLimit && !connections.places.tryEnter(connections.max)) {
      this.#counters.globalOverflow.value += 1;
      resetSocket(arrival.socket);
      return;
    }
    const { pressure } = this.#deps;
    if (pressure.any && !settings.bypassOverload && this.#deps.random() < pressure.refuseConnections) {
      if (!settings.ignoreGlobalLimit) connections.places.leave();
      this.#counters.overloadReject.value += 1;
      resetSocket(arrival.socket);
      return;
    }
    const filters = this.#filters.current();
    if (!filters) {
      // Nobody knows what the connection has to pass.
      this.scope.counter('extension_config_missing').value += 1;
      arrival.socket.destroy();
      this.#dropped(arrival, NOT_INSPECTED);
      return;
    }
    const port = arrival.local.kind === 'ip' ? arrival.local.port : 0;
    const tls = filters.tls !== undefined && !filters.tls(port);
    const http = filters.http !== undefined && !filters.http(port);
    const proxy = filters.proxy && !filters.proxy.disabled(port) ? this.#proxyOf(filters.proxy.settings) : undefined;
    if (!tls && !http && !proxy) {
      this.#choose(arrival, NOT_INSPECTED);
      return;
    }
    this.#counters.preActive.value += 1;
    const { inspection } = filters;
    const wanted = { tls, http, inspection, proxy, timeoutMs: settings.filtersTimeoutMs };
    inspect(arrival.socket, wanted, this.#deps.clock, (result) => {
      this.#counters.preActive.value -= 1;
      const seen = result.proxied ? proxiedArrival(arrival, result.proxied, filters) : arrival;
      if (result.outcome === 'closed') {
        this.#counters.filterRemoteClose.value += 1;
        return this.#dropped(seen, result);
      }
      if (result.outcome === 'refused') {
        if (result.fault) this.#inspectors.refused(result.fault);
        resetSocket(arrival.socket);
        return this.#dropped(seen, result);
      }
      if (result.outcome === 'timeout') {
        this.#counters.preTimeout.value += 1;
        if (!settings.continueOnTimeout) {
          if (result.bytes) resetSocket(arrival.socket);
          else arrival.socket.destroy();
          return this.#dropped(seen, result);
        }
      }
      if (result.outcome === 'done') this.#inspectors.found(result, tls, http);
      this.#choose(seen, result);
    });
  }

  #proxyOf(settings: ProxyProtocolSettings): ProxyFilter {
    if (this.#proxy?.settings !== settings)
      this.#proxy = { settings, counters: proxyCounters(settings, this.#deps.stats) };
    return this.#proxy;
  }

  #leave(): void {
    if (!this.settings.ignoreGlobalLimit) this.#deps.connections.places.leave();
  }

  #gone(arrival: Arrival): void {
    this.#leave();
    this.#counters.active.value -= 1;
    this.#counters.destroy.value += 1;
    this.#counters.length.record(this.#deps.clock.now() - arrival.at);
  }

  /** A connection that never got as far as a filter chain: it does not count as one. */
  #dropped(arrival: Arrival, inspection: Inspection): void {
    this.#log?.(this.#ended(this.#info(arrival, inspection, undefined, undefined), arrival));
    this.#leave();
  }

  /** What the log says of a connection that has no stream of its own. */
  #ended(connection: ConnectionInfo, arrival: Arrival): StreamInfo {
    const info = new StreamInfo(connection, arrival.at);
    info.duration = this.#deps.clock.now() - arrival.at;
    info.metadata = connection.metadata;
    return info;
  }

  #choose(arrival: Arrival, inspection: Inspection): void {
    const input = {
      destination: arrival.local,
      source: arrival.remote,
      serverName: inspection.serverName,
      transportProtocol: inspection.transportProtocol,
      alpn: inspection.alpn,
    };
    const chain = this.#table.find(input) ?? this.#default;
    if (!chain) {
      this.#refuse(arrival, inspection);
      return;
    }
    this.#counters.total.value += 1;
    this.#counters.active.value += 1;
    if (!chain.tls) {
      const { local, remote } = arrival;
      this.#serve(
        chain,
        arrival,
        inspection,
        new SocketTransport(arrival.socket, { local, remote, initial: inspection.bytes }),
      );
      return;
    }
    if (inspection.transportProtocol === 'tls') {
      this.#handshake(chain, arrival, inspection, inspection);
      return;
    }
    // The chain speaks TLS but nobody looked: read the ClientHello now, for its ALPN list. Policies and logs learn nothing of it:
    // that is the inspector's work, as in Envoy.
    if (inspection.bytes) {
      this.#handshake(chain, arrival, inspection, inspection);
      return;
    }
    inspect(
      arrival.socket,
      { tls: true, http: false, timeoutMs: chain.handshakeMs, halfClosed: true },
      this.#deps.clock,
      (result) => {
        // What is no hello is the handshake's to refuse.
        if (result.outcome === 'done' || result.outcome === 'refused')
          return this.#handshake(chain, arrival, inspection, result);
        arrival.socket.destroy();
        this.#gone(arrival);
      },
    );
  }

  /** No chain: the client gets RST for a request that nobody read (curl: 56). */
  #refuse(arrival: Arrival, inspection: Inspection): void {
    this.#counters.noChain.value += 1;
    const info = this.#ended(this.#info(arrival, inspection, undefined, undefined), arrival);
    info.flags = FLAG.NR;
    info.responseDetails = 'filter_chain_not_found';
    this.#log?.(info);
    resetSocket(arrival.socket);
    this.#leave();
  }

  /** `hello`: what the handshake goes by, whoever read it. */
  #handshake(chain: FilterChain, arrival: Arrival, inspection: Inspection, hello: Inspection): void {
    const helloAt = this.#deps.clock.now();
    let giveUp = (): void => {};
    const cancel = this.#deps.clock.after(chain.handshakeMs, () => {
      this.#counters.connectTimeout.value += 1;
      giveUp();
    });
    giveUp = acceptTls({
      socket: arrival.socket,
      initial: hello.bytes,
      tls: chain.tls!,
      hello,
      counters: this.#tls(),
      local: arrival.local,
      remote: arrival.remote,
      exchange: chain.built.exchange,
      peerChain: chain.built.peerChain,
      done: (transport, reason) => {
        cancel();
        if (!transport) return this.#handshakeFailed(arrival, inspection, chain, reason);
        this.#serve(chain, arrival, inspection, transport, helloAt);
      },
    });
  }

  #handshakeFailed(arrival: Arrival, inspection: Inspection, chain: FilterChain, reason: string): void {
    const info = this.#ended(this.#info(arrival, inspection, chain, undefined), arrival);
    info.connectionTermination = reason.replaceAll(' ', '_');
    this.#log?.(info);
    this.#gone(arrival);
  }

  #serve(chain: FilterChain, arrival: Arrival, inspection: Inspection, transport: Transport, helloAt?: number): void {
    const info = this.#info(arrival, inspection, chain, transport.tls, helloAt);
    const log = this.#log;
    chain.built.handler.accept(transport, info, (facts) => {
      if (log) {
        const ended = facts ?? this.#ended(info, arrival);
        if (!facts) {
          ended.bytesReceived = transport.bytesRead;
          ended.bytesSent = transport.bytesWritten;
        }
        ended.logType = LOG_TYPE.notSet;
        log(ended);
      }
      this.#gone(arrival);
    });
  }

  #info(
    arrival: Arrival,
    inspection: Inspection,
    chain: FilterChain | undefined,
    tls: ConnectionInfo['tls'],
    helloAt?: number,
  ): ConnectionInfo {
    return {
      id: this.#deps.nextConnectionId(),
      local: arrival.local,
      directLocal: arrival.directLocal,
      remote: arrival.remote,
      directRemote: arrival.directRemote,
      requestedServerName: inspection.serverName,
      transportProtocol: inspection.transportProtocol,
      alpn: inspection.alpn,
      proxyTlvs: arrival.proxyTlvs,
      fingerprints: inspection.fingerprints,
      tls,
      listenerName: this.name,
      chainName: chain?.name ?? '',
      listenerMetadata: metadataOf(this.message.metadata),
      chainMetadata: chain?.metadata ?? NO_METADATA,
      acceptedAt: arrival.at,
      helloAt,
      handshakeAt: tls && this.#deps.clock.now(),
      direction: this.settings.direction,
      logged: this.#log !== undefined,
      localCloseReason: '',
      resetBy: undefined,
      state: new Map(),
      metadata: withFault(new Map(arrival.metadata), inspection.fault),
    };
  }
}

const FAULTS: Readonly<Record<HelloFault, JsonObject>> = {
  ClientHelloNotDetected: { failure_reason: 'ClientHelloNotDetected' },
  ClientHelloTooLarge: { failure_reason: 'ClientHelloTooLarge' },
};

function withFault(metadata: Map<string, JsonObject>, fault: HelloFault | undefined): Map<string, JsonObject> {
  return fault ? metadata.set('envoy.filters.listener.tls_inspector', FAULTS[fault]) : metadata;
}

/** Envoy's stat name of a listener: the prefix if given, else its address with `_` for `:`. */
function statName(message: ListenerMessage, settings: ListenerSettings): string {
  return message.statPrefix || addressText(settings.addresses[0]).replaceAll(':', '_');
}
