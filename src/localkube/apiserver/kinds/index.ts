// What single kinds do on their way into the store, beyond schema and defaults. Called by ops/*.
import type { ResourceDef } from '../resources.ts';
import { crdStrategy } from './crd.ts';
import { deploymentLike, jobStrategy, nodeStrategy, secretStrategy, webhookStrategy } from './misc.ts';
import { namespaceStrategy } from './namespace.ts';
import { podStrategy } from './pod.ts';
import { clusterRoleStrategy } from './rbac.ts';
import { serviceStrategy } from './service.ts';
import type { Strategy } from './strategy.ts';

export type { Strategy } from './strategy.ts';

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
