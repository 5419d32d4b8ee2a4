// Says why: for each policy whether it matched and, if not, which of its conditions did not hold and what the request had
// instead. For people (admin, policy lab, debug logs): not on the way of requests.
import type { CompiledPolicy } from './compile.ts';
import type { Decision, PolicyEngine } from './engine.ts';
import { type Expr, type TextMatch, toTest } from './expression.ts';
import type { Facts } from './facts.ts';

/** Conditions listed for one policy. */
const MAX_MISSING = 20;

export interface PolicyVerdict {
  readonly policy: string;
  readonly matched: boolean;
  /** `principal is "x", wanted to start with "spiffe://a/"`; empty when it matched. */
  readonly missing: readonly string[];
}

export interface Explanation {
  readonly decision: Decision;
  readonly policies: readonly PolicyVerdict[];
}

export function explain(engine: PolicyEngine, facts: Facts): Explanation {
  const policies = engine.rules?.policies ?? [];
  return { decision: engine.decide(facts), policies: policies.map((policy) => verdict(policy, facts)) };
}

function verdict(policy: CompiledPolicy, facts: Facts): PolicyVerdict {
  const missing: string[] = [];
  for (const part of [policy.permissions, policy.principals]) missingOf(part, facts, true, missing);
  return { policy: policy.name, matched: missing.length === 0, missing: missing.slice(0, MAX_MISSING) };
}

/** Adds what keeps `expr` from being `wanted`; nothing when it is. */
function missingOf(expr: Expr, facts: Facts, wanted: boolean, into: string[]): void {
  if (toTest(expr)(facts) === wanted) return;
  switch (expr.kind) {
    case 'not':
      missingOf(expr.of, facts, !wanted, into);
      return;
    case 'and':
    case 'or':
      for (const one of expr.of) missingOf(one, facts, wanted, into);
      return;
    default:
      into.push(`${what(expr)}${wanted ? '' : ' (which must not hold)'}${had(expr, facts)}`);
  }
}

function what(expr: Exclude<Expr, { kind: 'and' | 'or' | 'not' }>): string {
  switch (expr.kind) {
    case 'any':
      return 'anything';
    case 'never':
      return 'a condition that never holds';
    case 'test':
      return expr.label;
    case 'ip':
      return `${expr.side} address in ${expr.text}`;
    case 'text':
      return `${expr.attribute.key.replaceAll('\0', '.')} ${wish(expr.match)}`;
    default:
      return expr satisfies never;
  }
}

function wish(match: TextMatch): string {
  switch (match.kind) {
    case 'exact':
      return `equal to ${JSON.stringify(match.value)}`;
    case 'prefix':
    case 'line-prefix':
      return `starting with ${JSON.stringify(match.value)}`;
    case 'suffix':
    case 'line-suffix':
      return `ending in ${JSON.stringify(match.value)}`;
    case 'contains':
    case 'line-contains':
      return `containing ${JSON.stringify(match.value)}`;
    case 'regex':
      return `matching ${match.source}`;
    case 'template':
      return `of the form ${match.source}`;
    case 'present':
      return 'present';
    default:
      return match satisfies never;
  }
}

function had(expr: Expr, facts: Facts): string {
  if (expr.kind === 'ip') return `, but it is ${facts[expr.side].ip || 'none'}`;
  if (expr.kind !== 'text') return '';
  const value = expr.attribute.read(facts);
  if (value === undefined) return ', but there is none';
  return `, but it is ${JSON.stringify(value)}`;
}
