// The MutatingWebhookConfiguration that asks istiod about pods: four entries, so that the table of namespace and pod
// labels in ARCHITECTURE's spec of injection holds. Pure. Called by the installer.
import type { KubeObject } from '../../base/kube/types.ts';

export interface WebhookInput {
  readonly revision: string;
  readonly namespace: string;
  /** Base64 PEM; istiod puts its own in. */
  readonly caBundle: string;
  /** sidecarInjectorWebhook.enableNamespacesByDefault: namespaces that say nothing are injected too. */
  readonly enableNamespacesByDefault?: boolean;
}

type Expression = { readonly key: string; readonly operator: string; readonly values?: readonly string[] };
type Selector = { readonly matchExpressions: readonly Expression[] };

const absent = (key: string): Expression => ({ key, operator: 'DoesNotExist' });
const isIn = (key: string, ...values: string[]): Expression => ({ key, operator: 'In', values });
const notIn = (key: string, ...values: string[]): Expression => ({ key, operator: 'NotIn', values });
const select = (...matchExpressions: Expression[]): Selector => ({ matchExpressions });

const NS_INJECTION = 'istio-injection';
const REV = 'istio.io/rev';
const NS_NAME = 'kubernetes.io/metadata.name';
const SYSTEM_NAMESPACES = ['kube-system', 'kube-public', 'kube-node-lease', 'local-path-storage'];
const POD_INJECT = 'sidecar.istio.io/inject';

export function mutatingWebhookConfiguration(
  input: WebhookInput,
): KubeObject & { readonly webhooks: readonly unknown[] } {
  const webhook = (prefix: string, namespaceSelector: Selector, objectSelector: Selector) => ({
    name: `${prefix}.sidecar-injector.istio.io`,
    clientConfig: {
      service: { name: 'istiod', namespace: input.namespace, path: '/inject', port: 443 },
      caBundle: input.caBundle,
    },
    sideEffects: 'None',
    rules: [{ operations: ['CREATE'], apiGroups: [''], apiVersions: ['v1'], resources: ['pods'] }],
    failurePolicy: 'Fail',
    reinvocationPolicy: 'Never',
    admissionReviewVersions: ['v1'],
    namespaceSelector,
    objectSelector,
  });
  const suffix = input.revision === 'default' ? '' : `-${input.revision}`;
  return {
    apiVersion: 'admissionregistration.k8s.io/v1',
    kind: 'MutatingWebhookConfiguration',
    metadata: {
      name: `istio-sidecar-injector${suffix}`,
      labels: { app: 'sidecar-injector', 'istio.io/rev': input.revision },
    },
    webhooks: [
      webhook(
        'rev.namespace',
        select(isIn(REV, input.revision), absent(NS_INJECTION)),
        select(notIn(POD_INJECT, 'false')),
      ),
      webhook(
        'rev.object',
        select(absent(REV), absent(NS_INJECTION)),
        select(notIn(POD_INJECT, 'false'), isIn(REV, input.revision)),
      ),
      ...(input.revision === 'default'
        ? [
            webhook('namespace', select(isIn(NS_INJECTION, 'enabled')), select(notIn(POD_INJECT, 'false'))),
            webhook('object', select(absent(NS_INJECTION), absent(REV)), select(isIn(POD_INJECT, 'true'), absent(REV))),
            ...(input.enableNamespacesByDefault
              ? [
                  webhook(
                    'auto',
                    select(absent(NS_INJECTION), absent(REV), notIn(NS_NAME, ...SYSTEM_NAMESPACES)),
                    select(absent(POD_INJECT), absent(REV)),
                  ),
                ]
              : []),
          ]
        : []),
    ],
  };
}
