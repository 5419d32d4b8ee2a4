// Secret.
import type { KubeObject, ResourceType } from '../../base/kube/types.ts';

export const SECRETS: ResourceType = {
  group: '',
  version: 'v1',
  resource: 'secrets',
  kind: 'Secret',
  namespaced: true,
};

export interface Secret extends KubeObject {
  /** `Opaque`, `kubernetes.io/tls`, `istio.io/ca-root`, … */
  readonly type?: string;
  /** base64. */
  readonly data?: Readonly<Record<string, string>>;
  /** Only in what is written; the server moves it into `data`. */
  readonly stringData?: Readonly<Record<string, string>>;
  readonly immutable?: boolean;
}
