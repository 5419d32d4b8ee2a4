// Starts all controllers of the embedded Kubernetes. Called by localkube's wiring.
import type { KubeClient, ResourceType } from '../../base/kube/types.ts';
import type { Clock } from '../../base/runtime/clock.ts';
import { errorText, type Logger } from '../../base/runtime/log.ts';
import { createContext } from './context.ts';
import { startCronJobController } from './cron-job.ts';
import { startDaemonSetController } from './daemon-set.ts';
import { startDeploymentController } from './deployment.ts';
import { startEndpointsController } from './endpoints.ts';
import { startEndpointsMirror } from './endpoints-mirror.ts';
import { startGarbageCollector } from './garbage-collector.ts';
import { startJobController } from './job.ts';
import { startNamespaceController } from './namespace.ts';
import { collectLostPods } from './pod-gc.ts';
import { startReplicaSetController } from './replica-set.ts';
import { startScheduler } from './scheduler.ts';
import { startServiceAccountController } from './service-account.ts';
import { startStatefulSetController } from './stateful-set.ts';

export interface ControllersOptions {
  readonly client: KubeClient;
  readonly clock: Clock;
  readonly log: Logger;
  readonly random: () => number;
  /** The cluster's CA, for kube-root-ca.crt. */
  readonly caPem: string;
  /** Every kind that can be listed and watched now, custom resources among them. */
  readonly resourceTypes: () => Promise<readonly ResourceType[]>;
}

export interface Controllers {
  close(): void;
}

export function startControllers(options: ControllersOptions): Controllers {
  const { client, clock, log, random, caPem, resourceTypes } = options;
  const context = createContext({ client, clock, log, random });
  const running = [
    startServiceAccountController(context, caPem),
    startScheduler(context),
    startReplicaSetController(context),
    startDeploymentController(context),
    startStatefulSetController(context),
    startDaemonSetController(context),
    startJobController(context),
    startCronJobController(context),
    startEndpointsController(context),
    startEndpointsMirror(context),
    startNamespaceController(context, resourceTypes),
    startGarbageCollector(context, resourceTypes),
  ];
  collectLostPods(context).catch((error) => log.error('pod collection failed', { error: errorText(error) }));
  return {
    close() {
      for (const controller of running) controller.close();
      context.close();
    },
  };
}
