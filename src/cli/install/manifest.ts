// Small helpers of the manifest builders in this folder.
import type { KubeObject } from '../../base/kube/types.ts';
import type { InstallSpec } from './profiles.ts';

export const ROOT_NAMESPACE = 'istio-system';

/** Every object of an installation carries this, so that uninstall finds them again. */
export const OWNED_LABEL = 'install.operator.istio.io/owning-resource';

export type Manifest = KubeObject & Readonly<Record<string, unknown>>;

const CLUSTER_SCOPED = new Set([
  'Namespace',
  'ClusterRole',
  'ClusterRoleBinding',
  'CustomResourceDefinition',
  'MutatingWebhookConfiguration',
  'ValidatingWebhookConfiguration',
]);

export function named(
  apiVersion: string,
  kind: string,
  name: string,
  labels: Readonly<Record<string, string>>,
  rest: Readonly<Record<string, unknown>> = {},
): Manifest {
  return {
    apiVersion,
    kind,
    metadata: {
      name,
      ...(CLUSTER_SCOPED.has(kind) ? {} : { namespace: ROOT_NAMESPACE }),
      labels: { ...labels, [OWNED_LABEL]: 'meltemi' },
    },
    ...rest,
  };
}

export function dockerImage(spec: InstallSpec, name: string): string {
  return `${spec.hub}/${name}:${spec.tag}`;
}
