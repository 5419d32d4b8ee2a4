// Role-based access control, evaluated anew from the stored roles and bindings for every question. Pure over the store.
// Called by the HTTP layer, the access reviews and the escalation check.
import type { Store } from '../../store/store.ts';
import type { UserInfo } from '../core.ts';
import { at, type Dict, dict, dicts, str, strings } from '../json.ts';
import { selectorPredicate } from '../selectors.ts';

const RBAC = 'rbac.authorization.k8s.io';
const MASTERS = 'system:masters';
const SERVICE_ACCOUNT_PREFIX = 'system:serviceaccount:';

export type AccessAttributes =
  | {
      readonly kind: 'resource';
      readonly verb: string;
      readonly namespace: string;
      readonly group: string;
      readonly version?: string;
      readonly resource: string;
      readonly subresource: string;
      readonly name: string;
    }
  | { readonly kind: 'path'; readonly verb: string; readonly path: string };

export interface AccessDecision {
  readonly allowed: boolean;
  /** Which binding allowed it; empty when nothing did. */
  readonly reason: string;
}

export interface GrantedRule {
  readonly rule: Dict;
  readonly binding: string;
}

export function authorize(store: Store, user: UserInfo, attributes: AccessAttributes): AccessDecision {
  if (user.groups.includes(MASTERS)) return { allowed: true, reason: '' };
  const namespace = attributes.kind === 'resource' ? attributes.namespace : '';
  for (const granted of grantedRules(store, user, namespace))
    if (ruleAllows(granted.rule, attributes)) return { allowed: true, reason: granted.binding };
  return { allowed: false, reason: '' };
}

/** Rules that hold for `user` everywhere, then those in `namespace`. */
export function* grantedRules(store: Store, user: UserInfo, namespace: string): Generator<GrantedRule> {
  for (const binding of store.list(`${RBAC}/clusterrolebindings`)) {
    const subject = dicts(binding.subjects).find((item) => isSubject(user, item, ''));
    if (!subject) continue;
    const roleRef = dict(binding.roleRef);
    const text = `RBAC: allowed by ClusterRoleBinding "${binding.metadata.name}" of ClusterRole "${str(roleRef.name)}" to ${subjectText(subject, '')}`;
    for (const rule of clusterRoleRules(store, str(roleRef.name))) yield { rule, binding: text };
  }
  if (namespace === '') return;
  for (const binding of store.list(`${RBAC}/rolebindings`, namespace)) {
    const subject = dicts(binding.subjects).find((item) => isSubject(user, item, namespace));
    if (!subject) continue;
    const roleRef = dict(binding.roleRef);
    const text = `RBAC: allowed by RoleBinding "${binding.metadata.name}/${namespace}" of ${str(roleRef.kind)} "${str(roleRef.name)}" to ${subjectText(subject, namespace)}`;
    for (const rule of rulesOfRef(store, roleRef, namespace)) yield { rule, binding: text };
  }
}

export function rulesOfRef(store: Store, roleRef: Dict, namespace: string): readonly Dict[] {
  if (roleRef.kind === 'ClusterRole') return clusterRoleRules(store, str(roleRef.name));
  return dicts(store.get(`${RBAC}/roles`, namespace, str(roleRef.name))?.rules);
}

function clusterRoleRules(store: Store, name: string): readonly Dict[] {
  const role = store.get(`${RBAC}/clusterroles`, '', name);
  if (!role) return [];
  const selectors = dicts(at(role, 'aggregationRule', 'clusterRoleSelectors')).map(selectorPredicate);
  if (selectors.length === 0) return dicts(role.rules);
  const parts = store
    .list(`${RBAC}/clusterroles`)
    .filter(
      (other) => other.metadata.name !== name && selectors.some((selects) => selects(dict(other.metadata.labels))),
    );
  return [...dicts(role.rules), ...parts.flatMap((part) => clusterRoleRules(store, part.metadata.name))];
}

function isSubject(user: UserInfo, subject: Dict, bindingNamespace: string): boolean {
  const name = str(subject.name);
  if (subject.kind === 'User') return name === user.username;
  if (subject.kind === 'Group') return user.groups.includes(name);
  if (subject.kind !== 'ServiceAccount') return false;
  return user.username === `${SERVICE_ACCOUNT_PREFIX}${str(subject.namespace) || bindingNamespace}:${name}`;
}

function subjectText(subject: Dict, bindingNamespace: string): string {
  if (subject.kind === 'ServiceAccount')
    return `ServiceAccount "${str(subject.name)}/${str(subject.namespace) || bindingNamespace}"`;
  return `${str(subject.kind)} "${str(subject.name)}"`;
}

const has = (values: readonly string[], wanted: string): boolean => values.includes('*') || values.includes(wanted);

export function ruleAllows(rule: Dict, attributes: AccessAttributes): boolean {
  if (!has(strings(rule.verbs), attributes.verb)) return false;
  if (attributes.kind === 'path') {
    return strings(rule.nonResourceURLs).some(
      (pattern) =>
        pattern === attributes.path || (pattern.endsWith('*') && attributes.path.startsWith(pattern.slice(0, -1))),
    );
  }
  if (!has(strings(rule.apiGroups), attributes.group)) return false;
  const { resource, subresource } = attributes;
  const wanted = subresource === '' ? resource : `${resource}/${subresource}`;
  const resources = strings(rule.resources);
  if (!has(resources, wanted) && !(subresource !== '' && resources.includes(`*/${subresource}`))) return false;
  const names = strings(rule.resourceNames);
  return names.length === 0 || names.includes(attributes.name);
}

/** Whether everything `wanted` allows is allowed by `owned` too: nobody may hand out more than they have. */
export function covers(owned: readonly Dict[], wanted: Dict): boolean {
  for (const verb of strings(wanted.verbs)) {
    for (const path of strings(wanted.nonResourceURLs))
      if (!owned.some((rule) => has(strings(rule.verbs), verb) && coversPath(strings(rule.nonResourceURLs), path)))
        return false;
    for (const group of strings(wanted.apiGroups))
      for (const resource of strings(wanted.resources)) {
        const names = strings(wanted.resourceNames);
        for (const name of names.length ? names : [undefined])
          if (!owned.some((rule) => coversOne(rule, verb, group, resource, name))) return false;
      }
  }
  return true;
}

function coversPath(patterns: readonly string[], path: string): boolean {
  return patterns.some(
    (pattern) => pattern === path || (pattern.endsWith('*') && path.startsWith(pattern.slice(0, -1))),
  );
}

function coversOne(rule: Dict, verb: string, group: string, resource: string, name: string | undefined): boolean {
  const names = strings(rule.resourceNames);
  const slash = resource.indexOf('/');
  const resources = strings(rule.resources);
  const coversResource = has(resources, resource) || (slash > 0 && resources.includes(`*${resource.slice(slash)}`));
  return (
    has(strings(rule.verbs), verb) &&
    has(strings(rule.apiGroups), group) &&
    coversResource &&
    (names.length === 0 || (name !== undefined && names.includes(name)))
  );
}
