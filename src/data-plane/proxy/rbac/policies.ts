// What the HTTP and the network RBAC filter share: policies to enforce and to try, and their counters.
import type { RBAC } from '#proto/envoy/config/rbac/v3/rbac_pb.js';
import type { Matcher } from '#proto/xds/type/matcher/v3/matcher_pb.js';
import type { Logger } from '../../../base/runtime/log.ts';
import { createEngine, createMatcherEngine, type Decision, type PolicyEngine } from '../../../rbac/engine.ts';
import { join } from '../config/fields.ts';
import { MAX_POLICY_COUNTERS } from '../limits.ts';
import type { Counter, StatsStore } from '../stats/stats.ts';

export interface Policies {
  /** Undefined = nothing is enforced. */
  readonly enforced: PolicyEngine | undefined;
  readonly shadow: PolicyEngine | undefined;
  /** Before the names of statistics and metadata keys. */
  readonly enforcedPrefix: string;
  readonly shadowPrefix: string;
  readonly perPolicy: boolean;
}

interface PolicyFields {
  readonly rules?: RBAC | undefined;
  readonly matcher?: Matcher | undefined;
  readonly shadowRules?: RBAC | undefined;
  readonly shadowMatcher?: Matcher | undefined;
  readonly shadowRulesStatPrefix: string;
}

export function readPolicies(
  message: PolicyFields,
  options: { readonly enforced: string; readonly perPolicy: boolean },
  path: string,
): Policies {
  // With both, the matcher is used and the rules are ignored (Envoy's rule).
  const engine = (rules: RBAC | undefined, matcher: Matcher | undefined, prefix: string): PolicyEngine | undefined => {
    if (matcher) return createMatcherEngine(matcher, join(path, `${prefix}matcher`));
    return rules && createEngine(rules, join(path, `${prefix}rules`));
  };
  return {
    enforced: engine(message.rules, message.matcher, ''),
    shadow: engine(message.shadowRules, message.shadowMatcher, 'shadow_'),
    enforcedPrefix: options.enforced,
    shadowPrefix: message.shadowRulesStatPrefix,
    perPolicy: options.perPolicy,
  };
}

export type Verdict = 'allowed' | 'denied';

export interface PolicyCounters {
  /** Counts a decision and names it. */
  enforced(decision: Decision): Verdict;
  shadow(decision: Decision): Verdict;
}

/** Decisions are the same few objects over and over: so are the lines about them. */
function lines(kind: 'enforced' | 'shadow'): (decision: Decision) => string {
  const known = new WeakMap<Decision, string>();
  return (decision) => {
    let line = known.get(decision);
    if (line === undefined) {
      line = `${kind} ${decision.allowed ? 'allowed' : 'denied'}, matched policy ${decision.policy || 'none'}`;
      known.set(decision, line);
    }
    return line;
  };
}

const withDot = (prefix: string): string => (prefix === '' || prefix.endsWith('.') ? prefix : `${prefix}.`);

/** Counts decisions, and tells of them where debug lines of `rbac` are asked for. */
export function policyCounters(
  policies: Policies,
  context: { readonly stats: StatsStore; readonly log: Logger },
  prefix: string,
): PolicyCounters {
  const { stats } = context;
  const log = context.log.scope('rbac');
  const enforcedLine = lines('enforced');
  const shadowLine = lines('shadow');
  const enforcedStart = withDot(policies.enforcedPrefix);
  const shadowStart = withDot(policies.shadowPrefix);
  const counter = (name: string) => stats.counter(prefix + name);
  const enforced = { allowed: counter(`${enforcedStart}allowed`), denied: counter(`${enforcedStart}denied`) };
  const shadow = { allowed: counter(`${shadowStart}shadow_allowed`), denied: counter(`${shadowStart}shadow_denied`) };
  const byPolicy = new Map<string, Counter>();
  const count = (own: string, policy: string, name: string): void => {
    if (!policies.perPolicy || policy === '') return;
    const key = `${own}policy.${policy}.${name}`;
    let known = byPolicy.get(key);
    if (!known) {
      if (byPolicy.size >= MAX_POLICY_COUNTERS) return;
      known = counter(key);
      byPolicy.set(key, known);
    }
    known.value += 1;
  };
  const decided = (
    decision: Decision,
    counters: Readonly<Record<Verdict, Counter>>,
    own: string,
    kind: string,
  ): Verdict => {
    const verdict = decision.allowed ? 'allowed' : 'denied';
    counters[verdict].value += 1;
    count(own, decision.policy, `${kind}${verdict}`);
    return verdict;
  };
  return {
    enforced(decision) {
      log.debug(enforcedLine(decision));
      return decided(decision, enforced, enforcedStart, '');
    },
    shadow(decision) {
      log.debug(shadowLine(decision));
      return decided(decision, shadow, shadowStart, 'shadow_');
    },
  };
}
