// ControllerRevision: a past template of a StatefulSet or DaemonSet, which `kubectl rollout history` lists.
import type { KubeObject, ResourceType } from '../../base/kube/types.ts';

export const CONTROLLER_REVISIONS: ResourceType = {
  group: 'apps',
  version: 'v1',
  resource: 'controllerrevisions',
  kind: 'ControllerRevision',
  namespaced: true,
};

export interface ControllerRevision extends KubeObject {
  /** A patch of the owner: `{spec: {template: {…, $patch: 'replace'}}}`. */
  readonly data?: unknown;
  readonly revision: number;
}
