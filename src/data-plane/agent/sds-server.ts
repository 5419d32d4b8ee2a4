// Envoy's secret discovery on a Unix socket: `default`, `ROOTCA` and file secrets (identity.md §11). StreamSecrets only.
// Called by wiring.ts. The socket's directory is the access control: only the pod's containers that mount it reach it.
import { randomUUID } from 'node:crypto';
import {
  type handleBidiStreamingCall,
  Server,
  type ServerDuplexStream,
  type ServiceDefinition,
  status,
} from '@grpc/grpc-js';
import type { Clock } from '../../base/runtime/clock.ts';
import { errorText, type Logger } from '../../base/runtime/log.ts';
import { type FileSecrets, parseFileResource } from './file-secrets.ts';
import type { SecretCache } from './secret-cache.ts';
import { bindUnix } from './uds.ts';
import {
  type DiscoveryRequest,
  decodeDiscoveryRequest,
  encodeDiscoveryResponse,
  encodeSecret,
  SECRET_TYPE,
  type SecretContent,
} from './wire.ts';

export const WORKLOAD_RESOURCE = 'default';
export const ROOT_RESOURCE = 'ROOTCA';
export const MAX_STREAMS = 4096;
export const MAX_NAMES_PER_STREAM = 64;
const MAX_REQUEST_BYTES = 1 << 20;

export interface SdsServerOptions {
  readonly socketPath: string;
  /** Absent: workload certificates come from elsewhere (SPIRE) or are files. */
  readonly cache?: SecretCache;
  /** With no cache: what `default` and `ROOTCA` are read from (pre-provisioned certificates). */
  readonly aliases?: Readonly<Record<string, string>>;
  readonly files: FileSecrets;
  readonly clock: Clock;
  readonly log: Logger;
}

export interface SdsServer {
  close(): void;
}

type Stream = ServerDuplexStream<DiscoveryRequest, Buffer>;

const PREFIX = '/envoy.service.secret.v3.SecretDiscoveryService';
const coding = {
  requestSerialize: (): Buffer => Buffer.alloc(0),
  requestDeserialize: (bytes: Buffer): DiscoveryRequest => decodeDiscoveryRequest(bytes),
  responseSerialize: (bytes: Buffer): Buffer => bytes,
  responseDeserialize: (bytes: Buffer): Buffer => bytes,
};
// DeltaSecrets and FetchSecrets are absent on purpose: grpc-js answers Unimplemented.
const DEFINITION: ServiceDefinition = {
  StreamSecrets: { path: `${PREFIX}/StreamSecrets`, requestStream: true, responseStream: true, ...coding },
};

/** Rejects when the socket cannot be bound. */
export async function startSdsServer(options: SdsServerOptions): Promise<SdsServer> {
  const server = new Server({ 'grpc.max_receive_message_length': MAX_REQUEST_BYTES });
  const streams = new Set<SecretStream>();
  const handler: handleBidiStreamingCall<DiscoveryRequest, Buffer> = (call) => {
    if (streams.size >= MAX_STREAMS) {
      call.emit('error', { code: status.RESOURCE_EXHAUSTED, details: 'too many secret streams' });
      return;
    }
    const stream = new SecretStream(call, options, () => streams.delete(stream));
    streams.add(stream);
  };
  server.addService(DEFINITION, { StreamSecrets: handler });
  const push = (resource: string): void => {
    for (const stream of streams) stream.changed(resource);
  };
  const aliasesOf = (resource: string): readonly string[] => [
    resource,
    ...Object.entries(options.aliases ?? {}).flatMap(([name, file]) => (file === resource ? [name] : [])),
  ];
  const unsubscribe = [
    options.cache?.onChange((change) => push(change === 'default' ? WORKLOAD_RESOURCE : ROOT_RESOURCE)),
    options.files.onChange((resource) => aliasesOf(resource).forEach(push)),
  ];
  await bindUnix(server, options.socketPath);
  options.log.info('SDS server is listening', { socket: options.socketPath });
  return {
    close() {
      for (const stop of unsubscribe) stop?.();
      server.forceShutdown();
    },
  };
}

/** One stream of the proxy: the names it wants, and what was last sent. */
class SecretStream {
  readonly #call: Stream;
  readonly #options: SdsServerOptions;
  readonly #done: () => void;
  #names: ReadonlySet<string> = new Set();
  readonly #sent = new Map<string, Uint8Array>();
  #lastNonce = '';
  #version = 0;
  #closed = false;
  /** Sends one at a time, in order: a push must not overtake the answer before it. */
  #queue: Promise<void> = Promise.resolve();

  constructor(call: Stream, options: SdsServerOptions, done: () => void) {
    this.#call = call;
    this.#options = options;
    this.#done = done;
    call.on('data', (request: DiscoveryRequest) => this.#request(request));
    call.on('end', () => {
      this.#close();
      call.end();
    });
    call.on('cancelled', () => this.#close());
    call.on('error', () => this.#close());
  }

  changed(resource: string): void {
    if (this.#names.has(resource)) this.#send([resource], false);
  }

  #request(request: DiscoveryRequest): void {
    if (request.typeUrl !== '' && request.typeUrl !== SECRET_TYPE) {
      this.#fail(status.INVALID_ARGUMENT, `type ${request.typeUrl} is not served here: only ${SECRET_TYPE}`);
      return;
    }
    if (request.error !== undefined) {
      this.#options.log.warn('the proxy refused a secret', { names: [...this.#names].join(','), error: request.error });
      return;
    }
    if (request.resourceNames.length > MAX_NAMES_PER_STREAM) {
      this.#fail(status.INVALID_ARGUMENT, `more than ${MAX_NAMES_PER_STREAM} secrets on one stream`);
      return;
    }
    // An answer to something that has been overtaken by a push; the answer to the push follows.
    if (request.responseNonce !== '' && request.responseNonce !== this.#lastNonce) return;
    const names = new Set(request.resourceNames);
    const wanted = request.responseNonce === '' ? [...names] : [...names].filter((name) => !this.#names.has(name));
    this.#names = names;
    if (wanted.length > 0) this.#send(wanted, true);
  }

  /** `always`: the proxy asked; otherwise what it has already is not sent again. */
  #send(names: readonly string[], always: boolean): void {
    this.#queue = this.#queue.then(async () => {
      if (this.#closed) return;
      try {
        const read = await Promise.all(
          names.map(async (name) => [name, encodeSecret(name, await readSecret(name, this.#options))] as const),
        );
        if (this.#closed) return;
        const fresh = read.filter(([name, bytes]) => always || !isSame(this.#sent.get(name), bytes));
        if (fresh.length === 0) return;
        for (const [name, bytes] of fresh) this.#sent.set(name, bytes);
        const resources = fresh.map(([, bytes]) => bytes);
        this.#version += 1;
        this.#lastNonce = randomUUID();
        const time = new Date(this.#options.clock.now()).toISOString();
        const response = {
          versionInfo: `${time}/${this.#version}`,
          typeUrl: SECRET_TYPE,
          nonce: this.#lastNonce,
          resources,
        };
        this.#call.write(encodeDiscoveryResponse(response));
        this.#options.log.info('sent secrets to the proxy', { names: fresh.map(([name]) => name).join(',') });
      } catch (error) {
        this.#options.log.warn('secret is not available', { names: names.join(','), error: errorText(error) });
        this.#fail(status.UNAVAILABLE, `failed to generate secret for ${names.join(', ')}: ${errorText(error)}`);
      }
    });
  }

  #fail(code: status, details: string): void {
    if (this.#closed) return;
    this.#close();
    this.#call.emit('error', { code, details });
  }

  #close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#names = new Set();
    this.#sent.clear();
    this.#done();
  }
}

function isSame(old: Uint8Array | undefined, bytes: Uint8Array): boolean {
  return old !== undefined && Buffer.compare(old, bytes) === 0;
}

async function readSecret(name: string, options: SdsServerOptions): Promise<SecretContent> {
  const { cache, files } = options;
  if (name === WORKLOAD_RESOURCE || name === ROOT_RESOURCE) {
    const alias = options.aliases?.[name];
    if (alias !== undefined) return files.read(alias);
    if (!cache) throw new Error('workload certificates are served by another process on this pod');
    const secret = await cache.get();
    return name === ROOT_RESOURCE
      ? { kind: 'roots', rootsPem: secret.rootsPem }
      : { kind: 'key-pair', chainPem: secret.chainPem, keyPem: secret.keyPem };
  }
  if (parseFileResource(name)) return files.read(name);
  throw new Error('only default, ROOTCA, file-cert: and file-root: are served by the agent');
}
