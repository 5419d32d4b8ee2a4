// What every pod's worker shares: the node, its tools and its looks into the API. Made by start.ts.
import type { Pod } from '../../api/kubernetes/pod.ts';
import type { KubeClient } from '../../base/kube/types.ts';
import type { Clock } from '../../base/runtime/clock.ts';
import type { Logger } from '../../base/runtime/log.ts';
import type { NodeNetwork } from '../network/types.ts';
import type { NodeSettings } from './container-start.ts';
import type { ObjectLookup } from './env.ts';
import type { EventRecorder } from './events.ts';
import type { Execution } from './exec.ts';
import type { DnsSettings } from './names.ts';
import type { Runtime } from './runtime.ts';

export interface PodContext {
  readonly client: KubeClient;
  readonly clock: Clock;
  readonly log: Logger;
  readonly network: Pick<NodeNetwork, 'attachPod' | 'detachPod' | 'dial'>;
  readonly runtime: Runtime;
  readonly execution: Execution;
  readonly events: EventRecorder;
  readonly settings: NodeSettings;
  readonly lookup: ObjectLookup;
  readonly hostIp: string;
  readonly capacity: { readonly cpu: number; readonly memory: number };
  readonly dns: DnsSettings;
}

export function podKey(pod: Pod): string {
  return `${pod.metadata.name}_${pod.metadata.namespace}(${pod.metadata.uid})`;
}
