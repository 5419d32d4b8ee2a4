// Passes Envoy's xDS stream to istiod and back, as bytes (xds.md §6): one upstream stream for each downstream one.
// Called by wiring.ts; the debug port opens its own streams through `debug`.
import {
  type Client,
  type ClientDuplexStream,
  type handleBidiStreamingCall,
  Server,
  type ServerDuplexStream,
  type ServiceDefinition,
  type StatusObject,
  status,
} from '@grpc/grpc-js';
import type { Clock } from '../../base/runtime/clock.ts';
import { errorText, type Logger } from '../../base/runtime/log.ts';
import { bindUnix } from './uds.ts';
import { MAX_XDS_MESSAGE_BYTES, type Upstream } from './upstream.ts';
import { decodeDiscoveryResponse, encodeDiscoveryRequest } from './wire.ts';

const PREFIX = '/envoy.service.discovery.v3.AggregatedDiscoveryService';
const DIAL_TIMEOUT_MS = 5000;
const DEBUG_TIMEOUT_MS = 10_000;
const DEBUG_TYPE = 'istio.io/debug';

export interface XdsRelayOptions {
  readonly socketPath: string;
  readonly upstream: Upstream;
  /** Of the node, for the debug port's own streams. */
  readonly nodeId: string;
  readonly clock: Clock;
  readonly log: Logger;
  readonly onConnection?: (event: 'connected' | 'failed' | 'closed') => void;
}

export interface XdsRelay {
  /** Asks istiod a debug question (`syncz`) over xDS and gives back the JSON parts of its answer. */
  debug(command: string): Promise<readonly Buffer[]>;
  close(): void;
}

const same = (bytes: Buffer): Buffer => bytes;
const coding = {
  requestStream: true,
  responseStream: true,
  requestSerialize: same,
  requestDeserialize: same,
  responseSerialize: same,
  responseDeserialize: same,
} as const;
const METHODS = ['StreamAggregatedResources', 'DeltaAggregatedResources'] as const;
const DEFINITION: ServiceDefinition = Object.fromEntries(
  METHODS.map((name) => [name, { path: `${PREFIX}/${name}`, ...coding }]),
);

type Down = ServerDuplexStream<Buffer, Buffer>;
type Up = ClientDuplexStream<Buffer, Buffer>;

/** Rejects when the socket cannot be bound. */
export async function startXdsRelay(options: XdsRelayOptions): Promise<XdsRelay> {
  const server = new Server({
    'grpc.max_receive_message_length': MAX_XDS_MESSAGE_BYTES,
    'grpc.max_send_message_length': MAX_XDS_MESSAGE_BYTES,
  });
  let active: { readonly close: (why: string) => void } | undefined;
  const handle =
    (method: string): handleBidiStreamingCall<Buffer, Buffer> =>
    (down) => {
      // Envoy has one stream; a second means it restarted, or the first one hangs.
      active?.close('replaced by a newer xDS stream');
      const relay = relayStream(down, method, options, () => {
        if (active === relay) active = undefined;
      });
      active = relay;
    };
  server.addService(DEFINITION, Object.fromEntries(METHODS.map((name) => [name, handle(name)])));
  await bindUnix(server, options.socketPath);
  options.log.info('xDS relay is listening', { socket: options.socketPath });
  return {
    debug: (command) => debugRequest(command, options),
    close() {
      active?.close('the agent is stopping');
      server.forceShutdown();
    },
  };
}

function relayStream(
  down: Down,
  method: string,
  options: XdsRelayOptions,
  onClosed: () => void,
): { readonly close: (why: string) => void } {
  const { log } = options;
  let up: Up | undefined;
  let closed = false;
  /** Ends both sides once. `code` undefined: Envoy left by itself. */
  const finish = (code: status | undefined, details: string): void => {
    if (closed) return;
    closed = true;
    up?.cancel();
    options.onConnection?.(code === undefined ? 'closed' : 'failed');
    if (code !== undefined) {
      log.warn('xDS stream to istiod ended', { code: status[code], error: details });
      // A root or an address that changed is seen by the next connection.
      options.upstream.reset();
      down.emit('error', { code: code === status.OK ? status.UNAVAILABLE : code, details });
    }
    onClosed();
  };
  down.pause();
  down.on('cancelled', () => finish(undefined, ''));
  down.on('error', () => finish(undefined, ''));
  openUpstream(options, method).then(
    (stream) => {
      if (closed) {
        stream.on('error', () => {});
        stream.cancel();
        return;
      }
      up = stream;
      options.onConnection?.('connected');
      join(down, stream, finish);
    },
    (error) => finish(status.UNAVAILABLE, `cannot connect to istiod: ${errorText(error)}`),
  );
  return { close: (why) => finish(status.UNAVAILABLE, why) };
}

function join(down: Down, up: Up, finish: (code: status | undefined, details: string) => void): void {
  down.on('data', (message: Buffer) => {
    if (up.write(message)) return;
    down.pause();
    up.once('drain', () => down.resume());
  });
  down.on('end', () => {
    up.end();
    down.end();
    finish(undefined, '');
  });
  up.on('data', (message: Buffer) => {
    if (down.write(message)) return;
    up.pause();
    down.once('drain', () => up.resume());
  });
  up.on('status', (result: StatusObject) => finish(result.code, result.details || 'istiod closed the stream'));
  up.on('error', () => {});
  down.resume();
}

async function openUpstream(options: XdsRelayOptions, method: string): Promise<Up> {
  const [client, metadata] = await Promise.all([options.upstream.client(), options.upstream.metadata()]);
  await ready(client);
  return client.makeBidiStreamRequest<Buffer, Buffer>(`${PREFIX}/${method}`, same, same, metadata);
}

function ready(client: Client): Promise<void> {
  return new Promise((resolve, reject) =>
    client.waitForReady(Date.now() + DIAL_TIMEOUT_MS, (error) => (error ? reject(error) : resolve())),
  );
}

async function debugRequest(command: string, options: XdsRelayOptions): Promise<readonly Buffer[]> {
  const stream = await openUpstream(options, 'StreamAggregatedResources');
  return new Promise((resolve, reject) => {
    const cancel = options.clock.after(DEBUG_TIMEOUT_MS, () => {
      reject(new Error('istiod did not answer in time'));
      stream.cancel();
    });
    stream.on('data', (message: Buffer) => {
      cancel();
      resolve(decodeDiscoveryResponse(message).resources.map((bytes) => Buffer.from(bytes)));
      stream.cancel();
    });
    stream.on('error', (error) => {
      cancel();
      reject(error);
    });
    stream.write(encodeDiscoveryRequest({ nodeId: options.nodeId, typeUrl: DEBUG_TYPE, resourceNames: [command] }));
  });
}
