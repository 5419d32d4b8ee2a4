// Discovery in a worker: nothing is asked of any server, the main thread tells what it took.
import { create, type DescMessage, fromBinary, type MessageShape } from '@bufbuild/protobuf';
import { AnySchema } from '@bufbuild/protobuf/wkt';
import type { Logger } from '../../../base/runtime/log.ts';
import { errorText } from '../../../base/runtime/log.ts';
import { type Channel, type CollectionSink, DiscoveryHub, type HubDeps, type NamedSink } from '../xds/hub.ts';
import type { ResourceKind } from '../xds/kinds.ts';
import type { Source } from '../xds/source.ts';
import type { Receiver } from '../xds/update.ts';
import { isPart, keyOf } from './mirror-hub.ts';
import type { Discovered } from './protocol.ts';

type Resource = Extract<Discovered, { kind: 'resource' }>;
type Found = Extract<Discovered, { kind: 'found' }>;

interface Follower {
  resource(item: Resource): void;
  removed(name: string): void;
  done(): void;
  timedOut(name: string): void;
}

export class FollowerHub extends DiscoveryHub {
  readonly #log: Logger;
  /** What is known, by key and name. */
  readonly #known = new Map<string, Map<string, Resource>>();
  readonly #done = new Set<string>();
  readonly #timedOut = new Set<string>();
  readonly #collections = new Map<string, Follower>();
  readonly #named = new Map<string, Follower>();
  readonly #want: (key: string, names: readonly string[]) => void;
  /** What was found on demand, by key and name. */
  readonly #found = new Map<string, Map<string, Found>>();
  readonly #receivers = new Map<string, Receiver>();
  /** Names that the main thread follows only when it is asked to. */
  readonly #offered = new Set<string>();
  #ads = false;

  /** `want` asks the main thread for what is discovered on demand. */
  constructor(deps: HubDeps, mirror: readonly Discovered[], want: (key: string, names: readonly string[]) => void) {
    super(deps);
    this.#log = deps.log;
    this.#want = want;
    for (const item of mirror) this.#remember(item);
  }

  /** The main thread's server; a worker does not talk to it. */
  override useAds(): void {
    this.#ads = true;
  }

  override get hasAds(): boolean {
    return this.#ads;
  }

  override start(): void {}

  /** The main thread took something. */
  take(item: Discovered): void {
    this.#remember(item);
    const { key } = item;
    if (item.kind === 'found' || item.kind === 'lost') {
      this.#give(key, [item]);
      return;
    }
    const follower = item.kind === 'done' ? undefined : this.#named.get(`${key} ${item.name}`);
    for (const each of [this.#collections.get(key), follower]) {
      if (!each) continue;
      // The main thread took it with the same code; a worker that cannot is broken, and says so.
      try {
        if (item.kind === 'resource') each.resource(item);
        else if (item.kind === 'forgotten') continue;
        else if (item.kind === 'removed') each.removed(item.name);
        else if (item.kind === 'done') each.done();
        else each.timedOut(item.name);
      } catch (error) {
        this.#log.error('cannot follow the main thread', { resource: key, error: errorText(error) });
      }
    }
  }

  override collection<D extends DescMessage>(
    source: Source,
    kind: ResourceKind<D>,
    sink: CollectionSink<MessageShape<D>>,
  ): void {
    const key = keyOf(kind as unknown as ResourceKind, source);
    const follower: Follower = {
      resource: ({ bytes, version }) => sink.apply(fromBinary(kind.schema, bytes), version),
      removed: (name) => sink.remove(name),
      done: () => sink.done(),
      timedOut() {},
    };
    this.#collections.set(key, follower);
    queueMicrotask(() => {
      for (const item of this.#known.get(key)?.values() ?? []) this.take(item);
      if (this.#done.has(key)) follower.done();
    });
  }

  override named<D extends DescMessage>(
    source: Source,
    kind: ResourceKind<D>,
    name: string,
    sink: NamedSink<MessageShape<D>>,
  ): () => void {
    const key = keyOf(kind as unknown as ResourceKind, source);
    const full = `${key} ${name}`;
    let released = false;
    const follower: Follower = {
      resource: ({ bytes, version }) => sink.update(fromBinary(kind.schema, bytes), version),
      removed: () => sink.removed(),
      done() {},
      timedOut: () => sink.timedOut(),
    };
    this.#named.set(full, follower);
    queueMicrotask(() => {
      if (released) return;
      const item = this.#known.get(key)?.get(name);
      if (item) this.take(item);
      else if (this.#timedOut.has(full)) follower.timedOut(name);
      else if (this.#offered.has(full)) this.#want(key, [name]);
    });
    return () => {
      released = true;
      if (this.#named.get(full) === follower) this.#named.delete(full);
    };
  }

  override receive(source: Source, kind: ResourceKind, receiver: Receiver): Channel {
    const key = keyOf(kind, source);
    this.#receivers.set(key, receiver);
    let known: ReadonlySet<string> = new Set();
    return {
      setNames: (names) => {
        const fresh = [...names].filter((name) => !known.has(name));
        known = names;
        const asked = fresh.filter((name) => isPart(name, names));
        if (asked.length > 0) this.#want(key, asked);
        const tables = new Set(fresh);
        queueMicrotask(() => {
          if (this.#receivers.get(key) !== receiver) return;
          const found = [...(this.#found.get(key)?.values() ?? [])];
          this.#give(
            key,
            found.filter(({ name }) => isPart(name, tables)),
          );
        });
      },
      stop: () => {
        if (this.#receivers.get(key) === receiver) this.#receivers.delete(key);
      },
    };
  }

  override offer(source: Source, kind: ResourceKind, name: string): () => void {
    const full = `${keyOf(kind, source)} ${name}`;
    this.#offered.add(full);
    return () => this.#offered.delete(full);
  }

  #give(key: string, items: readonly (Found | Extract<Discovered, { kind: 'lost' }>)[]): void {
    const receiver = this.#receivers.get(key);
    if (!receiver || items.length === 0) return;
    const { typeUrl } = receiver;
    const rejected = receiver.apply({
      resources: items.flatMap((item) =>
        item.kind === 'lost'
          ? []
          : [
              {
                name: item.name,
                version: item.version,
                aliases: item.aliases,
                any: item.bytes && create(AnySchema, { typeUrl, value: item.bytes }),
                ttlMs: undefined,
              },
            ],
      ),
      removed: items.flatMap((item) => (item.kind === 'lost' ? [item.name] : [])),
      version: '',
      complete: false,
    });
    for (const { name, reason } of rejected)
      this.#log.error('cannot follow the main thread', { resource: name, error: reason });
  }

  #remember(item: Discovered): void {
    const { key } = item;
    if (item.kind === 'found') {
      const names = this.#found.get(key) ?? new Map<string, Found>();
      this.#found.set(key, names);
      names.set(item.name, item);
    } else if (item.kind === 'lost') this.#found.get(key)?.delete(item.name);
    else if (item.kind === 'done') this.#done.add(key);
    else if (item.kind === 'timed-out') this.#timedOut.add(`${key} ${item.name}`);
    else if (item.kind === 'removed' || item.kind === 'forgotten') {
      this.#known.get(key)?.delete(item.name);
      if (item.kind === 'forgotten') this.#found.get(key)?.delete(item.name);
      this.#timedOut.delete(`${key} ${item.name}`);
    } else {
      const names = this.#known.get(key) ?? new Map<string, Resource>();
      this.#known.set(key, names);
      names.set(item.name, item);
      this.#timedOut.delete(`${key} ${item.name}`);
    }
  }
}
