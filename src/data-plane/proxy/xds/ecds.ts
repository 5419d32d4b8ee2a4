// Extension configurations by source and name (ECDS), shared by all chains that ask for the same. Given to filter builders by
// the engine.
import type { Any } from '@bufbuild/protobuf/wkt';
import type { ExtensionConfigSource } from '#proto/envoy/config/core/v3/config_source_pb.js';
import type { Discovered, ExtensionCategory, ExtensionProvider } from '../config/discovered.ts';
import { ConfigError, join } from '../config/fields.ts';
import type { DiscoveryHub } from './hub.ts';
import { ECDS } from './kinds.ts';
import { readSource } from './source.ts';

/** One chain's own object made from the shared configuration. */
interface Follower {
  /** Throws ConfigError; nothing changes then. The result makes it so, or lets it be. */
  prepare(any: Any | undefined): { commit(): void; discard(): void };
  settle(): void;
}

interface Entry {
  readonly followers: Set<Follower>;
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
    const entry: Entry = known ?? { followers: new Set(), any: undefined, settled: false, release: () => {} };
    // A configuration that is refused here must not stay: each later one would be refused for its sake.
    try {
      entry.followers.add(follower);
      if (!known) {
        this.#entries.set(key, entry);
        entry.release = this.#follow(entry, category, source, name, path);
      } else if (entry.any) follower.prepare(entry.any).commit();
      else if (entry.settled) ready = true;
    } catch (error) {
      entry.followers.delete(follower);
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
        entry.followers.delete(follower);
        current?.dispose?.();
        if (current !== fallback) fallback?.dispose?.();
        if (entry.followers.size > 0) return;
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
      // All or none: a configuration that one chain refuses is refused.
      const changes: ReturnType<Follower['prepare']>[] = [];
      try {
        for (const follower of entry.followers) changes.push(follower.prepare(any));
      } catch (error) {
        for (const change of changes) change.discard();
        throw error;
      }
      entry.any = any;
      entry.settled = true;
      for (const change of changes) change.commit();
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
          for (const follower of entry.followers) follower.settle();
        },
      },
      path,
    );
  }
}
