// ReplicaSet.
import type { KubeObject, ResourceType } from '../../base/kube/types.ts';
import type { Condition } from './condition.ts';
import type { LabelSelector } from './label-selector.ts';
import type { PodTemplateSpec } from './pod.ts';

export const REPLICA_SETS: ResourceType = {
  group: 'apps',
  version: 'v1',
  resource: 'replicasets',
  kind: 'ReplicaSet',
  namespaced: true,
};

export interface ReplicaSet extends KubeObject {
  readonly spec: {
    readonly replicas?: number;
    readonly minReadySeconds?: number;
    readonly selector: LabelSelector;
    readonly template: PodTemplateSpec;
  };
  readonly status?: {
    readonly replicas?: number;
    readonly fullyLabeledReplicas?: number;
    readonly readyReplicas?: number;
    readonly availableReplicas?: number;
    readonly observedGeneration?: number;
    readonly conditions?: readonly Condition[];
  };
}
