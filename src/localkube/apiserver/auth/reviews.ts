// The kinds that are questions: TokenReview, SelfSubjectReview, the access reviews. Called by dispatch.ts.
import { type Core, nowText, type RequestContext, type UserInfo } from '../core.ts';
import { type Dict, dict, isDict, str, strings } from '../json.ts';
import { groupVersion, type ResourceDef } from '../resources.ts';
import { badRequest, invalid } from '../status.ts';
import { type AccessAttributes, authorize, grantedRules } from './rbac.ts';
import type { TokenIssuer } from './tokens.ts';

export function answerReview(
  core: Core,
  tokens: TokenIssuer,
  context: RequestContext,
  def: ResourceDef,
  namespace: string,
  body: unknown,
): Dict {
  if (!isDict(body)) throw badRequest('the body of the request is not an object');
  const spec = dict(body.spec);
  const answer = (status: Dict): Dict => ({
    kind: def.kind,
    apiVersion: groupVersion(def),
    metadata: {
      ...dict(body.metadata),
      creationTimestamp: def.kind === 'SelfSubjectReview' ? nowText(core.clock) : null,
    },
    ...(def.kind === 'SelfSubjectReview' ? {} : { spec }),
    status,
  });
  switch (def.kind) {
    case 'TokenReview':
      return answer(reviewToken(tokens, def, spec));
    case 'SelfSubjectReview':
      return answer({ userInfo: userText(context.user) });
    case 'SelfSubjectAccessReview':
      return answer(reviewAccess(core, def, context.user, spec));
    case 'SubjectAccessReview':
      return answer(reviewAccess(core, def, subjectOf(def, spec), spec));
    case 'LocalSubjectAccessReview':
      if (str(dict(spec.resourceAttributes).namespace) !== namespace)
        throw invalid(def, '', [
          {
            path: 'spec.resourceAttributes.namespace',
            message: `Invalid value: "${str(dict(spec.resourceAttributes).namespace)}": must match metadata.namespace`,
          },
        ]);
      return answer(reviewAccess(core, def, subjectOf(def, spec), spec));
    default:
      return answer(rulesStatus(core, context.user, str(spec.namespace)));
  }
}

function reviewToken(tokens: TokenIssuer, def: ResourceDef, spec: Dict): Dict {
  if (!str(spec.token)) throw badRequest(`${def.kind} needs spec.token`);
  const check = tokens.check(str(spec.token), strings(spec.audiences));
  if (check.kind === 'refused') return { user: {}, error: check.why };
  return { authenticated: true, user: userText(check.user), audiences: check.audiences };
}

function userText(user: UserInfo): Dict {
  return {
    username: user.username,
    ...(user.uid ? { uid: user.uid } : {}),
    groups: user.groups,
    ...(user.extra && Object.keys(user.extra).length ? { extra: user.extra } : {}),
  };
}

function subjectOf(def: ResourceDef, spec: Dict): UserInfo {
  const groups = strings(spec.groups);
  if (!str(spec.user) && groups.length === 0)
    throw invalid(def, '', [
      { path: 'spec.user', message: 'Invalid value: "": at least one of user or group must be specified' },
    ]);
  const extra: Record<string, readonly string[]> = {};
  for (const [key, value] of Object.entries(dict(spec.extra))) extra[key] = strings(value);
  return { username: str(spec.user), uid: str(spec.uid), groups, extra };
}

function reviewAccess(core: Core, def: ResourceDef, user: UserInfo, spec: Dict): Dict {
  const decision = authorize(core.store, user, attributesOf(def, spec));
  return { allowed: decision.allowed, ...(decision.reason ? { reason: decision.reason } : {}) };
}

function attributesOf(def: ResourceDef, spec: Dict): AccessAttributes {
  const resource = spec.resourceAttributes;
  const path = spec.nonResourceAttributes;
  if (isDict(resource) === isDict(path))
    throw invalid(def, '', [
      {
        path: 'spec.resourceAttributes',
        message: 'Invalid value: null: exactly one of nonResourceAttributes or resourceAttributes must be specified',
      },
    ]);
  if (isDict(path)) return { kind: 'path', verb: str(path.verb), path: str(path.path) };
  const asked = dict(resource);
  return {
    kind: 'resource',
    verb: str(asked.verb),
    namespace: str(asked.namespace),
    group: str(asked.group),
    version: str(asked.version),
    resource: str(asked.resource),
    subresource: str(asked.subresource),
    name: str(asked.name),
  };
}

function rulesStatus(core: Core, user: UserInfo, namespace: string): Dict {
  if (!namespace) throw badRequest('no namespace on request');
  const resourceRules: Dict[] = [];
  const nonResourceRules: Dict[] = [];
  const rules = user.groups.includes('system:masters')
    ? [
        { verbs: ['*'], apiGroups: ['*'], resources: ['*'] },
        { verbs: ['*'], nonResourceURLs: ['*'] },
      ]
    : [...grantedRules(core.store, user, namespace)].map((item) => item.rule);
  for (const rule of rules as readonly Dict[]) {
    if (strings(rule.resources).length)
      resourceRules.push({
        verbs: rule.verbs,
        apiGroups: rule.apiGroups,
        resources: rule.resources,
        ...(rule.resourceNames ? { resourceNames: rule.resourceNames } : {}),
      });
    if (strings(rule.nonResourceURLs).length)
      nonResourceRules.push({ verbs: rule.verbs, nonResourceURLs: rule.nonResourceURLs });
  }
  return { resourceRules, nonResourceRules, incomplete: false };
}
