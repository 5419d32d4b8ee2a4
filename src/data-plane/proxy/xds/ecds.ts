// Extension configurations by source and name (ECDS), shared by all chains that ask for the same. Given to filter builders by
// the engine.
import type { Any } from '@bufbuild/protobuf/wkt';
import type { ExtensionConfigSource } from '#proto/envoy/config/core/v3/config_source_pb.js';
import type { Discovered, ExtensionCategory, ExtensionProvider } from '../config/discovered.ts';
import { ConfigError, join } from '../config/fields.ts';
import type { DiscoveryHub } from './hub.ts';
import { ECDS } from './kinds.ts';
import { readSource } from './source.ts';

interface Change {
  commit(): void;
  discard(): void;
}

/** One chain's own object made from the shared configuration. */
interface Follower {
  /** Throws ConfigError; nothing changes then. The result makes it so, or lets it be. */
  prepare(any: Any | undefined): Change;
  settle(): void;
}

interface Entry {
  /** By the kind of filter: what is meant for one kind is none of another's. */
  readonly kinds: Map<ExtensionCategory, Set<Follower>>;
  /** The last one that some kind took. */
  any: Any | undefined;
  settled: boolean;
  release: () => void;
}

export class ExtensionManager implements ExtensionProvider {
  readonly #hub: DiscoveryHub;
  readonly #entries = new Map<string, Entry>();

  constructor(hub: DiscoveryHub) {
    this.#hub = hub;
  }

  subscribe<T extends { dispose?(): void }>(
    category: ExtensionCategory,
    name: string,
    message: ExtensionConfigSource,
    build: (any: Any) => T,
    path: string,
  ): Discovered<T> {
    const source = readSource(message.configSource, join(path, 'config_source'));
    const key = `${source.key} ${name}`;
    const fallback = message.defaultConfig ? build(message.defaultConfig) : undefined;
    const eager = message.applyDefaultConfigWithoutWarming;
    const listeners = new Set<() => void>();
    let current: T | undefined = fallback;
    let ready = eager;
    const follower: Follower = {
      prepare(any) {
        const made = any ? build(any) : fallback;
        return {
          commit() {
            const before = current;
            current = made;
            if (before !== made && before !== fallback) before?.dispose?.();
            follower.settle();
          },
          discard() {
            if (made !== fallback) made?.dispose?.();
          },
        };
      },
      settle() {
        ready = true;
        for (const run of [...listeners]) run();
      },
    };
    const known = this.#entries.get(key);
    const entry: Entry = known ?? { kinds: new Map(), any: undefined, settled: false, release: () => {} };
    const others = entry.kinds.get(category);
    const followers = others ?? new Set<Follower>();
    const leave = (): void => {
      followers.delete(follower);
      if (followers.size === 0) entry.kinds.delete(category);
    };
    // A configuration that is refused here must not stay: each later one would be refused for its sake.
    try {
      followers.add(follower);
      entry.kinds.set(category, followers);
      if (!known) {
        this.#entries.set(key, entry);
        entry.release = this.#follow(entry, category, source, name, path);
      } else if (entry.any) {
        const first = prepared([follower], entry.any);
        if (first.error === undefined) for (const change of first.changes) change.commit();
        else if (others) throw first.error;
        else ready = true;
      } else if (entry.settled) ready = true;
    } catch (error) {
      leave();
      if (!known) this.#entries.delete(key);
      fallback?.dispose?.();
      throw error;
    }
    let released = false;
    return {
      live: {
        name: `extension '${name}'`,
        current: () => current,
        ready: () => ready,
        listen(changed) {
          listeners.add(changed);
          return () => listeners.delete(changed);
        },
      },
      release: () => {
        if (released) return;
        released = true;
        leave();
        current?.dispose?.();
        if (current !== fallback) fallback?.dispose?.();
        if (entry.kinds.size > 0) return;
        this.#entries.delete(key);
        entry.release();
      },
    };
  }

  #follow(
    entry: Entry,
    category: ExtensionCategory,
    source: ReturnType<typeof readSource>,
    name: string,
    path: string,
  ): () => void {
    const give = (any: Any | undefined): void => {
      // All of a kind or none: a configuration that one chain refuses is refused. One kind that takes it is enough.
      const kinds = [...entry.kinds.values()].map((followers) => prepared([...followers], any));
      const taken = kinds.filter(({ error }) => error === undefined);
      if (taken.length === 0 && kinds.length > 0) throw kinds[0]!.error;
      entry.any = any;
      entry.settled = true;
      for (const { changes } of taken) for (const change of changes) change.commit();
    };
    return this.#hub.named(
      source,
      ECDS,
      name,
      {
        statPrefix: `extension_config_discovery.${category}.${name}.`,
        update(message) {
          if (!message.typedConfig) throw new ConfigError('', `extension '${name}' has no typed_config`);
          give(message.typedConfig);
        },
        removed: () => give(undefined),
        timedOut() {
          entry.settled = true;
          for (const followers of entry.kinds.values()) for (const follower of followers) follower.settle();
        },
      },
      path,
    );
  }
}

/** Nothing is changed yet; `error`: one of them refuses it, and the others have let it be. */
function prepared(
  followers: readonly Follower[],
  any: Any | undefined,
): { readonly changes: readonly Change[]; readonly error: unknown } {
  const changes: Change[] = [];
  try {
    for (const follower of followers) changes.push(follower.prepare(any));
    return { changes, error: undefined };
  } catch (error) {
    for (const change of changes) change.discard();
    return { changes: [], error };
  }
}
