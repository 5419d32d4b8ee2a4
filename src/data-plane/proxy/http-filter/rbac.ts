// envoy.filters.http.rbac: allows or refuses a request by policies; shadow policies only count and leave what they would
// have done as metadata. The policies themselves: src/rbac.
import {
  type RBACPerRoute,
  RBACPerRouteSchema,
  RBACSchema,
  type RBAC as RbacMessage,
} from '#proto/envoy/extensions/filters/http/rbac/v3/rbac_pb.js';
import { deniedDetails } from '../../../rbac/engine.ts';
import { join, only } from '../config/fields.ts';
import type { HttpStream } from '../http/stream.ts';
import { type Policies, policyCounters, readPolicies, type Verdict } from '../rbac/policies.ts';
import type { StatsStore } from '../stats/stats.ts';
import type { HttpFilter } from './filter.ts';
import { HttpFacts } from './http-facts.ts';

/** Metadata and logs know the filter by this name, whatever the configuration calls it. */
const NAMESPACE = 'envoy.filters.http.rbac';

export function readRbac(message: RbacMessage, path: string): Policies {
  only(RBACSchema, message, path, [
    'rules',
    'rules_stat_prefix',
    'matcher',
    'shadow_rules',
    'shadow_matcher',
    'shadow_rules_stat_prefix',
    'track_per_rule_stats',
  ]);
  return readPolicies(message, { enforced: message.rulesStatPrefix, perPolicy: message.trackPerRuleStats }, path);
}

/** Undefined = policies are off on this route. */
export function readRbacPerRoute(message: RBACPerRoute, path: string): { readonly policies: Policies | undefined } {
  only(RBACPerRouteSchema, message, path, ['rbac']);
  return { policies: message.rbac && readRbac(message.rbac, join(path, 'rbac')) };
}

export function createRbacFilter(
  own: Policies,
  context: { readonly name: string; readonly stats: StatsStore; readonly statPrefix: string },
): HttpFilter {
  const counters = policyCounters(own, context.stats, `${context.statPrefix}rbac.`);
  const facts = new HttpFacts();
  return {
    name: context.name,
    onRequest(stream) {
      const perRoute = stream.settingsOf(context.name) as ReturnType<typeof readRbacPerRoute> | undefined;
      const policies = perRoute ? perRoute.policies : own;
      if (!policies) return 'continue';
      facts.stream = stream;
      const shadow = policies.shadow?.decide(facts);
      if (shadow) note(stream, own.shadowPrefix, 'shadow', counters.shadow(shadow), shadow.policy);
      const enforced = policies.enforced?.decide(facts);
      facts.stream = undefined;
      if (!enforced) return 'continue';
      note(stream, own.enforcedPrefix, 'enforced', counters.enforced(enforced), enforced.policy);
      if (enforced.log !== undefined) stream.info.addMetadata('envoy.common', { access_log_hint: enforced.log });
      if (enforced.allowed) return 'continue';
      stream.localReply({
        status: 403,
        body: 'RBAC: access denied',
        flags: 0,
        details: deniedDetails(enforced.policy),
      });
      return 'stop';
    },
  };
}

function note(stream: HttpStream, prefix: string, kind: 'shadow' | 'enforced', result: Verdict, policy: string): void {
  stream.info.addMetadata(NAMESPACE, {
    [`${prefix}${kind}_engine_result`]: result,
    ...(policy === '' ? {} : { [`${prefix}${kind}_effective_policy_id`]: policy }),
  });
}
