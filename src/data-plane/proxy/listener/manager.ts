// All listeners: adds, changes and removes them, keeps the old one serving until the new one has what it waits for,
// and binds their addresses. Fed by the bootstrap and by LDS.
import { createServer, type Server } from 'node:net';
import { toBinary } from '@bufbuild/protobuf';
import { type Listener as ListenerMessage, ListenerSchema } from '#proto/envoy/config/listener/v3/listener_pb.js';
import { errorText, type Logger } from '../../../base/runtime/log.ts';
import { addressText, type SocketAddr } from '../config/address.ts';
import { ConfigError } from '../config/fields.ts';
import { fingerprint } from '../config/fingerprint.ts';
import { systemReason } from '../system-words.ts';
import { AT_ONCE, startDrain } from './drain.ts';
import { listenOn } from './listen.ts';
import { Listener, type ListenerDeps } from './listener.ts';

export interface ManagerDeps extends Omit<ListenerDeps, 'handOff' | 'nextConnectionId'> {
  readonly log: Logger;
  /** How sockets are shared with other workers; absent: there are none. */
  readonly sockets?: SocketSharing | undefined;
}

/** Who binds, and who is told. */
export interface SocketSharing {
  /** False: others take the connections of all listeners (the main thread of workers). */
  readonly binds: boolean;
  /** False: somebody else binds what cannot be shared: Unix sockets, and ports without `enable_reuse_port`. */
  readonly bindsAlone: boolean;
  /** The port to bind for a socket whose port the kernel chooses; 0 = choose. */
  port(socket: string): Promise<number>;
  bound(socket: string, address: SocketAddr): void;
  /** Where a socket that others bound really is. */
  whereIs(socket: string): SocketAddr | undefined;
}

/** A listening socket; it outlives the listener when the next version has the same address. */
interface Binding {
  readonly address: SocketAddr;
  readonly server: Server;
  owner: Listener;
  bound: SocketAddr;
}

interface Entry {
  readonly name: string;
  readonly isStatic: boolean;
  active: Listener | undefined;
  warming: Listener | undefined;
  stopWaiting: (() => void) | undefined;
  print: string;
  bindings: Binding[];
  /** Drained by an operator. */
  stopped: boolean;
  /** Where it listened before it was stopped: still shown. */
  lastBound: readonly SocketAddr[];
}

/** One listener as the admin interface shows it. */
export interface ListenerView {
  readonly name: string;
  readonly isStatic: boolean;
  readonly active: Listener | undefined;
  readonly warming: Listener | undefined;
  /** Real addresses (port 0 is resolved). */
  readonly bound: readonly SocketAddr[];
}

export class ListenerManager {
  readonly #deps: ListenerDeps & { readonly sockets?: SocketSharing | undefined };
  readonly #log: Logger;
  readonly #entries = new Map<string, Entry>();
  #connections = 0;
  #started = false;
  #draining: 'none' | 'inbound' | 'all' = 'none';
  #changed: (() => void)[] = [];

  constructor(deps: ManagerDeps) {
    this.#log = deps.log;
    this.#deps = {
      ...deps,
      handOff: (destination, from) => this.#handOff(destination, from),
      nextConnectionId: () => {
        this.#connections += 1;
        return this.#connections;
      },
    };
    for (const name of ['added', 'modified', 'removed', 'stopped', 'in_place_updated', 'create_failure'])
      deps.stats.counter(`listener_manager.listener_${name}`);
  }

  /** Throws ConfigError and changes nothing when the message cannot be used. False = nothing to do. */
  apply(message: ListenerMessage, isStatic: boolean): boolean {
    const name = message.name;
    if (name === '') throw new ConfigError('name', 'listener has no name');
    const print = fingerprint(toBinary(ListenerSchema, message));
    const entry = this.#entries.get(name);
    if (entry?.isStatic && !isStatic) return false;
    if (entry?.print === print) return false;
    if (this.#blocked(message)) return false;
    if (this.#deps.sockets && message.connectionBalanceConfig)
      throw new ConfigError(
        `listener '${name}'.connection_balance_config`,
        'is not supported with --concurrency above 1: the kernel spreads connections over the workers',
      );
    const current = entry?.active;
    const reuse = entry ? [...(entry.active?.chains() ?? []), ...(entry.warming?.chains() ?? [])] : [];
    const next = Listener.create(message, this.#deps, `listener '${name}'`, reuse);
    const target = entry ?? this.#newEntry(name, isStatic);
    target.print = print;
    const discarded = target.warming;
    target.stopWaiting?.();
    target.stopWaiting = undefined;
    target.warming = next;
    discarded?.discard([...(current?.chains() ?? []), ...next.chains()]);
    this.#stat(current ? 'listener_modified' : 'listener_added');
    this.#tryActivate(target);
    return true;
  }

  remove(name: string): boolean {
    const entry = this.#entries.get(name);
    if (!entry || entry.isStatic) return false;
    this.#entries.delete(name);
    entry.stopWaiting?.();
    entry.warming?.discard(entry.active?.chains() ?? []);
    entry.active?.drain();
    this.#drains('total_listeners_draining');
    for (const binding of entry.bindings) binding.server.close();
    this.#stat('listener_removed');
    this.#gauges();
    return true;
  }

  dynamicNames(): string[] {
    return [...this.#entries.values()].filter((entry) => !entry.isStatic).map((entry) => entry.name);
  }

  views(): ListenerView[] {
    return [...this.#entries.values()].map((entry) => ({
      name: entry.name,
      isStatic: entry.isStatic,
      active: entry.active,
      warming: entry.warming,
      bound: this.#boundOf(entry),
    }));
  }

  #boundOf(entry: Entry): readonly SocketAddr[] {
    const { sockets } = this.#deps;
    if (!sockets || sockets.binds)
      return entry.stopped ? entry.lastBound : entry.bindings.map((binding) => binding.bound);
    return (entry.active?.settings.addresses ?? []).flatMap(
      (address) => sockets.whereIs(socketName(entry, address)) ?? [],
    );
  }

  find(name: string): Listener | undefined {
    return this.#entries.get(name)?.active;
  }

  /** True when no listener waits. */
  get warm(): boolean {
    return [...this.#entries.values()].every((entry) => entry.warming === undefined);
  }

  onChange(run: () => void): void {
    this.#changed.push(run);
  }

  /** Opens the static listeners before the rest: the readiness port must be able to say "not yet". */
  async startStatic(): Promise<void> {
    await Promise.all([...this.#entries.values()].filter((entry) => entry.isStatic).map((entry) => this.#bind(entry)));
  }

  /** Opens the sockets of all active listeners; later ones open theirs at once. Resolves when those of now listen. */
  async start(): Promise<void> {
    this.#started = true;
    await Promise.all([...this.#entries.values()].map((entry) => this.#bind(entry)));
    this.#deps.stats.gauge('listener_manager.workers_started').value = 1;
  }

  /**
   * /drain_listeners. At once: sockets close. Gracefully: connections end over the drain time, then sockets close, unless
   * `skipExit`, which leaves them open.
   */
  drain(how: { readonly inboundOnly: boolean; readonly graceful: boolean; readonly skipExit: boolean }): void {
    const { clock, random, drain } = this.#deps;
    const stop = (): void => this.#stopListening(how.inboundOnly);
    if (!how.graceful && !how.skipExit) {
      for (const entry of this.#drained(how.inboundOnly)) entry.active?.drainGracefully(AT_ONCE);
      stop();
      return;
    }
    const running = startDrain({ ...drain, clock, random });
    for (const entry of this.#drained(how.inboundOnly)) entry.active?.drainGracefully(running);
    if (!how.skipExit) clock.after(drain.drainMs, stop);
  }

  #drained(inboundOnly: boolean): Entry[] {
    return [...this.#entries.values()].filter(
      (entry) => !inboundOnly || entry.active?.settings.direction === 'inbound',
    );
  }

  #stopListening(inboundOnly: boolean): void {
    this.#draining = inboundOnly && this.#draining !== 'all' ? 'inbound' : 'all';
    for (const entry of this.#drained(inboundOnly)) {
      if (entry.active && !entry.stopped) this.#stat('listener_stopped');
      entry.stopped = true;
      for (const binding of entry.bindings) binding.server.close();
      if (entry.bindings.length > 0) entry.lastBound = entry.bindings.map((binding) => binding.bound);
      entry.bindings = [];
    }
    this.#gauges();
  }

  /** Ends everything at once. */
  stop(): void {
    for (const entry of this.#entries.values()) {
      entry.stopWaiting?.();
      for (const binding of entry.bindings) binding.server.close();
      for (const chain of entry.active?.chains() ?? []) chain.built.handler.closeAll();
    }
  }

  #newEntry(name: string, isStatic: boolean): Entry {
    const entry: Entry = {
      name,
      isStatic,
      active: undefined,
      warming: undefined,
      stopWaiting: undefined,
      print: '',
      bindings: [],
      stopped: false,
      lastBound: [],
    };
    this.#entries.set(name, entry);
    return entry;
  }

  /** After /drain_listeners, listeners of that direction are no longer changed. */
  #blocked(message: ListenerMessage): boolean {
    return this.#draining === 'all' || (this.#draining === 'inbound' && message.trafficDirection === 1);
  }

  #tryActivate(entry: Entry): void {
    const next = entry.warming;
    if (!next) return;
    if (next.awaited().length > 0) {
      entry.stopWaiting ??= next.listen(() => {
        if (entry.warming === next && next.awaited().length === 0) this.#activate(entry, next);
      });
      this.#gauges();
      return;
    }
    this.#activate(entry, next);
  }

  #activate(entry: Entry, next: Listener): void {
    entry.stopWaiting?.();
    entry.stopWaiting = undefined;
    entry.warming = undefined;
    const current = entry.active;
    if (current && current.settings.fingerprint === next.settings.fingerprint) {
      this.#stat('listener_in_place_updated');
      if (current.adopt(next)) this.#drains('total_filter_chains_draining');
    } else {
      entry.active = next;
      for (const binding of entry.bindings) binding.owner = next;
      current?.drain();
      if (current) this.#drains('total_listeners_draining');
    }
    this.#gauges();
    if (this.#started)
      void this.#bind(entry).catch((error: unknown) =>
        this.#log.error('cannot listen', { listener: entry.name, error: errorText(error) }),
      );
    for (const run of this.#changed) run();
  }

  async #bind(entry: Entry): Promise<void> {
    const listener = entry.active;
    if (!listener) return;
    const { sockets } = this.#deps;
    if (sockets && !sockets.binds) return;
    const wanted = (listener.settings.bind ? listener.settings.addresses : []).filter(
      (address) => !sockets || sockets.bindsAlone || (address.kind === 'ip' && listener.settings.socket.reusePort),
    );
    for (const binding of [...entry.bindings])
      if (!wanted.some((address) => addressText(address) === addressText(binding.address))) {
        binding.server.close();
        entry.bindings.splice(entry.bindings.indexOf(binding), 1);
      }
    const missing = wanted.filter(
      (address) => !entry.bindings.some((binding) => addressText(binding.address) === addressText(address)),
    );
    await Promise.all(missing.map((address) => this.#open(entry, listener, address)));
  }

  async #open(entry: Entry, listener: Listener, address: SocketAddr): Promise<void> {
    const { sockets } = this.#deps;
    const name = socketName(entry, address);
    const chosen = sockets && address.kind === 'ip' && address.port === 0 ? await sockets.port(name) : 0;
    const server = createServer({ pauseOnConnect: true, allowHalfOpen: true, noDelay: true });
    const binding: Binding = { address, server, owner: listener, bound: address };
    entry.bindings.push(binding);
    server.on('connection', (socket) => binding.owner.accept(socket));
    await new Promise<void>((resolve, reject) => {
      const failed = (reason: string): void => {
        entry.bindings = entry.bindings.filter((other) => other !== binding);
        this.#stat('listener_create_failure');
        reject(new Error(`listener '${entry.name}': cannot bind '${addressText(address)}': ${reason}`));
      };
      server.once('error', (error: NodeJS.ErrnoException) => failed(systemReason(error)));
      const listening = (): void => {
        const bound = server.address();
        if (bound && typeof bound === 'object' && address.kind === 'ip')
          binding.bound = { ...address, port: bound.port };
        sockets?.bound(name, binding.bound);
        server.removeAllListeners('error');
        server.on('error', (error) =>
          this.#log.warn('accept failed', { listener: entry.name, error: errorText(error) }),
        );
        this.#stat('listener_create_success');
        // Of several workers one tells it.
        if (!sockets || sockets.bindsAlone)
          this.#log.info(`listener '${entry.name}' listens on ${addressText(binding.bound)}`);
        resolve();
      };
      try {
        listenOn(server, listener.settings, address, chosen, listening);
      } catch (error) {
        failed(errorText(error));
      }
    });
  }

  /** The listener for an original destination: exact address first, then any address on that port. */
  #handOff(destination: SocketAddr, from: Listener): Listener | undefined {
    if (destination.kind !== 'ip') return undefined;
    let wildcard: Listener | undefined;
    for (const { active } of this.#entries.values()) {
      if (!active || active === from) continue;
      for (const address of active.settings.addresses) {
        if (address.kind !== 'ip' || address.port !== destination.port) continue;
        if (address.ip === destination.ip) return active;
        if (address.ip === '0.0.0.0' || address.ip === '::') wildcard = active;
      }
    }
    return wildcard;
  }

  /** What was replaced or removed has the drain time to end. */
  #drains(name: string): void {
    const { clock, drain, stats } = this.#deps;
    const gauge = stats.gauge(`listener_manager.${name}`);
    gauge.value += 1;
    clock.after(drain.drainMs, () => {
      gauge.value -= 1;
    });
  }

  #stat(name: string): void {
    this.#deps.stats.counter(`listener_manager.${name}`).value += 1;
  }

  #gauges(): void {
    const { stats } = this.#deps;
    const all = [...this.#entries.values()];
    stats.gauge('listener_manager.total_listeners_active').value = all.filter((entry) => entry.active).length;
    stats.gauge('listener_manager.total_listeners_draining').value += 0;
    stats.gauge('listener_manager.total_filter_chains_draining').value += 0;
    stats.gauge('listener_manager.total_listeners_warming').value = all.filter((entry) => entry.warming).length;
  }
}

/** One socket, by the same name in every worker. */
function socketName(entry: Entry, address: SocketAddr): string {
  return `${entry.name} ${addressText(address)}`;
}
