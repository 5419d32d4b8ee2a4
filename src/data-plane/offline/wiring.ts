// Proxies and secret servers without a pod: engines in this process, fed by a control plane on loopback. Called by
// src/insight/policy-lab/. The agent's secret server and the engine are the production ones.
import type { Socket } from 'node:net';
import type { JsonObject } from '@bufbuild/protobuf';
import { systemClock } from '../../base/runtime/clock.ts';
import { createLogger, silentLog } from '../../base/runtime/log.ts';
import { createFileSecrets } from '../agent/file-secrets.ts';
import { type SdsServer, startSdsServer } from '../agent/sds-server.ts';
import type { SecretCache, WorkloadSecret } from '../agent/secret-cache.ts';
import { loadBootstrap } from '../proxy/config/bootstrap.ts';
import { Engine } from '../proxy/engine.ts';

export { RUNTIME } from '../agent/bootstrap.ts';
export type { SdsServer, WorkloadSecret };

export interface IpPort {
  readonly ip: string;
  readonly port: number;
}

export interface OfflineSecrets {
  readonly socketPath: string;
  /** The certificate of the workload; made once. */
  readonly secret: () => Promise<WorkloadSecret>;
  /** Paths of file secrets (DestinationRule TLS) start here. */
  readonly root: string;
}

/** The agent's SDS server on a Unix socket of its own. */
export function startOfflineSecrets(options: OfflineSecrets): Promise<SdsServer> {
  const cache: SecretCache = {
    get: options.secret,
    peek: () => undefined,
    // Certificates of a test outlive it: nothing ever changes.
    onChange: () => () => {},
    prewarm: () => {},
    close: () => {},
  };
  const files = createFileSecrets({ root: options.root, clock: systemClock, log: silentLog, debounceMs: 100 });
  return startSdsServer({ socketPath: options.socketPath, cache, files, clock: systemClock, log: silentLog });
}

export interface OfflineProxyOptions {
  readonly bootstrap: JsonObject;
  /** Warnings and errors of the engine. */
  readonly onMessage: (line: string) => void;
  /** Whole lines of the access log, whatever file they are for. */
  readonly onLogLine: (line: string) => void;
  /** Where an address given by the configuration is really reached; see listener/capture.ts. */
  readonly reach: (destination: IpPort, cluster: string) => IpPort;
  readonly resolve: (hostname: string) => readonly string[];
}

export interface OfflineProxy {
  readonly ready: Promise<void>;
  /** Gives a connection to a listener as if it had been captured on its way from `remote` to `local`. False: no such listener. */
  accept(listener: string, socket: Socket, remote: IpPort, local: IpPort): boolean;
  listeners(): readonly string[];
  stop(): void;
}

const FLUSH_MS = 1;
const FLUSH_BYTES = 64 * 1024;
const DRAIN_MS = 1_000;

/** Throws ConfigError when the bootstrap is wrong. */
export function startOfflineProxy(options: OfflineProxyOptions): OfflineProxy {
  const arrivals = new WeakMap<Socket, { readonly remote: IpPort; readonly local: IpPort }>();
  const text = JSON.stringify(options.bootstrap);
  const bootstrap = loadBootstrap([{ name: 'offline', text, kind: 'json' }], {
    parseYaml: () => ({}),
    allowUnknownFields: false,
  });
  const engine = new Engine(
    bootstrap,
    {
      drainMs: DRAIN_MS,
      drainStrategy: 'immediate',
      logFlushMs: FLUSH_MS,
      logFlushBytes: FLUSH_BYTES,
      statsTags: [],
      unknownFields: 'warn',
      commandLine: {},
      nodeZone: '',
      nodeId: '',
      nodeCluster: '',
      version: 'offline',
      logLevel: { current: () => 'warning', set: () => true, all: () => [], setOne: () => true },
      onQuit: () => {},
    },
    {
      clock: systemClock,
      random: Math.random,
      log: createLogger('envoy', { level: 'warn', clock: systemClock, write: options.onMessage }),
      reader: { file: noFiles, variable: () => undefined },
      files: {
        open() {},
        append(_path, bytes, done) {
          for (const line of bytes.toString().split('\n')) if (line !== '') options.onLogLine(line);
          done(undefined);
        },
        reopen() {},
      },
      hostname: 'offline',
      localAddress: '127.0.0.1',
      runtimeFiles: { list: () => undefined, read: noFiles, watch: () => () => {} },
      watchedFiles: { read: noFiles, watch: noFiles, parseYaml: noFiles },
      resolve: async (hostname) => ({ addresses: options.resolve(hostname), ttlMs: undefined }),
      capture: {
        arrival(socket) {
          const found = arrivals.get(socket);
          return found && { remote: { kind: 'ip', ...found.remote }, local: { kind: 'ip', ...found.local } };
        },
        reach: (destination, cluster) =>
          destination.kind === 'ip' ? { kind: 'ip', ...options.reach(destination, cluster) } : destination,
      },
    },
  );
  const ready = engine.start().then(() => engine.whenLive());
  return {
    ready,
    accept(listener, socket, remote, local) {
      const found = engine.listeners.find(listener);
      if (!found) return false;
      arrivals.set(socket, { remote, local });
      found.accept(socket);
      return true;
    },
    listeners: () =>
      engine.listeners
        .views()
        .filter((view) => view.active)
        .map((view) => view.name),
    stop: () => engine.stop(),
  };
}

function noFiles(path: string): never {
  throw new Error(`${path}: files are not read by an offline proxy`);
}
