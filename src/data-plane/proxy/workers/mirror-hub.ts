// Discovery of the main thread when there are workers: everything that is taken is also told to them, in the same order.
import { type DescMessage, type MessageShape, toBinary } from '@bufbuild/protobuf';
import { type Channel, type CollectionSink, DiscoveryHub, type HubDeps, type NamedSink } from '../xds/hub.ts';
import { EDS, RDS, type ResourceKind, SDS } from '../xds/kinds.ts';
import type { Source } from '../xds/source.ts';
import type { Receiver } from '../xds/update.ts';
import type { Discovered } from './protocol.ts';

export const keyOf = (kind: ResourceKind, source: Source): string => `${kind.typeUrl} ${source.key}`;

/** Types whose followers keep what they have when the server takes it away. */
const KEPT: ReadonlySet<string> = new Set([EDS.typeUrl, RDS.typeUrl, SDS.typeUrl]);

export class MirrorHub extends DiscoveryHub {
  readonly #tell: (item: Discovered) => void;
  readonly #onDemand = new Map<string, Receiver>();
  readonly #offers = new Map<string, Set<() => void>>();

  constructor(deps: HubDeps, tell: (item: Discovered) => void) {
    super(deps);
    this.#tell = tell;
  }

  override collection<D extends DescMessage>(
    source: Source,
    kind: ResourceKind<D>,
    sink: CollectionSink<MessageShape<D>>,
    path: string,
  ): void {
    const key = keyOf(kind as unknown as ResourceKind, source);
    const tell = this.#tell;
    super.collection(
      source,
      kind,
      {
        statPrefix: sink.statPrefix,
        refusalPrefix: sink.refusalPrefix,
        held: () => sink.held(),
        apply(message, version) {
          sink.apply(message, version);
          const bytes = toBinary(kind.schema, message);
          tell({ kind: 'resource', key, name: kind.nameOf(message), version, bytes });
        },
        remove(name) {
          sink.remove(name);
          tell({ kind: 'removed', key, name });
        },
        done() {
          sink.done();
          tell({ kind: 'done', key });
        },
        timedOut() {
          sink.timedOut();
          tell({ kind: 'done', key });
        },
      },
      path,
    );
  }

  override named<D extends DescMessage>(
    source: Source,
    kind: ResourceKind<D>,
    name: string,
    sink: NamedSink<MessageShape<D>>,
    path: string,
  ): () => void {
    const key = keyOf(kind as unknown as ResourceKind, source);
    const tell = this.#tell;
    let taken = false;
    const release = super.named(
      source,
      kind,
      name,
      {
        statPrefix: sink.statPrefix,
        update(message, version) {
          sink.update(message, version);
          taken = true;
          tell({ kind: 'resource', key, name, version, bytes: toBinary(kind.schema, message) });
        },
        removed() {
          sink.removed();
          // Who uses the last one goes on, also in a worker that starts later.
          if (taken && KEPT.has(kind.typeUrl)) return;
          tell({ kind: 'removed', key, name });
          // A worker that starts later need not wait for it.
          tell({ kind: 'timed-out', key, name });
        },
        timedOut() {
          sink.timedOut();
          tell({ kind: 'timed-out', key, name });
        },
      },
      path,
    );
    return () => {
      release();
      tell({ kind: 'forgotten', key, name });
    };
  }

  override receive(
    source: Source,
    kind: ResourceKind,
    receiver: Receiver,
    names: ReadonlySet<string>,
    path: string,
  ): Channel {
    const key = keyOf(kind, source);
    const found = new Set<string>();
    /** Of those, the names that stand for nothing, by which they were asked for. */
    const absent = new Map<string, readonly string[]>();
    const mirrored: Receiver = {
      typeUrl: receiver.typeUrl,
      nameOf: (any) => receiver.nameOf(any),
      refusal: (rejected) => receiver.refusal(rejected),
      attempted: () => receiver.attempted(),
      failed: (reason) => receiver.failed(reason),
      apply: (update) => {
        const rejected = receiver.apply(update);
        const refused = new Set(rejected.map(({ name }) => name));
        for (const { name, version, any, aliases } of update.resources) {
          if (any) absent.delete(name);
          else if (!found.has(name)) absent.set(name, [name, ...aliases]);
          found.add(name);
          // What is refused is an answer too: somebody waits for it.
          const bytes = refused.has(name) ? undefined : any?.value;
          this.#tell({ kind: 'found', key, name, version, bytes, aliases });
        }
        for (const name of update.removed) {
          found.delete(name);
          absent.delete(name);
          this.#tell({ kind: 'lost', key, name });
        }
        return rejected;
      },
    };
    const channel = super.receive(source, kind, mirrored, names, path);
    this.#onDemand.set(key, receiver);
    return {
      setNames: (wanted) => {
        // What belongs to a table that is gone is forgotten, one of the same name asks anew; so is that there is nothing where
        // nobody asks any more.
        for (const name of found)
          if (!isPart(name, wanted) || absent.get(name)?.some((each) => wanted.has(each)) === false) {
            found.delete(name);
            absent.delete(name);
            this.#tell({ kind: 'forgotten', key, name });
          }
        channel.setNames(wanted);
      },
      stop: () => {
        if (this.#onDemand.get(key) === receiver) this.#onDemand.delete(key);
        channel.stop();
      },
    };
  }

  override offer(source: Source, kind: ResourceKind, name: string, load: () => void): () => void {
    const full = `${keyOf(kind, source)} ${name}`;
    const loads = this.#offers.get(full) ?? new Set();
    this.#offers.set(full, loads);
    loads.add(load);
    return () => {
      loads.delete(load);
      if (loads.size === 0 && this.#offers.get(full) === loads) this.#offers.delete(full);
    };
  }

  /** A worker asks. The answer is what it must be told at once: that there will be none. */
  want(key: string, names: readonly string[]): readonly Discovered[] {
    return names.flatMap((name): Discovered[] => {
      const loads = this.#offers.get(`${key} ${name}`);
      for (const load of [...(loads ?? [])]) load();
      const receiver = this.#onDemand.get(key);
      if (loads || receiver?.ask?.(name)) return [];
      return [{ kind: 'found', key, name, version: '', bytes: undefined, aliases: [name] }];
    });
  }
}

/** Resources found on demand are named `TABLE/NAME`. */
export function isPart(name: string, tables: ReadonlySet<string>): boolean {
  for (let at = name.lastIndexOf('/'); at > 0; at = name.lastIndexOf('/', at - 1))
    if (tables.has(name.slice(0, at))) return true;
  return false;
}
