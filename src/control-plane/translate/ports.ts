// Service ports a client sees. Called by outbound.ts and routes.ts.
import { isVisible } from '../model/hosts.ts';
import type { Service, ServicePort } from '../model/services.ts';
import { memoize, type Snapshot } from '../model/snapshot.ts';

export function outboundPorts(
  snapshot: Snapshot,
  namespace: string,
): readonly { readonly service: Service; readonly port: ServicePort }[] {
  return memoize(snapshot, `ports|${namespace}`, () =>
    snapshot.services
      .filter((s) => isVisible(s.exportTo, s.namespace, namespace))
      .flatMap((service) => service.ports.filter((p) => p.protocol !== 'UDP').map((port) => ({ service, port }))),
  );
}
