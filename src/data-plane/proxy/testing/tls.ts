// A TLS server and a TLS client of this proxy without an engine around them, on a clock that can be moved: for tests of
// handshakes, resumption and rotation. Used by the tests of transport-socket/.
import { type AddressInfo, createServer } from 'node:net';
import type { TestContext } from 'node:test';
import { type ConnectionOptions, type TLSSocket, connect as tlsConnect } from 'node:tls';
import { create, fromJson, type JsonObject } from '@bufbuild/protobuf';
import { anyPack } from '@bufbuild/protobuf/wkt';
import { type TransportSocket, TransportSocketSchema } from '#proto/envoy/config/core/v3/base_pb.js';
import {
  CertificateValidationContextSchema,
  TlsCertificateSchema,
} from '#proto/envoy/extensions/transport_sockets/tls/v3/common_pb.js';
import {
  DownstreamTlsContextSchema,
  UpstreamTlsContextSchema,
} from '#proto/envoy/extensions/transport_sockets/tls/v3/tls_pb.js';
import { type Clock, systemClock } from '../../../base/runtime/clock.ts';
import { inspect } from '../listener/inspect.ts';
import { StatsScope, StatsStore } from '../stats/stats.ts';
import { type DialResult, dial } from '../transport-socket/dial.ts';
import { downstreamSocket, upstreamSocket } from '../transport-socket/factory.ts';
import {
  type CertificateMaterial,
  certificateMaterial,
  type Live,
  type TicketKeys,
  type TrustMaterial,
  trustMaterial,
} from '../transport-socket/secrets.ts';
import { acceptTls } from '../transport-socket/tls-accept.ts';
import type { SecretProvider, TlsBuildContext, TlsTransport } from '../transport-socket/tls-context.ts';
import { TlsCounters } from '../transport-socket/tls-stats.ts';
import type { TlsDetails, Transport, TransportFailure } from '../transport-socket/transport.ts';
import type { Entity } from './pki.ts';

export type TransportName = TlsTransport;

/** A clock whose hands a test may move; timers run on real time. */
export class TestClock implements Clock {
  offset = 0;
  now(): number {
    return Date.now() + this.offset;
  }
  after(delayMs: number, run: () => void): () => void {
    return systemClock.after(delayMs, run);
  }
}

const reader = {
  file: (path: string): Buffer => {
    throw new Error(path);
  },
  variable: (): undefined => undefined,
};

class Secret<T> implements Live<T> {
  readonly name: string;
  #value: T | undefined;
  readonly #listeners = new Set<() => void>();
  constructor(name: string) {
    this.name = name;
  }
  current(): T | undefined {
    return this.#value;
  }
  ready(): boolean {
    return this.#value !== undefined;
  }
  listen(changed: () => void): () => void {
    this.#listeners.add(changed);
    return () => this.#listeners.delete(changed);
  }
  set(value: T): void {
    this.#value = value;
    for (const run of this.#listeners) run();
  }
}

/** Secrets that a test hands out by name. */
export class TestSecrets implements SecretProvider {
  readonly #certificates = new Map<string, Secret<CertificateMaterial>>();
  readonly #trust = new Map<string, Secret<TrustMaterial>>();
  certificate(ref: { readonly name: string }): Live<CertificateMaterial> {
    return find(this.#certificates, ref.name);
  }
  trust(ref: { readonly name: string }): Live<TrustMaterial> {
    return find(this.#trust, ref.name);
  }
  ticketKeys(): Live<TicketKeys> {
    throw new Error('no ticket keys by SDS here');
  }
  setCertificate(name: string, entity: Entity): void {
    const message = fromJson(TlsCertificateSchema, certificateJson(entity));
    find(this.#certificates, name).set(certificateMaterial(message, reader, name, name));
  }
  setTrust(name: string, config: JsonObject): void {
    find(this.#trust, name).set(
      trustMaterial(fromJson(CertificateValidationContextSchema, config), reader, name, name),
    );
  }
}

function find<T>(map: Map<string, Secret<T>>, name: string): Secret<T> {
  let found = map.get(name);
  if (!found) {
    found = new Secret(name);
    map.set(name, found);
  }
  return found;
}

export const certificateJson = (entity: Entity): JsonObject => ({
  certificate_chain: { inline_string: entity.chainPem },
  private_key: { inline_string: entity.keyPem },
});

export interface TlsSetup {
  readonly transport: TransportName;
  readonly clock?: TestClock;
  readonly secrets?: TestSecrets;
  /** As where x-forwarded-client-cert has the chain. */
  readonly peerChain?: boolean;
}

function contextOf(setup: TlsSetup): TlsBuildContext {
  return {
    secrets: setup.secrets ?? new TestSecrets(),
    reader,
    clock: setup.clock ?? systemClock,
    tlsTransport: setup.transport,
  };
}

function socketOf(
  schema: typeof DownstreamTlsContextSchema | typeof UpstreamTlsContextSchema,
  config: JsonObject,
): TransportSocket {
  const message = fromJson(schema as typeof DownstreamTlsContextSchema, config);
  return create(TransportSocketSchema, {
    name: 'tls',
    configType: { case: 'typedConfig', value: anyPack(schema as typeof DownstreamTlsContextSchema, message) },
  });
}

export interface TlsServer {
  readonly port: number;
  readonly stats: StatsStore;
  /** Everything that was accepted, newest last. */
  readonly accepted: TlsDetails[];
  readonly transports: Transport[];
  /** Reasons of refused handshakes. */
  readonly refused: string[];
  /** How connections that were accepted ended. */
  readonly closes: (TransportFailure | undefined)[];
  counter(name: string): number;
}

/** As a listener: a handshake takes no longer. */
const HANDSHAKE_MS = 1_000;

/** Accepts TLS by a DownstreamTlsContext and echoes bytes. */
export async function startTlsServer(t: TestContext, config: JsonObject, setup: TlsSetup): Promise<TlsServer> {
  const stats = new StatsStore();
  const counters = new TlsCounters(new StatsScope(stats, ''), true);
  const tls = downstreamSocket(socketOf(DownstreamTlsContextSchema, config), contextOf(setup), 'socket')!;
  const accepted: TlsDetails[] = [];
  const transports: Transport[] = [];
  const refused: string[] = [];
  const closes: (TransportFailure | undefined)[] = [];
  const nowhere = { kind: 'pipe', path: '' } as const;
  const server = createServer({ pauseOnConnect: true, allowHalfOpen: true, noDelay: true }, (socket) => {
    inspect(socket, { tls: true, http: false, timeoutMs: 0 }, systemClock, (inspection) => {
      if (inspection.outcome !== 'done') return;
      const giveUp = acceptTls({
        socket,
        initial: inspection.bytes,
        tls,
        hello: inspection,
        counters,
        local: nowhere,
        remote: nowhere,
        peerChain: setup.peerChain ?? true,
        done(transport, reason) {
          if (!transport) return void refused.push(reason);
          accepted.push(transport.tls!);
          transports.push(transport);
          transport.start({
            onData: (bytes, start, end) => transport.write(bytes, start, end),
            onEnd: () => transport.end(),
            onBacklog() {},
            onClose: (failure) => void closes.push(failure),
          });
        },
      });
      systemClock.after(HANDSHAKE_MS, giveUp);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', () => resolve()));
  t.after(() => {
    server.close();
    for (const transport of transports) transport.destroy();
    tls.context.dispose();
  });
  return {
    port: (server.address() as AddressInfo).port,
    stats,
    accepted,
    transports,
    refused,
    closes,
    counter: (name) => stats.counters.get(name)?.value ?? 0,
  };
}

export interface Visit {
  /** `ok`, or the error's code. */
  readonly outcome: string;
  readonly reused: boolean;
  readonly version: string | null;
  readonly serverCertificate: string;
  /** The newest session it was given. */
  readonly session: Buffer | undefined;
}

/** One connection of Node's own client: sends a byte, waits for its echo and a session, ends. */
export function visit(port: number, options: ConnectionOptions): Promise<Visit> {
  return new Promise((resolve) => {
    const socket: TLSSocket = tlsConnect({ port, host: '127.0.0.1', rejectUnauthorized: false, ...options });
    let session: Buffer | undefined;
    let serverCertificate = '';
    let reused = false;
    let version: string | null = null;
    let over = false;
    const finish = (outcome: string): void => {
      if (over) return;
      over = true;
      socket.destroy();
      resolve({ outcome, reused, version, serverCertificate, session });
    };
    socket.on('secureConnect', () => {
      reused = socket.isSessionReused();
      version = socket.getProtocol();
      serverCertificate = socket.getPeerX509Certificate()?.subject ?? '';
      socket.write('x');
    });
    socket.on('session', (bytes) => {
      session = bytes;
    });
    // TLS 1.3 tickets come before the first byte.
    socket.on('data', () => finish('ok'));
    socket.on('error', (error: NodeJS.ErrnoException) => finish(error.code ?? error.message));
    socket.on('close', () => finish('closed'));
  });
}

export interface TlsClient {
  readonly stats: StatsStore;
  counter(name: string): number;
  /** Dials, echoes one byte, closes. The details of the connection, or the reason it failed. */
  call(
    port: number,
    extra?: { readonly alpn?: readonly string[]; readonly host?: { name: string; verify: boolean } },
  ): Promise<TlsDetails | string>;
  /** Dials and hands the transport out, not started. */
  open(port: number): Promise<DialResult>;
  /** As a cluster that is drained does. */
  dispose(): void;
}

/** Connects by an UpstreamTlsContext. */
export function createTlsClient(t: TestContext, config: JsonObject, setup: TlsSetup): TlsClient {
  const stats = new StatsStore();
  const socket = upstreamSocket(
    socketOf(UpstreamTlsContextSchema, config),
    { ...contextOf(setup), scope: new StatsScope(stats, '') },
    'socket',
  );
  const dispose = (): void => {
    if (socket.kind === 'tls') socket.context.dispose();
  };
  t.after(dispose);
  const open = (port: number, extra: { alpn?: readonly string[]; host?: { name: string; verify: boolean } } = {}) =>
    new Promise<DialResult>((resolve) => {
      dial(
        {
          target: { kind: 'ip', ip: '127.0.0.1', port },
          source: undefined,
          timeoutMs: 5_000,
          socket,
          alpn: extra.alpn,
          host: extra.host,
          keepAlive: false,
          clock: setup.clock ?? systemClock,
        },
        resolve,
      );
    });
  return {
    stats,
    counter: (name) => stats.counters.get(name)?.value ?? 0,
    open,
    dispose,
    async call(port, extra) {
      const result = await open(port, extra);
      if (result.kind !== 'connected') return result.kind === 'failed' ? result.reason : result.kind;
      const { transport } = result;
      return await new Promise((resolve) => {
        const done = (value: TlsDetails | string): void => {
          transport.destroy();
          resolve(value);
        };
        transport.start({
          onData: () => done(transport.tls!),
          onEnd: () => done('ended'),
          onBacklog() {},
          onClose: (failure) => done(failure?.reason ?? 'closed'),
        });
        transport.write(Buffer.from('x'), 0, 1);
      });
    },
  };
}
