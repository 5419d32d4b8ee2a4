// The one place that opens discovery: everything that wants a resource asks here, whatever the source (ADS, a gRPC stream of
// its own, a file). Keeps what /config_dump shows of each resource. Owned by the engine.
import type { DescMessage, MessageShape } from '@bufbuild/protobuf';
import type { Any } from '@bufbuild/protobuf/wkt';
import { checkConstraints } from '../../../base/envoy-api/constraints.ts';
import type { Clock } from '../../../base/runtime/clock.ts';
import { errorText } from '../../../base/runtime/log.ts';
import { extensionRegistry } from '../config/bootstrap.ts';
import { ConfigError, UnknownFieldError } from '../config/fields.ts';
import { dropUnknown } from '../config/unknown.ts';
import type { StatsStore } from '../stats/stats.ts';
import { DiscoveryClient, type DiscoveryOptions } from './discovery-client.ts';
import { FileSource, type FileSourceDeps } from './file-source.ts';
import { ADS_DELTA, ADS_SOTW, type ResourceKind, readResource } from './kinds.ts';
import type { GrpcSource, Source } from './source.ts';
import { hashOf, type Receiver, type Rejection, type ResourceUpdate } from './update.ts';

export interface HubDeps extends Omit<DiscoveryOptions, 'source' | 'method' | 'statPrefix'> {
  /** What happens to fields that their type does not know; default `warn`. */
  readonly unknownFields?: 'warn' | 'reject' | 'ignore';
  readonly files: FileSourceDeps['files'];
}

/** What is remembered about a resource for /config_dump. */
export interface ResourceRecord {
  readonly any: Any;
  readonly version: string;
  readonly updated: number;
  readonly error?: { readonly details: string; readonly version: string; readonly at: number; readonly failed: Any };
}
export type ResourceBook = ReadonlyMap<string, ResourceRecord>;

/** Takes all resources of a type (CDS, LDS, SRDS). */
export interface CollectionSink<M> {
  readonly statPrefix: string;
  /** Throws ConfigError: refused, the last good one stays. */
  apply(message: M, version: string): void;
  remove(name: string): void;
  /** Names that a complete answer would have to list to keep. */
  held(): string[];
  /** Stands before the names and reasons of what was refused. */
  readonly refusalPrefix: string;
  /** After every answer. */
  done(): void;
  /** initial_fetch_timeout is over and nothing came. */
  timedOut(): void;
}

/** Takes one resource by name (EDS, RDS, SDS, RTDS, ECDS). */
export interface NamedSink<M> {
  readonly statPrefix: string;
  /** Throws ConfigError: refused, the last good one stays. */
  update(message: M, version: string): void;
  /** The server says it does not exist, or its TTL is over. */
  removed(): void;
  /** initial_fetch_timeout is over and nothing came. */
  timedOut(): void;
}

/** What carries one type from one source. */
export interface Channel {
  setNames(names: ReadonlySet<string>): void;
  stop(): void;
}

class Group<D extends DescMessage> implements Receiver {
  readonly typeUrl: string;
  readonly #kind: ResourceKind<D>;
  readonly #sinks = new Map<string, NamedSink<MessageShape<D>>>();
  readonly #deps: HubDeps;
  readonly #book: Map<string, ResourceRecord>;
  channel: Channel | undefined;

  constructor(kind: ResourceKind<D>, deps: HubDeps, book: Map<string, ResourceRecord>) {
    this.#kind = kind;
    this.#deps = deps;
    this.#book = book;
    this.typeUrl = kind.typeUrl;
  }

  get names(): ReadonlySet<string> {
    return new Set(this.#sinks.keys());
  }

  add(name: string, sink: NamedSink<MessageShape<D>>): void {
    if (this.#sinks.has(name)) throw new Error(`${this.typeUrl} ${name} is already followed`);
    this.#sinks.set(name, sink);
    this.channel?.setNames(this.names);
  }

  remove(name: string): boolean {
    this.#sinks.delete(name);
    this.#book.delete(name);
    this.channel?.setNames(this.names);
    return this.#sinks.size === 0;
  }

  nameOf(any: Any): string {
    try {
      return this.#kind.nameOf(readResource(this.#kind, any));
    } catch {
      return '';
    }
  }

  apply(update: ResourceUpdate): readonly Rejection[] {
    const rejected: Rejection[] = [];
    for (const { name, version, any } of update.resources) {
      if (!any) continue;
      const sink = this.#sinks.get(name);
      if (!sink) {
        if (name === '') rejected.push({ name, reason: `a resource that is no ${this.#kind.schema.typeName}` });
        continue;
      }
      const problem = record(this.#book, name, version, any, this.#deps.clock, () =>
        taking(this.#kind, any, this.#deps, (message) => sink.update(message, version)),
      );
      outcome(this.#deps.stats, sink.statPrefix, problem, version, this.#deps.clock);
      if (problem !== undefined) rejected.push({ name, reason: problem });
    }
    for (const name of update.removed) {
      this.#sinks.get(name)?.removed();
      this.#book.delete(name);
    }
    return rejected;
  }

  refusal(rejected: readonly Rejection[]): string {
    return rejected.map(({ reason }) => reason).join('\n');
  }

  attempted(): void {
    this.#count('update_attempt');
  }

  failed(): void {
    this.#count('update_failure');
  }

  #count(what: string): void {
    for (const sink of this.#sinks.values()) this.#deps.stats.counter(sink.statPrefix + what).value += 1;
  }
}

class Collection<D extends DescMessage> implements Receiver {
  readonly typeUrl: string;
  readonly #kind: ResourceKind<D>;
  readonly #sink: CollectionSink<MessageShape<D>>;
  readonly #deps: HubDeps;
  readonly #book: Map<string, ResourceRecord>;

  constructor(
    kind: ResourceKind<D>,
    sink: CollectionSink<MessageShape<D>>,
    deps: HubDeps,
    book: Map<string, ResourceRecord>,
  ) {
    this.#kind = kind;
    this.#sink = sink;
    this.#deps = deps;
    this.#book = book;
    this.typeUrl = kind.typeUrl;
  }

  nameOf(any: Any): string {
    try {
      return this.#kind.nameOf(readResource(this.#kind, any));
    } catch {
      return '';
    }
  }

  apply(update: ResourceUpdate): readonly Rejection[] {
    const sink = this.#sink;
    const { clock, stats } = this.#deps;
    const rejected: Rejection[] = [];
    const seen = new Set<string>();
    for (const { name, version, any } of update.resources) {
      if (!any) continue;
      let real = name;
      const problem = record(
        this.#book,
        () => real,
        version,
        any,
        clock,
        () => {
          taking(this.#kind, any, this.#deps, (message) => {
            real = this.#kind.nameOf(message);
            sink.apply(message, version);
          });
        },
      );
      seen.add(real);
      if (problem !== undefined) rejected.push({ name: real, reason: problem });
    }
    const gone = update.complete ? sink.held().filter((name) => !seen.has(name)) : update.removed;
    for (const name of gone) {
      sink.remove(name);
      this.#book.delete(name);
    }
    outcome(stats, sink.statPrefix, rejected[0]?.reason, update.version, clock);
    sink.done();
    return rejected;
  }

  refusal(rejected: readonly Rejection[]): string {
    return this.#sink.refusalPrefix + rejected.map(({ name, reason }) => `${name}: ${reason}`).join('\n');
  }

  attempted(): void {
    this.#deps.stats.counter(`${this.#sink.statPrefix}update_attempt`).value += 1;
  }

  failed(): void {
    this.#deps.stats.counter(`${this.#sink.statPrefix}update_failure`).value += 1;
  }
}

export class DiscoveryHub {
  readonly #deps: HubDeps;
  readonly #books = new Map<string, Map<string, ResourceRecord>>();
  readonly #groups = new Map<string, Group<DescMessage>>();
  readonly #stops = new Set<() => void>();
  #ads: DiscoveryClient | undefined;

  constructor(deps: HubDeps) {
    this.#deps = deps;
  }

  /** Names the server of `ads` sources; streams open at `start`. */
  useAds(source: GrpcSource): void {
    this.#ads = new DiscoveryClient({
      ...this.#deps,
      source,
      method: source.delta ? ADS_DELTA : ADS_SOTW,
      statPrefix: 'control_plane.',
    });
  }

  get hasAds(): boolean {
    return this.#ads !== undefined;
  }

  /** Begins to talk. What is asked for before waits until now. */
  start(): void {
    this.#ads?.start();
  }

  stop(): void {
    this.#ads?.stop();
    for (const stop of [...this.#stops]) stop();
  }

  book(kind: ResourceKind): ResourceBook {
    return this.#bookOf(kind.typeUrl);
  }

  /** Follows all resources of a type, for ever. Throws ConfigError when the source cannot be used. */
  collection<D extends DescMessage>(
    source: Source,
    kind: ResourceKind<D>,
    sink: CollectionSink<MessageShape<D>>,
    path: string,
  ): void {
    const { clock } = this.#deps;
    let answered = false;
    const waited: typeof sink = {
      ...sink,
      done() {
        answered = true;
        sink.done();
      },
    };
    const receiver = new Collection(kind, waited, this.#deps, this.#bookOf(kind.typeUrl));
    this.#open(source, kind, receiver, undefined, path);
    if (source.initialFetchMs > 0)
      clock.after(source.initialFetchMs, () => {
        if (answered) return;
        this.#deps.stats.counter(`${sink.statPrefix}init_fetch_timeout`).value += 1;
        sink.timedOut();
      });
  }

  /**
   * Follows one resource until the returned function is called. A source and a name have one follower.
   * Throws ConfigError when the source cannot be used.
   */
  named<D extends DescMessage>(
    source: Source,
    kind: ResourceKind<D>,
    name: string,
    sink: NamedSink<MessageShape<D>>,
    path: string,
  ): () => void {
    const key = `${kind.typeUrl} ${source.key}${kind.ownStream && source.kind === 'grpc' ? ` ${name}` : ''}`;
    let group = this.#groups.get(key) as Group<D> | undefined;
    if (!group) {
      group = new Group(kind, this.#deps, this.#bookOf(kind.typeUrl));
      group.channel = this.#open(source, kind, group, new Set([name]), path);
      this.#groups.set(key, group as unknown as Group<DescMessage>);
    }
    let answered = false;
    const { clock, stats } = this.#deps;
    const settled = (): void => {
      answered = true;
      cancel?.();
    };
    group.add(name, {
      statPrefix: sink.statPrefix,
      update(message, version) {
        sink.update(message, version);
        settled();
      },
      removed: () => sink.removed(),
      timedOut: () => sink.timedOut(),
    });
    const cancel =
      source.initialFetchMs > 0
        ? clock.after(source.initialFetchMs, () => {
            if (answered) return;
            stats.counter(`${sink.statPrefix}init_fetch_timeout`).value += 1;
            sink.timedOut();
          })
        : undefined;
    const joined = group;
    let released = false;
    return () => {
      if (released) return;
      released = true;
      cancel?.();
      if (!joined.remove(name)) return;
      this.#groups.delete(key);
      joined.channel?.stop();
    };
  }

  /** A receiver that does its own book-keeping (VHDS). */
  receive(source: Source, kind: ResourceKind, receiver: Receiver, names: ReadonlySet<string>, path: string): Channel {
    return this.#open(source, kind, receiver, names, path);
  }

  /**
   * A named resource that is followed only once somebody wants it: `load` makes it so. Only threads that follow for others
   * have to know; the returned function takes it back.
   */
  offer(_source: Source, _kind: ResourceKind, _name: string, _load: () => void): () => void {
    return () => {};
  }

  /** Throws ConfigError unless the control plane can be told who asks. */
  requireNode(what: string): void {
    const { id, cluster } = this.#deps.node;
    if (id !== '' && cluster !== '') return;
    throw new ConfigError(
      '',
      `${what}: node 'id' and 'cluster' are required. Set it either in 'node' config or via --service-node and --service-cluster options.`,
    );
  }

  #open(
    source: Source,
    kind: ResourceKind,
    receiver: Receiver,
    names: ReadonlySet<string> | undefined,
    path: string,
  ): Channel {
    this.requireNode(kind.typeUrl);
    switch (source.kind) {
      case 'ads':
        return this.#openAds(receiver, names, path);
      case 'grpc': {
        const method = source.api.delta ? kind.delta : kind.sotw;
        if (method === undefined)
          throw new ConfigError(path, `${kind.typeUrl} is only discovered incrementally: api_type must be DELTA_GRPC`);
        const client = new DiscoveryClient({ ...this.#deps, source: source.api, method, statPrefix: undefined });
        client.subscribe(receiver, names);
        // After the caller is done: the cluster of the stream may come later in the same bootstrap.
        const cancel = this.#deps.clock.after(0, () => client.start());
        return this.#channel(
          () => {
            cancel();
            client.stop();
          },
          (wanted) => client.setNames(receiver.typeUrl, wanted),
        );
      }
      case 'path': {
        const file = new FileSource(source, receiver, names === undefined, this.#deps);
        file.start();
        return this.#channel(
          () => file.stop(),
          () => file.reread(),
        );
      }
    }
  }

  #openAds(receiver: Receiver, names: ReadonlySet<string> | undefined, path: string): Channel {
    const ads = this.#ads;
    if (!ads) throw new ConfigError(path, 'dynamic_resources.ads_config is required by `ads`');
    ads.subscribe(receiver, names);
    return {
      setNames: (wanted) => ads.setNames(receiver.typeUrl, wanted),
      stop: () => ads.setNames(receiver.typeUrl, new Set()),
    };
  }

  #channel(stop: () => void, setNames: (names: ReadonlySet<string>) => void): Channel {
    this.#stops.add(stop);
    return {
      setNames,
      stop: () => {
        this.#stops.delete(stop);
        stop();
      },
    };
  }

  #bookOf(typeUrl: string): Map<string, ResourceRecord> {
    const known = this.#books.get(typeUrl) ?? new Map<string, ResourceRecord>();
    this.#books.set(typeUrl, known);
    return known;
  }
}

/** Applies a resource; what was refused only for fields that nobody knows is applied without them, where that is allowed. */
function taking<D extends DescMessage>(
  kind: ResourceKind<D>,
  any: Any,
  { unknownFields = 'warn', stats, log }: HubDeps,
  apply: (message: MessageShape<D>) => void,
): void {
  try {
    const message = readResource(kind, any);
    // Who decodes by himself checks by himself: there are many endpoints.
    if (!kind.decode) checkConstraints(kind.schema, message, '');
    apply(message);
  } catch (error) {
    if (!(error instanceof UnknownFieldError) || unknownFields === 'reject') throw error;
    const message = readResource(kind, any);
    dropUnknown(kind.schema, message, extensionRegistry, (path, numbers) => {
      stats.counter('server.dynamic_unknown_fields').value += 1;
      if (unknownFields === 'warn')
        log.warn('Unknown field', { type: kind.schema.typeName, path: path || '(root)', numbers: numbers.join(', ') });
    });
    apply(message);
  }
}

/** Applies and remembers; answers with the reason when it was refused. */
function record(
  book: Map<string, ResourceRecord>,
  name: string | (() => string),
  version: string,
  any: Any,
  clock: Clock,
  apply: () => void,
): string | undefined {
  const nameNow = (): string => (typeof name === 'string' ? name : name());
  try {
    apply();
    book.set(nameNow(), { any, version, updated: clock.now() });
    return undefined;
  } catch (error) {
    const details = errorText(error);
    const failure = { details, version, at: clock.now(), failed: any };
    const before = book.get(nameNow());
    book.set(nameNow(), before ? { ...before, error: failure } : { any, version: '', updated: 0, error: failure });
    return details;
  }
}

function outcome(stats: StatsStore, prefix: string, problem: string | undefined, version: string, clock: Clock): void {
  stats.counter(prefix + (problem === undefined ? 'update_success' : 'update_rejected')).value += 1;
  if (problem === undefined) {
    stats.texts.set(`${prefix}version_text`, version);
    stats.gauge(`${prefix}version`).value = hashOf(version);
  }
  stats.gauge(`${prefix}update_time`).value = Math.floor(clock.now());
}
