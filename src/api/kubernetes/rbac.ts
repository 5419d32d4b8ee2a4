// Role, ClusterRole and their bindings (rbac.authorization.k8s.io): Kubernetes' own access rules, not the mesh's.
import type { KubeObject, ResourceType } from '../../base/kube/types.ts';
import type { LabelSelector } from './label-selector.ts';

const RBAC = { group: 'rbac.authorization.k8s.io', version: 'v1' } as const;
export const ROLES: ResourceType = { ...RBAC, resource: 'roles', kind: 'Role', namespaced: true };
export const ROLE_BINDINGS: ResourceType = { ...RBAC, resource: 'rolebindings', kind: 'RoleBinding', namespaced: true };
export const CLUSTER_ROLES: ResourceType = {
  ...RBAC,
  resource: 'clusterroles',
  kind: 'ClusterRole',
  namespaced: false,
};
export const CLUSTER_ROLE_BINDINGS: ResourceType = {
  ...RBAC,
  resource: 'clusterrolebindings',
  kind: 'ClusterRoleBinding',
  namespaced: false,
};

export interface PolicyRule {
  readonly verbs: readonly string[];
  readonly apiGroups?: readonly string[];
  readonly resources?: readonly string[];
  readonly resourceNames?: readonly string[];
  readonly nonResourceURLs?: readonly string[];
}

export interface Role extends KubeObject {
  readonly rules?: readonly PolicyRule[];
}

export interface ClusterRole extends KubeObject {
  readonly rules?: readonly PolicyRule[];
  readonly aggregationRule?: { readonly clusterRoleSelectors?: readonly LabelSelector[] };
}

export interface Subject {
  readonly kind: 'User' | 'Group' | 'ServiceAccount';
  readonly apiGroup?: string;
  readonly name: string;
  readonly namespace?: string;
}

export interface RoleRef {
  readonly apiGroup: string;
  readonly kind: 'Role' | 'ClusterRole';
  readonly name: string;
}

export interface RoleBinding extends KubeObject {
  readonly subjects?: readonly Subject[];
  readonly roleRef: RoleRef;
}

export interface ClusterRoleBinding extends KubeObject {
  readonly subjects?: readonly Subject[];
  readonly roleRef: RoleRef;
}
