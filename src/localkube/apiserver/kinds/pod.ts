// Pods: first status and quality-of-service class; what cannot run here is refused by name elsewhere (kubelet).
import { type ApiObject, at, dict, dicts, equal } from '../json.ts';
import type { Strategy } from './strategy.ts';

export const podStrategy: Strategy = {
  prepareCreate(_core, object) {
    object.status = { phase: 'Pending', qosClass: qosClass(object) };
  },
};

/** Guaranteed, Burstable or BestEffort, from the containers' cpu and memory. */
export function qosClass(pod: ApiObject): string {
  const spec = dict(pod.spec);
  const containers = [...dicts(spec.initContainers), ...dicts(spec.containers)];
  let any = false;
  let guaranteed = true;
  for (const container of containers) {
    const limits = dict(at(container, 'resources', 'limits'));
    const requests = dict(at(container, 'resources', 'requests'));
    for (const resource of ['cpu', 'memory']) {
      if (limits[resource] !== undefined || requests[resource] !== undefined) any = true;
      if (
        limits[resource] === undefined ||
        (requests[resource] !== undefined && !equal(limits[resource], requests[resource]))
      )
        guaranteed = false;
    }
  }
  return !any ? 'BestEffort' : guaranteed ? 'Guaranteed' : 'Burstable';
}
