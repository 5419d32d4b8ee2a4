// envoy.filters.http.rbac: allows or refuses a request by policies; shadow policies only count and leave what they would
// have done as metadata. The policies themselves: src/rbac.
import type { JsonObject } from '@bufbuild/protobuf';
import {
  type RBACPerRoute,
  RBACPerRouteSchema,
  RBACSchema,
  type RBAC as RbacMessage,
} from '#proto/envoy/extensions/filters/http/rbac/v3/rbac_pb.js';
import type { Logger } from '../../../base/runtime/log.ts';
import { type Decision, deniedDetails } from '../../../rbac/engine.ts';
import { join, only } from '../config/fields.ts';
import type { StreamInfo } from '../http/stream-info.ts';
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
  context: { readonly name: string; readonly stats: StatsStore; readonly log: Logger; readonly statPrefix: string },
): HttpFilter {
  const counters = policyCounters(own, context, `${context.statPrefix}rbac.`);
  const facts = new HttpFacts();
  const noteShadow = notes(own.shadowPrefix, 'shadow');
  const noteEnforced = notes(own.enforcedPrefix, 'enforced');
  return {
    name: context.name,
    onRequest(stream) {
      const perRoute = stream.settingsOf(context.name) as ReturnType<typeof readRbacPerRoute> | undefined;
      const policies = perRoute ? perRoute.policies : own;
      if (!policies) return 'continue';
      facts.stream = stream;
      const shadow = policies.shadow?.decide(facts);
      if (shadow) noteShadow(stream.info, shadow, counters.shadow(shadow));
      const enforced = policies.enforced?.decide(facts);
      facts.stream = undefined;
      if (!enforced) return 'continue';
      noteEnforced(stream.info, enforced, counters.enforced(enforced));
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

/** Metadata of decisions: the same few objects over and over, never changed. */
function notes(
  prefix: string,
  kind: 'shadow' | 'enforced',
): (info: StreamInfo, decision: Decision, result: Verdict) => void {
  const known = new WeakMap<Decision, JsonObject>();
  return (info, decision, result) => {
    let values = known.get(decision);
    if (!values) {
      values = { [`${prefix}${kind}_engine_result`]: result };
      if (decision.policy !== '') values[`${prefix}${kind}_effective_policy_id`] = decision.policy;
      known.set(decision, values);
    }
    info.addMetadata(NAMESPACE, values);
  };
}
