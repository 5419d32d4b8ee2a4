// The event log of health checks: one JSON line for each change of a host. Made by checker.ts.
import type { JsonObject } from '@bufbuild/protobuf';
import type { Clock } from '../../../../base/runtime/clock.ts';
import type { Host } from '../host.ts';

export interface HealthLog {
  /** `event` is the one field of HealthCheckEvent that says what happened. */
  write(host: Host, event: JsonObject): void;
}

export function healthLog(
  clusterName: string,
  type: 'HTTP' | 'TCP' | 'GRPC',
  clock: Clock,
  write: (line: string) => void,
): HealthLog {
  return {
    write(host, event) {
      const { address, locality, metadata } = host.spec;
      const where: JsonObject =
        address.kind === 'pipe'
          ? { pipe: { path: address.path } }
          : { socket_address: { protocol: 'TCP', address: address.ip, port_value: address.port } };
      const line: JsonObject = {
        health_checker_type: type,
        host: where,
        cluster_name: clusterName,
        ...event,
        timestamp: new Date(clock.now()).toISOString(),
        ...(Object.keys(metadata).length > 0 ? { metadata: { filter_metadata: { ...metadata } } } : {}),
        locality: {
          ...(locality.region ? { region: locality.region } : {}),
          ...(locality.zone ? { zone: locality.zone } : {}),
          ...(locality.subZone ? { sub_zone: locality.subZone } : {}),
        },
      };
      write(`${JSON.stringify(line)}\n`);
    },
  };
}
