// Discovery in a worker: nothing is asked of any server, the main thread tells what it took.
import { type DescMessage, fromBinary, type MessageShape } from '@bufbuild/protobuf';
import type { Logger } from '../../../base/runtime/log.ts';
import { errorText } from '../../../base/runtime/log.ts';
import { type CollectionSink, DiscoveryHub, type HubDeps, type NamedSink } from '../xds/hub.ts';
import type { ResourceKind } from '../xds/kinds.ts';
import type { Source } from '../xds/source.ts';
import { keyOf } from './mirror-hub.ts';
import type { Discovered } from './protocol.ts';

type Resource = Extract<Discovered, { kind: 'resource' }>;

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
  #ads = false;

  constructor(deps: HubDeps, mirror: readonly Discovered[]) {
    super(deps);
    this.#log = deps.log;
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
    });
    return () => {
      released = true;
      if (this.#named.get(full) === follower) this.#named.delete(full);
    };
  }

  #remember(item: Discovered): void {
    const { key } = item;
    if (item.kind === 'done') this.#done.add(key);
    else if (item.kind === 'timed-out') this.#timedOut.add(`${key} ${item.name}`);
    else if (item.kind === 'removed' || item.kind === 'forgotten') this.#known.get(key)?.delete(item.name);
    else {
      const names = this.#known.get(key) ?? new Map<string, Resource>();
      this.#known.set(key, names);
      names.set(item.name, item);
    }
  }
}
