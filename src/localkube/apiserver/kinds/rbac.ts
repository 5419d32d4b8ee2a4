// Roles and bindings: roleRef never changes, and nobody hands out rights they do not have.
import { authorize, covers, grantedRules, rulesOfRef } from '../auth/rbac.ts';
import type { Core, RequestContext } from '../core.ts';
import { type ApiObject, type Dict, dict, dicts, equal, str } from '../json.ts';
import type { ResourceDef } from '../resources.ts';
import { forbidden, invalid } from '../status.ts';
import type { Strategy } from './strategy.ts';

export const clusterRoleStrategy: Strategy = {
  validate(core, next, live, context, def) {
    if (def.kind.endsWith('Binding')) checkBinding(core, next, live, context, def);
    else if (!live || !equal(live.rules, next.rules) || !equal(live.aggregationRule, next.aggregationRule))
      checkEscalation(core, next, context, def, 'escalate', def.resource, next.metadata.name, dicts(next.rules));
  },
};

function checkBinding(
  core: Core,
  next: ApiObject,
  live: ApiObject | undefined,
  context: RequestContext,
  def: ResourceDef,
): void {
  const roleRef = dict(next.roleRef);
  for (const [index, subject] of dicts(next.subjects).entries()) {
    if (subject.kind === 'ServiceAccount' && !subject.namespace)
      throw invalid(def, next.metadata.name, [{ path: `subjects[${index}].namespace`, message: 'Required value' }]);
  }
  if (live && !equal(live.roleRef, next.roleRef))
    throw invalid(def, next.metadata.name, [
      { path: 'roleRef', message: `Invalid value: ${JSON.stringify(roleRef)}: cannot change roleRef` },
    ]);
  if (live && equal(live.subjects, next.subjects)) return;
  const rules = rulesOfRef(core.store, roleRef, next.metadata.namespace ?? '');
  const resource = roleRef.kind === 'ClusterRole' ? 'clusterroles' : 'roles';
  checkEscalation(core, next, context, def, 'bind', resource, str(roleRef.name), rules);
}

function checkEscalation(
  core: Core,
  next: ApiObject,
  context: RequestContext,
  def: ResourceDef,
  verb: string,
  resource: string,
  name: string,
  rules: readonly Dict[],
): void {
  const namespace = next.metadata.namespace ?? '';
  const allowed = authorize(core.store, context.user, {
    kind: 'resource',
    verb,
    namespace,
    group: 'rbac.authorization.k8s.io',
    resource,
    subresource: '',
    name,
  }).allowed;
  if (allowed) return;
  const owned = [...grantedRules(core.store, context.user, namespace)].map((item) => item.rule);
  const extra = rules.filter((rule) => !covers(owned, rule));
  if (extra.length === 0) return;
  throw forbidden(
    def,
    next.metadata.name,
    `user "${context.user.username}" (groups=${JSON.stringify(context.user.groups)}) is attempting to grant RBAC permissions not currently held:\n${extra.map((rule) => JSON.stringify(rule)).join('\n')}`,
  );
}
