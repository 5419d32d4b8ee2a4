// Decides whether an admission webhook wants a request, and in which version. Pure. Called by webhooks/admit.ts.
import { at, type Dict, dict, dicts, str, strings } from '../json.ts';
import type { ResourceDef } from '../resources.ts';
import { selectorPredicate } from '../selectors.ts';

export type Operation = 'CREATE' | 'UPDATE' | 'DELETE' | 'CONNECT';

export interface MatchInput {
  readonly operation: Operation;
  readonly def: ResourceDef;
  readonly subresource: string | undefined;
  readonly namespace: string | undefined;
  /** Labels of the namespace; undefined for cluster-scoped objects that have none. */
  readonly namespaceLabels: Dict | undefined;
  readonly object: Dict | undefined;
  readonly oldObject: Dict | undefined;
}

/** The served version the webhook is to be asked in, or undefined when it is not to be asked. */
export function matchWebhook(
  webhook: Dict,
  input: MatchInput,
  versions: readonly ResourceDef[],
): ResourceDef | undefined {
  const rules = dicts(webhook.rules);
  const exact = rules.some((rule) => matchesRule(rule, input, input.def)) ? input.def : undefined;
  const def =
    exact ??
    (str(webhook.matchPolicy) === 'Exact'
      ? undefined
      : versions.find((other) => rules.some((rule) => matchesRule(rule, input, other))));
  if (!def) return undefined;
  if (input.namespaceLabels && !selectorPredicate(webhook.namespaceSelector)(input.namespaceLabels)) return undefined;
  const selects = selectorPredicate(webhook.objectSelector);
  const states = [input.object, input.oldObject].filter((state) => state !== undefined);
  return states.some((state) => selects(dict(at(state, 'metadata', 'labels')))) ? def : undefined;
}

function matchesRule(rule: Dict, input: MatchInput, def: ResourceDef): boolean {
  const has = (values: readonly string[], wanted: string): boolean => values.includes('*') || values.includes(wanted);
  const scope = str(rule.scope) || '*';
  // A Namespace is cluster-scoped for this purpose, although it has a namespace of its own name.
  const namespaced = def.namespaced;
  if (scope === 'Namespaced' && !namespaced) return false;
  if (scope === 'Cluster' && namespaced) return false;
  return (
    has(strings(rule.operations), input.operation) &&
    has(strings(rule.apiGroups), def.group) &&
    has(strings(rule.apiVersions), def.version) &&
    strings(rule.resources).some((resource) => matchesResource(resource, def.resource, input.subresource ?? ''))
  );
}

function matchesResource(pattern: string, resource: string, subresource: string): boolean {
  const slash = pattern.indexOf('/');
  const wantedResource = slash < 0 ? pattern : pattern.slice(0, slash);
  const wantedSub = slash < 0 ? '' : pattern.slice(slash + 1);
  return (wantedResource === '*' || wantedResource === resource) && (wantedSub === '*' || wantedSub === subresource);
}
