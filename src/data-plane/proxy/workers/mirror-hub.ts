// Discovery of the main thread when there are workers: everything that is taken is also told to them, in the same order.
import { type DescMessage, type MessageShape, toBinary } from '@bufbuild/protobuf';
import { ConfigError } from '../config/fields.ts';
import { type Channel, type CollectionSink, DiscoveryHub, type HubDeps, type NamedSink } from '../xds/hub.ts';
import type { ResourceKind } from '../xds/kinds.ts';
import type { Source } from '../xds/source.ts';
import type { Receiver } from '../xds/update.ts';
import type { Discovered } from './protocol.ts';

export const keyOf = (kind: ResourceKind, source: Source): string => `${kind.typeUrl} ${source.key}`;

export class MirrorHub extends DiscoveryHub {
  readonly #tell: (item: Discovered) => void;

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
    const release = super.named(
      source,
      kind,
      name,
      {
        statPrefix: sink.statPrefix,
        update(message, version) {
          sink.update(message, version);
          tell({ kind: 'resource', key, name, version, bytes: toBinary(kind.schema, message) });
        },
        removed() {
          sink.removed();
          tell({ kind: 'removed', key, name });
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
    _source: Source,
    _kind: ResourceKind,
    _receiver: Receiver,
    _names: ReadonlySet<string>,
    path: string,
  ): Channel {
    throw new ConfigError(path, 'what is discovered on demand is not supported with --concurrency above 1');
  }
}
