// Decides: rules (or a matcher tree) + facts → allowed or not, and by which policy. Made from Envoy's configuration by the
// RBAC filters of the proxy and by tools that explain or replay decisions.
import type { RBAC } from '#proto/envoy/config/rbac/v3/rbac_pb.js';
import type { Matcher } from '#proto/xds/type/matcher/v3/matcher_pb.js';
import { and, type CompiledRules, compileRules } from './compile.ts';
import { type Test, toTest } from './expression.ts';
import type { Facts } from './facts.ts';
import { compileMatcher } from './matcher-tree.ts';
import { buildIndex } from './policy-index.ts';

export interface Decision {
  readonly allowed: boolean;
  /** The policy that decided; empty = none matched. */
  readonly policy: string;
  /** A policy or tree with the action LOG was there: whether it matched. Undefined = nothing to note. */
  readonly log: boolean | undefined;
}

export interface PolicyEngine {
  /** What was compiled, for explanations; undefined for a matcher tree. */
  readonly rules: CompiledRules | undefined;
  decide(facts: Facts): Decision;
}

export function createEngine(message: RBAC, path: string): PolicyEngine {
  return engineOf(compileRules(message, path));
}

/** With this many policies an index costs more than it saves. */
const WALK_ALL = 2;

export function engineOf(rules: CompiledRules): PolicyEngine {
  const { policies, action } = rules;
  const conditions = policies.map((policy) => and([policy.permissions, policy.principals]));
  const find = finder(conditions.map(toTest), conditions.length > WALK_ALL ? conditions : undefined);
  const onMatch = policies.map(
    (policy): Decision => ({
      allowed: action !== 'deny',
      policy: policy.name,
      log: action === 'log' ? true : undefined,
    }),
  );
  const otherwise: Decision = {
    allowed: action !== 'allow',
    policy: '',
    log: action === 'log' ? false : undefined,
  };
  return { rules, decide: (facts) => onMatch[find(facts)] ?? otherwise };
}

/** The place of the first condition that holds, or -1. */
function finder(tests: readonly Test[], conditions: Parameters<typeof and>[0] | undefined): (facts: Facts) => number {
  if (!conditions)
    return (facts) => {
      for (let i = 0; i < tests.length; i++) if (tests[i]!(facts)) return i;
      return -1;
    };
  const index = buildIndex(conditions.map((condition, order) => ({ order, condition })));
  let best = -1;
  let now: Facts | undefined;
  // Candidates come in no order: a later place than the best so far needs no test.
  const consider = (order: number): boolean => {
    if ((best < 0 || order < best) && tests[order]!(now!)) best = order;
    return best === 0;
  };
  return (facts) => {
    best = -1;
    now = facts;
    index.candidates(facts, consider);
    now = undefined;
    return best;
  };
}

export function createMatcherEngine(message: Matcher, path: string): PolicyEngine {
  const tree = compileMatcher(message, path);
  const nothing: Decision = { allowed: false, policy: '', log: tree.logs ? false : undefined };
  return { rules: undefined, decide: (facts) => tree.match(facts) ?? nothing };
}

/** `rbac_access_denied_matched_policy[…]`: white space becomes `_`. */
export function deniedDetails(policy: string): string {
  return `rbac_access_denied_matched_policy[${(policy === '' ? 'none' : policy).replaceAll(/\s/g, '_')}]`;
}
