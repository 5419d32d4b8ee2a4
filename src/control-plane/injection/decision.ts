// Whether a pod gets a sidecar, once the webhook has been asked. Pure; the order is Istio's injectRequired.
import type { Pod } from '../../api/kubernetes/pod.ts';
import { type LabelSelector, matchesLabelSelector } from '../../base/kube/selectors.ts';
import type { InjectionConfig } from './config.ts';

export type Decision = { readonly inject: true } | { readonly inject: false; readonly why: string };

const NEVER = new Set(['kube-system', 'kube-public', 'kube-node-lease', 'local-path-storage']);
const STATUS = 'sidecar.istio.io/status';
export const INJECT = 'sidecar.istio.io/inject';

export function decide(
  pod: Pod,
  namespace: string,
  config: Pick<InjectionConfig, 'policy' | 'neverInject' | 'alwaysInject'>,
): Decision {
  if (pod.spec.hostNetwork === true) return { inject: false, why: 'the pod uses the host network' };
  if (NEVER.has(namespace)) return { inject: false, why: `namespace ${namespace} is never injected` };
  if (
    pod.metadata.annotations?.[STATUS] !== undefined &&
    [...pod.spec.containers, ...(pod.spec.initContainers ?? [])].some((c) => c.name === 'istio-proxy')
  )
    return { inject: false, why: 'it was injected before, by kube-inject' };
  const value = pod.metadata.labels?.[INJECT] ?? pod.metadata.annotations?.[INJECT];
  if (value === 'true') return { inject: true };
  if (value === 'false') return { inject: false, why: `${INJECT} is "false"` };
  const labels = pod.metadata.labels ?? {};
  const matches = (selector: LabelSelector): boolean => !isEmpty(selector) && matchesLabelSelector(selector, labels);
  if (config.neverInject.some(matches)) return { inject: false, why: 'it matches neverInjectSelector' };
  if (config.alwaysInject.some(matches)) return { inject: true };
  return config.policy === 'enabled' ? { inject: true } : { inject: false, why: 'the policy is disabled' };
}

/** An empty selector would match every pod; here it means that nothing was asked. */
function isEmpty(selector: LabelSelector): boolean {
  return Object.keys(selector.matchLabels ?? {}).length === 0 && (selector.matchExpressions ?? []).length === 0;
}
