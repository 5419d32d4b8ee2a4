// What single kinds do on their way into the store, beyond schema and defaults. Called by ops/*.
import type { Core, RequestContext } from '../core.ts';
import type { ApiObject } from '../json.ts';
import type { ResourceDef } from '../resources.ts';
import { crdStrategy } from './crd.ts';
import { deploymentLike, jobStrategy, nodeStrategy, secretStrategy, webhookStrategy } from './misc.ts';
import { namespaceStrategy } from './namespace.ts';
import { podStrategy } from './pod.ts';
import { clusterRoleStrategy } from './rbac.ts';
import { serviceStrategy } from './service.ts';

export interface Strategy {
  /** Nodes: the kubelet registers them with their status. */
  readonly keepsStatusOnCreate?: boolean;
  prepareCreate?(core: Core, object: ApiObject, context: RequestContext, def: ResourceDef): void;
  prepareUpdate?(
    core: Core,
    next: ApiObject,
    live: ApiObject,
    context: RequestContext,
    subresource: string | undefined,
  ): void;
  /** Throws ApiError. */
  validate?(core: Core, next: ApiObject, live: ApiObject | undefined, context: RequestContext, def: ResourceDef): void;
  /** Takes shared numbers; nothing may be awaited between this and the write. */
  allocate?(core: Core, next: ApiObject, live: ApiObject | undefined): void;
  checkDelete?(core: Core, live: ApiObject): void;
  markDeleted?(core: Core, next: ApiObject): void;
}

const NONE: Strategy = {};

const STRATEGIES: Readonly<Record<string, Strategy>> = {
  '/pods': podStrategy,
  '/services': serviceStrategy,
  '/namespaces': namespaceStrategy,
  '/nodes': nodeStrategy,
  '/secrets': secretStrategy,
  'batch/jobs': jobStrategy,
  'apps/deployments': deploymentLike,
  'apps/replicasets': deploymentLike,
  'apps/statefulsets': deploymentLike,
  'apps/daemonsets': deploymentLike,
  'apiextensions.k8s.io/customresourcedefinitions': crdStrategy,
  'admissionregistration.k8s.io/mutatingwebhookconfigurations': webhookStrategy,
  'admissionregistration.k8s.io/validatingwebhookconfigurations': webhookStrategy,
  'rbac.authorization.k8s.io/clusterroles': clusterRoleStrategy,
  'rbac.authorization.k8s.io/roles': clusterRoleStrategy,
  'rbac.authorization.k8s.io/clusterrolebindings': clusterRoleStrategy,
  'rbac.authorization.k8s.io/rolebindings': clusterRoleStrategy,
};

export function strategyOf(def: ResourceDef): Strategy {
  return STRATEGIES[def.collection] ?? NONE;
}
