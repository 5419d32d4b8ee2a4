// postStart and preStop hooks. Called by the pod worker.
import type { LifecycleHandler } from '../../api/kubernetes/container.ts';
import { type Clock, delay } from '../../base/runtime/clock.ts';
import { errorText } from '../../base/runtime/log.ts';
import { type ProbeTarget, type ProbeTools, runProbe } from './probe-run.ts';

/** An HTTP hook that does not answer is given up after this, as by the kubelet's client. */
const HTTP_TIMEOUT_MS = 60_000;
const MAX_OUTPUT = 10 * 1024;

export type HookResult = { readonly ok: true } | { readonly ok: false; readonly message: string };

/** Waits for the hook's end; `signal` gives it up. */
export async function runHook(
  handler: LifecycleHandler,
  target: ProbeTarget,
  tools: ProbeTools,
  clock: Clock,
  signal: AbortSignal,
): Promise<HookResult> {
  try {
    if (handler.sleep) {
      await delay(clock, handler.sleep.seconds * 1000, signal);
      return { ok: true };
    }
    if (handler.exec) {
      const command = handler.exec.command ?? [];
      const { code, output } = await tools.execution.capture(target.containerId, command, MAX_OUTPUT, signal);
      if (code === 0) return { ok: true };
      return { ok: false, message: `command ${JSON.stringify(command.join(' '))} exited with ${code}: ${output}` };
    }
    const given = Promise.withResolvers<never>();
    signal.addEventListener('abort', () => given.reject(signal.reason), { once: true });
    return await Promise.race([runProbe(handler, target, HTTP_TIMEOUT_MS, tools), given.promise]);
  } catch (error) {
    return { ok: false, message: errorText(error) };
  }
}
