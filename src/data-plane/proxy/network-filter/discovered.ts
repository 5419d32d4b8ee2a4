// Network filters whose configuration comes later (ECDS). Connections keep the filters they were accepted with; while one is
// missing, new connections are closed. Built by registry.ts.
import type { ConnectionInfo, StreamInfo } from '../http/stream-info.ts';
import type { Drain } from '../listener/drain.ts';
import type { Live } from '../transport-socket/secrets.ts';
import type { Transport } from '../transport-socket/transport.ts';
import type { Closed, ConnectionHandler, TcpObserver } from './filter.ts';
import type { BuiltChain } from './registry.ts';

/** A terminal filter that is made when it is needed; the one that was made to check the configuration is used first. */
export class TerminalRecipe {
  readonly #make: () => BuiltChain;
  #checked: BuiltChain | undefined;

  /** Throws ConfigError. */
  constructor(make: () => BuiltChain) {
    this.#make = make;
    this.#checked = make();
  }

  take(): BuiltChain {
    const made = this.#checked ?? this.#make();
    this.#checked = undefined;
    return made;
  }

  /** What was never used is let go. */
  dispose(): void {
    this.#checked?.dispose();
    this.#checked = undefined;
  }
}

/** The terminal filter of the moment, and those before that still have connections. */
export class DiscoveredTerminal implements ConnectionHandler {
  readonly #live: Live<TerminalRecipe>;
  readonly #listeners = new Set<() => void>();
  readonly #stop: () => void;
  #recipe: TerminalRecipe | undefined;
  #chain: BuiltChain | undefined;
  #stopNested: (() => void) | undefined;
  readonly #old = new Set<BuiltChain>();

  constructor(live: Live<TerminalRecipe>) {
    this.#live = live;
    this.#stop = live.listen(() => this.#update());
    this.#update();
  }

  /** Whether there is one for new connections. */
  get present(): boolean {
    return this.#chain !== undefined;
  }

  /** What the terminal filter itself waits for. */
  get awaited(): Live<unknown> {
    return {
      name: `what ${this.#live.name} needs`,
      current: () => undefined,
      ready: () => this.#chain?.awaits.every((each) => each.ready()) ?? true,
      listen: (changed) => {
        this.#listeners.add(changed);
        return () => this.#listeners.delete(changed);
      },
    };
  }

  get active(): number {
    let sum = this.#chain?.handler.active ?? 0;
    for (const chain of this.#old) sum += chain.handler.active;
    return sum;
  }

  accept(transport: Transport, info: ConnectionInfo, closed: Closed): void {
    this.#chain?.handler.accept(transport, info, (facts) => {
      closed(facts);
      if (this.#old.size > 0) this.#sweep();
    });
  }

  refused(info: StreamInfo): void {
    this.#chain?.handler.refused?.(info);
  }

  drain(drain: Drain): void {
    for (const chain of this.#all()) chain.handler.drain(drain);
  }

  closeAll(): void {
    for (const chain of this.#all()) chain.handler.closeAll();
  }

  dispose(): void {
    this.#stop();
    this.#stopNested?.();
    for (const chain of this.#all()) chain.dispose();
    this.#old.clear();
    this.#chain = undefined;
  }

  #all(): BuiltChain[] {
    return [...this.#old, ...(this.#chain ? [this.#chain] : [])];
  }

  #update(): void {
    const recipe = this.#live.current();
    if (recipe === this.#recipe) return;
    this.#recipe = recipe;
    this.#stopNested?.();
    if (this.#chain) this.#old.add(this.#chain);
    this.#chain = recipe?.take();
    const stops = (this.#chain?.awaits ?? []).map((each) => each.listen(() => this.#notify()));
    this.#stopNested = () => {
      for (const stop of stops) stop();
    };
    this.#sweep();
    this.#notify();
  }

  #notify(): void {
    for (const run of [...this.#listeners]) run();
  }

  #sweep(): void {
    for (const chain of this.#old)
      if (chain.handler.active === 0) {
        this.#old.delete(chain);
        chain.dispose();
      }
  }
}

/** Each connection is told of to the observer that saw it open. */
export function discoveredObserver(current: () => TcpObserver | undefined): TcpObserver {
  const opened = new WeakMap<StreamInfo, TcpObserver>();
  return {
    onOpen(info) {
      const observer = current();
      if (!observer) return;
      opened.set(info, observer);
      observer.onOpen(info);
    },
    onClose: (info) => opened.get(info)?.onClose(info),
  };
}
