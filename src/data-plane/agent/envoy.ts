// Runs the proxy process: starts it, starts it again after a crash, drains and ends it on the way out (xds.md §8, §10).
// Called by wiring.ts.
import { type ChildProcess, spawn } from 'node:child_process';
import { createBackoff } from '../../base/runtime/backoff.ts';
import { type Clock, delay } from '../../base/runtime/clock.ts';
import { errorText, type Logger } from '../../base/runtime/log.ts';
import { readText } from './http.ts';

/** Crashes in a row before the agent gives up and lets the kubelet start the container anew. */
export const MAX_RESTARTS = 10;
const RESTART_BASE_MS = 200;
const RESTART_MAX_MS = 30_000;
/** A proxy that ran this long has not crashed "in a row". */
const HEALTHY_AFTER_MS = 60_000;
const KILL_AFTER_MS = 5000;
const ZERO_POLL_MS = 1000;
const MAX_POLL_ERRORS = 5;
const ADMIN_TIMEOUT_MS = 2000;
/** Connections of these listeners are the agent's and the kubelet's, not the application's. */
const OWN_LISTENERS = /^listener\.(0\.0\.0\.0_15021|0\.0\.0\.0_15090|admin|\[::\]_15021|\[::\]_15090)\./;

export interface EnvoyOptions {
  readonly command: string;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly adminPort: number;
  /** Gateways drain every listener, sidecars the inbound ones. */
  readonly role: 'sidecar' | 'router';
  readonly terminationDrainMs: number;
  readonly exitOnZeroConnections: boolean;
  readonly minimumDrainMs: number;
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Logger;
  /** The proxy ended by itself or for good: nothing restarts it. */
  readonly onExit: (code: number) => void;
}

export interface Envoy {
  /** Asks the proxy to refuse new connections without ending it (native sidecar's preStop). */
  drain(): Promise<void>;
  /** Drains, waits as configured, ends the proxy. Resolves when it is gone. */
  terminate(): Promise<void>;
  /** Ends the proxy at once. */
  quit(): Promise<void>;
}

export interface EnvoyArguments {
  readonly config: string;
  readonly drainSeconds: number;
  readonly logLevel: string;
  readonly componentLogLevel: string;
  readonly concurrency: number | 'cpus' | undefined;
  /** JSON of ISTIO_BOOTSTRAP_OVERRIDE. */
  readonly configYaml: string | undefined;
}

/** The command line of xds.md §8. */
export function envoyArguments(a: EnvoyArguments): readonly string[] {
  return [
    ...['-c', a.config, '--drain-time-s', String(a.drainSeconds), '--drain-strategy', 'immediate'],
    ...['--local-address-ip-version', 'v4', '--file-flush-interval-msec', '1000', '--disable-hot-restart'],
    ...['--allow-unknown-static-fields', '-l', a.logLevel],
    ...(a.componentLogLevel === '' ? [] : ['--component-log-level', a.componentLogLevel]),
    ...(a.configYaml === undefined ? [] : ['--config-yaml', a.configYaml]),
    ...(a.concurrency === undefined
      ? []
      : a.concurrency === 'cpus'
        ? ['--cpuset-threads']
        : ['--concurrency', String(a.concurrency)]),
  ];
}

export function startEnvoy(options: EnvoyOptions): Envoy {
  const { clock, log } = options;
  const backoff = createBackoff({
    baseMs: RESTART_BASE_MS,
    maxMs: RESTART_MAX_MS,
    jitter: 0.1,
    random: options.random,
  });
  let child: ChildProcess | undefined;
  let crashes = 0;
  let stopping = false;
  let drained = false;
  const gone = Promise.withResolvers<void>();

  const start = (): void => {
    if (stopping) {
      gone.resolve();
      return;
    }
    const startedAt = clock.now();
    const current = spawn(options.command, [...options.args], {
      stdio: ['ignore', 'inherit', 'inherit'],
      env: options.env,
    });
    child = current;
    log.info('proxy started', { command: options.command, pid: current.pid });
    let ended = false;
    const onEnd = (code: number | null, what: string): void => {
      if (ended) return;
      ended = true;
      child = undefined;
      if (stopping) {
        gone.resolve();
        return;
      }
      // Told to quit through its own admin port: the pod wants to end.
      if (code === 0) {
        log.info('proxy exited by itself');
        stopping = true;
        gone.resolve();
        options.onExit(0);
        return;
      }
      crashes = clock.now() - startedAt > HEALTHY_AFTER_MS ? 1 : crashes + 1;
      if (crashes === 1) backoff.reset();
      if (crashes > MAX_RESTARTS) {
        log.error('proxy keeps crashing, giving up', { crashes, last: what });
        stopping = true;
        gone.resolve();
        options.onExit(1);
        return;
      }
      const wait = backoff.next();
      log.error('proxy exited, starting it again', { what, crashes, waitMs: Math.round(wait) });
      clock.after(wait, start);
    };
    current.once('exit', (code, signal) => onEnd(code, signal ? `signal ${signal}` : `exit code ${code}`));
    current.once('error', (error) => onEnd(127, errorText(error)));
  };
  const admin = (method: string, path: string): Promise<string> =>
    readText({ method, port: options.adminPort, path, timeoutMs: ADMIN_TIMEOUT_MS }).then((answer) => {
      if (answer.status !== 200) throw new Error(`admin answered ${answer.status}`);
      return answer.body;
    });
  const drainListeners = async (more: string): Promise<void> => {
    const scope = options.role === 'sidecar' ? 'inboundonly&' : '';
    await admin('POST', `/drain_listeners?${scope}graceful${more}`);
  };
  const kill = async (): Promise<void> => {
    stopping = true;
    const current = child;
    if (!current) {
      gone.resolve();
      return;
    }
    current.kill('SIGTERM');
    const cancel = clock.after(KILL_AFTER_MS, () => current.kill('SIGKILL'));
    await gone.promise;
    cancel();
  };
  start();
  return {
    async drain() {
      await drainListeners('&skip_exit');
      drained = true;
    },
    async terminate() {
      // preStop drained already: what is left has had its time.
      if (!drained && child) {
        await drainListeners('').catch((error) => log.warn('could not drain listeners', { error: errorText(error) }));
        if (options.exitOnZeroConnections) await waitForZero(options, () => admin('GET', ZERO_PATH));
        else await delay(clock, options.terminationDrainMs);
      }
      await kill();
    },
    quit: kill,
  };
}

const ZERO_PATH = '/stats?usedonly&filter=downstream_cx_active$';

async function waitForZero(options: EnvoyOptions, readStats: () => Promise<string>): Promise<void> {
  await delay(options.clock, options.minimumDrainMs);
  for (let errors = 0; errors < MAX_POLL_ERRORS; ) {
    try {
      const active = countActive(await readStats());
      if (active === 0) return;
      options.log.info('waiting for connections to end', { active });
    } catch (error) {
      errors += 1;
      options.log.warn('could not read active connections', { errors, error: errorText(error) });
    }
    await delay(options.clock, ZERO_POLL_MS);
  }
}

/** Sum of `listener.<address>.downstream_cx_active`, without the agent's own listeners. */
export function countActive(stats: string): number {
  let sum = 0;
  for (const line of stats.split('\n')) {
    const match = /^(listener\..*\.downstream_cx_active): (\d+)$/.exec(line.trim());
    if (match && !OWN_LISTENERS.test(match[1] ?? '')) sum += Number(match[2]);
  }
  return sum;
}
