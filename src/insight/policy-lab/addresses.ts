// The addresses of a mesh under test, as its configuration sees them: they never reach a network (fabric.ts maps them to
// loopback). Called by read.ts and objects.ts.
import type { TestService, TestWorkload } from './format.ts';

export interface Addresses {
  /** Of each replica, by `<namespace>/<workload>`. */
  readonly pods: ReadonlyMap<string, readonly string[]>;
  /** By `<namespace>/<service>`; none for a headless Service. */
  readonly clusterIps: ReadonlyMap<string, string>;
}

/** In order of the file, so that a file always means the same addresses. */
export function addressesOf(services: readonly TestService[], workloads: readonly TestWorkload[]): Addresses {
  const taken = new Set(workloads.flatMap((w) => (w.ip === undefined ? [] : [w.ip])));
  let next = 0;
  const fresh = (prefix: string): string => {
    for (;;) {
      next += 1;
      const ip = `${prefix}.${next >> 8}.${next & 255}`;
      if ((next & 255) !== 0 && (next & 255) !== 255 && !taken.has(ip)) return ip;
    }
  };
  const pods = new Map<string, readonly string[]>();
  for (const workload of workloads)
    pods.set(
      `${workload.namespace}/${workload.name}`,
      Array.from({ length: workload.replicas }, (_, i) => (i === 0 && workload.ip ? workload.ip : fresh('10.244'))),
    );
  const clusterIps = new Map<string, string>();
  for (const service of services)
    if (!service.headless) clusterIps.set(`${service.namespace}/${service.name}`, fresh('10.96'));
  return { pods, clusterIps };
}
