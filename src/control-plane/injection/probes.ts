// Rewrites the application's probes and HTTP lifecycle hooks to the agent's status port, because kubelet has no
// certificate. Pure. The agent reads what was there from ISTIO_KUBE_APP_PROBERS.
import type { Container, Probe, ProbeHandler } from '../../api/kubernetes/container.ts';

export interface RewrittenProbes {
  readonly containers: readonly Container[];
  /** Path on the status port → the original probe, named ports resolved. */
  readonly probers: Readonly<Record<string, unknown>>;
}

const KINDS = [
  ['readinessProbe', 'readyz'],
  ['livenessProbe', 'livez'],
  ['startupProbe', 'startupz'],
] as const;

export function rewriteProbes(containers: readonly Container[], statusPort: number): RewrittenProbes {
  const probers: Record<string, unknown> = {};
  const changed = containers.map((container) => {
    if (container.name === 'istio-proxy') return container;
    let out: Container = container;
    for (const [field, tail] of KINDS) {
      const probe = container[field];
      if (!probe || !rewritable(probe)) continue;
      const path = `/app-health/${container.name}/${tail}`;
      probers[path] = { ...resolved(probe, container), timeoutSeconds: probe.timeoutSeconds ?? 1 };
      out = { ...out, [field]: redirected(probe, path, statusPort) };
    }
    for (const [hook, tail] of [
      ['preStop', 'prestopz'],
      ['postStart', 'poststartz'],
    ] as const) {
      const handler = container.lifecycle?.[hook];
      if (!handler?.httpGet) continue;
      const path = `/app-lifecycle/${container.name}/${tail}`;
      probers[path] = resolved(handler, container);
      out = {
        ...out,
        lifecycle: { ...out.lifecycle, [hook]: { httpGet: { path, port: statusPort, scheme: 'HTTP' } } },
      };
    }
    return out;
  });
  return { containers: changed, probers };
}

function rewritable(probe: Probe): boolean {
  return probe.httpGet !== undefined || probe.tcpSocket !== undefined || probe.grpc !== undefined;
}

function redirected(probe: Probe, path: string, port: number): Probe {
  const { httpGet: _http, tcpSocket: _tcp, grpc: _grpc, ...timing } = probe;
  return { ...timing, httpGet: { path, port, scheme: 'HTTP' } };
}

function resolved(handler: ProbeHandler, container: Container): ProbeHandler {
  const number = (port: number | string): number | string =>
    typeof port === 'number' ? port : (container.ports?.find((p) => p.name === port)?.containerPort ?? port);
  if (handler.httpGet) return { httpGet: { ...handler.httpGet, port: number(handler.httpGet.port) } };
  if (handler.tcpSocket) return { tcpSocket: { ...handler.tcpSocket, port: number(handler.tcpSocket.port) } };
  return { grpc: handler.grpc };
}
