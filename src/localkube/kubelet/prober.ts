// Runs the startup, liveness and readiness probes of one container instance on their periods. Made by the pod worker
// when a container has started; stopped when it ends.
import type { Container, Probe } from '../../api/kubernetes/container.ts';
import type { Clock } from '../../base/runtime/clock.ts';
import type { ProbeResult } from './probe-run.ts';

export type ProbeKind = 'startup' | 'readiness' | 'liveness';

export interface ProbeListener {
  /** Startup passed, or readiness changed. */
  onStarted(): void;
  onReady(ready: boolean): void;
  /** A failed try, for the event. */
  onFailure(kind: ProbeKind, message: string): void;
  /** The container must be killed. */
  onUnhealthy(kind: 'startup' | 'liveness'): void;
}

export interface ProberOptions {
  readonly container: Container;
  readonly clock: Clock;
  /** The container has been running since; milliseconds since the epoch. */
  readonly startedAt: number;
  readonly startupPassed: boolean;
  /** What is known of its readiness: false for a container that has just started. */
  readonly ready: boolean;
  readonly run: (probe: Probe, timeoutMs: number) => Promise<ProbeResult>;
  readonly listener: ProbeListener;
}

/**
 * A container that has just started is looked at more often than its period, so that it becomes ready soon after it listens.
 * Failures of these looks count for nothing.
 */
const EARLY_WINDOW_MS = 5000;
const EARLY_FIRST_MS = 25;
const EARLY_MAX_MS = 50;

export interface Prober {
  stop(): void;
}

export function startProber(options: ProberOptions): Prober {
  const { container, listener } = options;
  const loops: Prober[] = [];
  let stopped = false;
  const main = (): void => {
    if (stopped) return;
    if (container.readinessProbe) loops.push(readinessLoop(options, container.readinessProbe));
    if (container.livenessProbe) loops.push(killingLoop(options, 'liveness', container.livenessProbe, () => {}));
  };
  if (container.startupProbe && !options.startupPassed) {
    const loop = killingLoop(options, 'startup', container.startupProbe, () => {
      loop.stop();
      listener.onStarted();
      main();
    });
    loops.push(loop);
  } else main();
  return {
    stop() {
      stopped = true;
      for (const loop of loops) loop.stop();
    },
  };
}

function killingLoop(options: ProberOptions, kind: 'startup' | 'liveness', probe: Probe, passed: () => void): Prober {
  let failures = 0;
  return probeLoop(options, probe, kind === 'startup', (result) => {
    if (result.ok) {
      failures = 0;
      passed();
      return;
    }
    failures += 1;
    options.listener.onFailure(kind, result.message);
    if (failures < (probe.failureThreshold ?? 3)) return;
    failures = 0;
    options.listener.onUnhealthy(kind);
  });
}

function readinessLoop(options: ProberOptions, probe: Probe): Prober {
  let { ready } = options;
  let streak = 0;
  return probeLoop(options, probe, true, (result) => {
    if (!result.ok) options.listener.onFailure('readiness', result.message);
    if (result.ok === ready) {
      streak = 0;
      return;
    }
    streak += 1;
    const needed = result.ok ? (probe.successThreshold ?? 1) : (probe.failureThreshold ?? 3);
    if (streak < needed) return;
    streak = 0;
    ready = result.ok;
    options.listener.onReady(ready);
  });
}

/** `early`: look often at first, without counting failures, until the first success. */
function probeLoop(
  options: ProberOptions,
  probe: Probe,
  early: boolean,
  report: (result: ProbeResult) => void,
): Prober {
  const { clock } = options;
  const periodMs = (probe.periodSeconds ?? 10) * 1000;
  const timeoutMs = (probe.timeoutSeconds ?? 1) * 1000;
  const firstAt = options.startedAt + (probe.initialDelaySeconds ?? 0) * 1000;
  const quick = early && !probe.exec;
  let stopped = false;
  let cancel = (): void => {};
  let wait = EARLY_FIRST_MS;
  let eager = quick;
  let nextCounted = firstAt + (quick ? periodMs : 0);
  const again = (delayMs: number): void => {
    if (!stopped) cancel = clock.after(delayMs, () => void once());
  };
  const once = async (): Promise<void> => {
    const result = await options.run(probe, timeoutMs);
    if (stopped) return;
    const now = clock.now();
    if (result.ok || now - Math.max(options.startedAt, firstAt) > EARLY_WINDOW_MS) eager = false;
    if (result.ok || !eager || now >= nextCounted) {
      nextCounted = now + periodMs;
      report(result);
    }
    if (stopped) return;
    if (eager) {
      again(Math.min(wait, periodMs));
      wait = Math.min(wait * 2, EARLY_MAX_MS);
    } else again(periodMs);
  };
  again(Math.max(0, firstAt - clock.now()));
  return {
    stop() {
      stopped = true;
      cancel();
    },
  };
}
