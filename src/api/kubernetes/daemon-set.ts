// DaemonSet.
import type { KubeObject, ResourceType } from '../../base/kube/types.ts';
import type { Condition } from './condition.ts';
import type { LabelSelector } from './label-selector.ts';
import type { PodTemplateSpec } from './pod.ts';

export const DAEMON_SETS: ResourceType = {
  group: 'apps',
  version: 'v1',
  resource: 'daemonsets',
  kind: 'DaemonSet',
  namespaced: true,
};

export interface DaemonSet extends KubeObject {
  readonly spec: {
    readonly selector: LabelSelector;
    readonly template: PodTemplateSpec;
    readonly updateStrategy?: {
      readonly type?: 'RollingUpdate' | 'OnDelete';
      readonly rollingUpdate?: { readonly maxUnavailable?: number | string; readonly maxSurge?: number | string };
    };
    readonly minReadySeconds?: number;
    readonly revisionHistoryLimit?: number;
  };
  readonly status?: {
    readonly currentNumberScheduled?: number;
    readonly numberMisscheduled?: number;
    readonly desiredNumberScheduled?: number;
    readonly numberReady?: number;
    readonly observedGeneration?: number;
    readonly updatedNumberScheduled?: number;
    readonly numberAvailable?: number;
    readonly numberUnavailable?: number;
    readonly collisionCount?: number;
    readonly conditions?: readonly Condition[];
  };
}
