// The ports of a pod that something in the test may dial. Called by mesh.ts. Pure.
import type { MeshTest } from './format.ts';
import { type Names, namespaceOf } from './names.ts';
import { selects, type TestPod } from './objects.ts';

interface EntrySpec {
  readonly ports?: readonly { readonly number?: number; readonly targetPort?: number }[];
  readonly endpoints?: readonly { readonly address?: string; readonly ports?: Readonly<Record<string, number>> }[];
  readonly address?: string;
  readonly servers?: readonly { readonly port?: { readonly number?: number } }[];
  readonly portLevelMtls?: Readonly<Record<string, unknown>>;
}

export function portsOf(test: MeshTest, pod: TestPod, names: Names): readonly number[] {
  const ports = new Set<number>();
  const add = (port: number | undefined): void => {
    if (typeof port === 'number' && port > 0) ports.add(port);
  };
  for (const service of test.services)
    if (selects(service, pod)) for (const port of service.ports) add(port.targetPort);
  for (const request of test.requests) {
    const reached =
      request.resolveTo === undefined
        ? names.resolve(request.host, namespaceOf(request))
        : names.target(request.resolveTo, request.port);
    if (reached.includes(pod.ip)) add(request.port);
  }
  for (const { object } of test.resources) {
    const spec = (object as { spec?: EntrySpec }).spec;
    if (!spec) continue;
    if (object.kind === 'ServiceEntry' || object.kind === 'WorkloadEntry') {
      for (const port of Array.isArray(spec.ports) ? spec.ports : []) {
        add(port.number);
        add(port.targetPort);
      }
      for (const endpoint of spec.endpoints ?? []) for (const port of Object.values(endpoint.ports ?? {})) add(port);
      if (!Array.isArray(spec.ports))
        for (const port of Object.values((spec.ports ?? {}) as Record<string, number>)) add(port);
    }
    if (object.kind === 'Gateway' && pod.workload.image.kind === 'gateway')
      for (const server of spec.servers ?? []) add(server.port?.number);
  }
  return [...ports];
}
