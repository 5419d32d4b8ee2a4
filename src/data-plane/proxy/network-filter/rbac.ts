// envoy.filters.network.rbac: admits connections by policies. Everything a policy can ask for is known when a connection
// has been accepted and its handshake is done, so it is decided then, before anything is dialled; a refused client learns
// of it when it speaks.

import type { JsonObject } from '@bufbuild/protobuf';
import type { Permission, Principal, RBAC } from '#proto/envoy/config/rbac/v3/rbac_pb.js';
import { RBACSchema, type RBAC as RbacMessage } from '#proto/envoy/extensions/filters/network/rbac/v3/rbac_pb.js';
import type { Logger } from '../../../base/runtime/log.ts';
import { type Decision, deniedDetails } from '../../../rbac/engine.ts';
import { ConfigError, join, millis, only } from '../config/fields.ts';
import type { ConnectionInfo } from '../http/stream-info.ts';
import { connectionFacts } from '../rbac/connection-facts.ts';
import { policyCounters, readPolicies, type Verdict } from '../rbac/policies.ts';
import type { StatsStore } from '../stats/stats.ts';
import { ADMIT, type NetworkFilter } from './filter.ts';

const NAMESPACE = 'envoy.filters.network.rbac';

export function createNetworkRbac(
  message: RbacMessage,
  context: { readonly name: string; readonly stats: StatsStore; readonly log: Logger },
  path: string,
): NetworkFilter {
  only(RBACSchema, message, path, [
    'rules',
    'matcher',
    'shadow_rules',
    'shadow_matcher',
    'shadow_rules_stat_prefix',
    'stat_prefix',
    'enforcement_type',
    'delay_deny',
    'enforce_on_transport_ready',
  ]);
  if (message.statPrefix === '')
    throw new ConfigError(join(path, 'stat_prefix'), 'value length must be at least 1 characters');
  refuseHeaders(message.rules, join(path, 'rules'));
  refuseHeaders(message.shadowRules, join(path, 'shadow_rules'));
  const policies = readPolicies(message, { enforced: '', perPolicy: false }, path);
  const prefix = message.statPrefix.endsWith('.') ? message.statPrefix : `${message.statPrefix}.`;
  const counters = policyCounters(policies, context, `${prefix}rbac.`);
  const delayMs = millis(message.delayDeny, 0);
  const refused = new WeakMap<ConnectionInfo, Decision>();
  return {
    name: context.name,
    admit(info) {
      const facts = connectionFacts(info);
      const shadow = policies.shadow?.decide(facts);
      if (shadow) note(info, policies.shadowPrefix, 'shadow', counters.shadow(shadow), shadow.policy);
      const enforced = policies.enforced?.decide(facts);
      if (!enforced) return ADMIT;
      if (enforced.log !== undefined) add(info, 'envoy.common', { access_log_hint: enforced.log });
      if (enforced.allowed) {
        note(info, '', 'enforced', counters.enforced(enforced), enforced.policy);
        return ADMIT;
      }
      refused.set(info, enforced);
      const details = deniedDetails(enforced.policy);
      return { kind: 'refuse', when: 'first-byte', delayMs, details, closeReason: 'rbac_deny_close', flags: 0 };
    },
    onRefused(info) {
      const decision = refused.get(info);
      if (decision) note(info, '', 'enforced', counters.enforced(decision), decision.policy);
    },
  };
}

/** Conditions on headers are a mistake here, as in Envoy: nobody would ever match them. */
function refuseHeaders(rules: RBAC | undefined, path: string): void {
  for (const [name, policy] of Object.entries(rules?.policies ?? {})) {
    const found = policy.permissions.some(asksPermission) || policy.principals.some(asksPrincipal);
    if (found)
      throw new ConfigError(join(path, `policies[${name}]`), 'Found header rule, not supported by RBAC network filter');
  }
}

function asksPermission({ rule }: Permission): boolean {
  switch (rule.case) {
    case 'header':
      return true;
    case 'andRules':
    case 'orRules':
      return rule.value.rules.some(asksPermission);
    case 'notRule':
      return asksPermission(rule.value);
    default:
      return false;
  }
}

function asksPrincipal({ identifier }: Principal): boolean {
  switch (identifier.case) {
    case 'header':
      return true;
    case 'andIds':
    case 'orIds':
      return identifier.value.ids.some(asksPrincipal);
    case 'notId':
      return asksPrincipal(identifier.value);
    default:
      return false;
  }
}

function note(
  info: ConnectionInfo,
  prefix: string,
  kind: 'shadow' | 'enforced',
  result: Verdict,
  policy: string,
): void {
  add(info, NAMESPACE, {
    [`${prefix}${kind}_engine_result`]: result,
    ...(policy === '' ? {} : { [`${prefix}${kind}_effective_policy_id`]: policy }),
  });
}

function add(info: ConnectionInfo, filter: string, values: JsonObject): void {
  info.metadata.set(filter, { ...info.metadata.get(filter), ...values });
}
