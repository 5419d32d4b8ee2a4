// Filesystem subscription: a file holds a DiscoveryResponse (JSON, YAML or binary) and counts again when it is moved into place.
// Opened by hub.ts for path_config_source.
import { createRegistry, fromBinary, fromJson, type JsonValue } from '@bufbuild/protobuf';
import {
  type DiscoveryResponse,
  DiscoveryResponseSchema,
  ResourceSchema,
} from '#proto/envoy/service/discovery/v3/discovery_pb.js';
import type { Clock } from '../../../base/runtime/clock.ts';
import { errorText, type Logger } from '../../../base/runtime/log.ts';
import { extensionRegistry } from '../config/bootstrap.ts';
import { MAX_XDS_FILE_BYTES } from '../limits.ts';
import { KINDS } from './kinds.ts';
import type { Source } from './source.ts';
import { TtlTable } from './ttl.ts';
import { duplicates, nackText, type Receiver, unwrap } from './update.ts';

/** Files as this module needs them; the real ones are made in wiring.ts. */
export interface WatchedFiles {
  /** Throws when the file is not there. */
  read(path: string): Buffer;
  /** Calls back when something is moved into or changed in `directory`. Throws when it is not there. */
  watch(directory: string, changed: () => void): () => void;
  parseYaml(text: string): Promise<JsonValue>;
}

export interface FileSourceDeps {
  readonly files: WatchedFiles;
  readonly clock: Clock;
  readonly log: Logger;
}

/** A writer may need a moment: changes within this time are one, ms. */
const SETTLE_MS = 20;

let known: ReturnType<typeof createRegistry> | undefined;

/** Types that may stand in a file: resources, and the extensions in them. */
function resourceRegistry(): ReturnType<typeof createRegistry> {
  known ??= createRegistry(extensionRegistry, ResourceSchema, ...KINDS.map((kind) => kind.schema));
  return known;
}

export class FileSource {
  readonly #path: string;
  readonly #directory: string;
  readonly #receiver: Receiver;
  readonly #wildcard: boolean;
  readonly #deps: FileSourceDeps;
  readonly #ttl: TtlTable;
  #unwatch: (() => void) | undefined;
  #cancel: (() => void) | undefined;
  #last: Buffer | undefined;
  #stopped = false;

  constructor(source: Source & { kind: 'path' }, receiver: Receiver, wildcard: boolean, deps: FileSourceDeps) {
    this.#path = source.path;
    const slash = source.path.lastIndexOf('/');
    this.#directory = source.watched ?? (slash < 0 ? '.' : source.path.slice(0, slash) || '/');
    this.#receiver = receiver;
    this.#wildcard = wildcard;
    this.#deps = deps;
    this.#ttl = new TtlTable(deps.clock, (name) => {
      receiver.apply({ resources: [], removed: [name], version: '', complete: false });
    });
  }

  start(): void {
    try {
      this.#unwatch = this.#deps.files.watch(this.#directory, () => this.#soon(SETTLE_MS));
    } catch (error) {
      this.#deps.log.error('directory of a discovery file cannot be watched', {
        directory: this.#directory,
        error: errorText(error),
      });
    }
    this.reread();
  }

  /** Reads again although nothing changed: somebody new wants something of it. */
  reread(): void {
    this.#last = undefined;
    this.#soon(0);
  }

  stop(): void {
    this.#stopped = true;
    this.#unwatch?.();
    this.#cancel?.();
    this.#ttl.clear();
  }

  #soon(ms: number): void {
    if (this.#stopped || this.#cancel) return;
    this.#cancel = this.#deps.clock.after(ms, () => {
      this.#cancel = undefined;
      void this.#read();
    });
  }

  async #read(): Promise<void> {
    let bytes: Buffer;
    let response: DiscoveryResponse;
    try {
      bytes = this.#deps.files.read(this.#path);
      if (this.#last?.equals(bytes)) return;
      this.#receiver.attempted();
      this.#last = bytes;
      response = await this.#parse(bytes);
    } catch (error) {
      this.#deps.log.warn('discovery file cannot be read, the last configuration stays', {
        path: this.#path,
        error: errorText(error),
      });
      this.#receiver.failed(errorText(error));
      return;
    }
    if (this.#stopped) return;
    const version = response.versionInfo;
    const resources = response.resources.map((any) => {
      const resource = unwrap(any, version);
      return resource.name === '' && resource.any
        ? { ...resource, name: this.#receiver.nameOf(resource.any) }
        : resource;
    });
    const twice = [...duplicates(resources)];
    const rejected =
      twice.length > 0 ? twice : this.#receiver.apply({ resources, removed: [], version, complete: this.#wildcard });
    for (const resource of resources) this.#ttl.set(resource.name, resource.ttlMs);
    if (rejected.length > 0)
      this.#deps.log.warn('configuration refused, the last good one stays', {
        path: this.#path,
        reason: nackText(this.#receiver, rejected),
      });
  }

  async #parse(bytes: Buffer): Promise<DiscoveryResponse> {
    if (bytes.length > MAX_XDS_FILE_BYTES) throw new Error(`${bytes.length} bytes; the limit is ${MAX_XDS_FILE_BYTES}`);
    if (this.#path.endsWith('.pb')) return fromBinary(DiscoveryResponseSchema, bytes);
    const text = bytes.toString('utf8');
    const yaml = this.#path.endsWith('.yaml') || this.#path.endsWith('.yml');
    const json = yaml ? await this.#deps.files.parseYaml(text) : (JSON.parse(text) as JsonValue);
    return fromJson(DiscoveryResponseSchema, json, { registry: resourceRegistry() });
  }
}
