// Finds the few policies that can match a request: each is stored under keys of which at least one must be in the request,
// chosen so that few policies share them; crowded keys are indexed again by another condition. What has no usable key is
// always a candidate. With it a decision costs about the same for one policy and for thousands. Called by engine.ts.
import type { Expr } from './expression.ts';
import type { Facts } from './facts.ts';
import { type Key, KeyTable, keyOf } from './keys.ts';

/** Groups up to this size are tried one by one. */
const SMALL = 4;
const MAX_LEVELS = 6;
/** Places a policy may take in all tables together, on average and at least: long lists times levels must not explode. */
const MAX_ENTRIES_PER_POLICY = 64;
const MIN_ENTRY_BUDGET = 100_000;

export interface Indexed {
  /** Place in the order of decision. */
  readonly order: number;
  readonly condition: Expr;
}

export interface PolicyIndex {
  /** Calls `found` with the order of each candidate, some perhaps twice, in no order; `false` goes on. */
  candidates(facts: Facts, found: (order: number) => boolean): void;
}

interface Level {
  readonly always: readonly number[];
  readonly table: KeyTable<Level> | undefined;
}

export function buildIndex(policies: readonly Indexed[]): PolicyIndex {
  const budget = { left: Math.max(MIN_ENTRY_BUDGET, policies.length * MAX_ENTRIES_PER_POLICY) };
  const root = buildLevel(policies, budget, MAX_LEVELS);
  return {
    candidates(facts, found) {
      walk(root, facts, found);
    },
  };
}

function walk(level: Level, facts: Facts, found: (order: number) => boolean): boolean {
  for (const order of level.always) if (found(order)) return true;
  let stopped = false;
  level.table?.visit(facts, (next) => {
    stopped = walk(next, facts, found);
    return stopped;
  });
  return stopped;
}

function buildLevel(policies: readonly Indexed[], budget: { left: number }, levels: number): Level {
  if (policies.length <= SMALL || levels === 0 || budget.left <= 0)
    return { always: policies.map((one) => one.order), table: undefined };
  const popularity = countKeys(policies);
  const always: number[] = [];
  const groups = new Map<string, { readonly key: Key; readonly members: Indexed[] }>();
  for (const policy of policies) {
    const choice = cheapest(policy.condition, popularity);
    // As many policies under its keys as there are in all: nothing won.
    if (!choice || choice.cost >= policies.length) {
      always.push(policy.order);
      continue;
    }
    for (const [id, key] of choice.keys) {
      const group = groups.get(id);
      if (group) group.members.push(policy);
      else groups.set(id, { key, members: [policy] });
    }
    budget.left -= choice.keys.size;
  }
  if (groups.size === 0) return { always, table: undefined };
  const table = new KeyTable<Level>();
  for (const { key, members } of groups.values())
    table.add(
      key.dimension,
      key.value,
      members.length === policies.length
        ? { always: members.map((one) => one.order), table: undefined }
        : buildLevel(members, budget, levels - 1),
    );
  return { always, table };
}

function idOf(key: Key): string {
  return `${key.dimension.id}\0${key.value}`;
}

/** How many policies name each key. */
function countKeys(policies: readonly Indexed[]): Map<string, number> {
  const out = new Map<string, number>();
  for (const { condition } of policies) {
    const seen = new Set<string>();
    collect(condition, seen);
    for (const id of seen) out.set(id, (out.get(id) ?? 0) + 1);
  }
  return out;
}

function collect(expr: Expr, into: Set<string>): void {
  if (expr.kind === 'and' || expr.kind === 'or') for (const one of expr.of) collect(one, into);
  const key = keyOf(expr);
  if (key) into.add(idOf(key));
}

interface Choice {
  readonly keys: ReadonlyMap<string, Key>;
  /** Policies that a request with one of the keys may meet, at most. */
  readonly cost: number;
}

/** Keys of which one must be there for `expr` to hold; undefined = it may hold without any. */
function cheapest(expr: Expr, popularity: ReadonlyMap<string, number>): Choice | undefined {
  switch (expr.kind) {
    case 'never':
      return { keys: new Map(), cost: 0 };
    case 'and': {
      let best: Choice | undefined;
      for (const one of expr.of) {
        const choice = cheapest(one, popularity);
        if (choice && (!best || choice.cost < best.cost)) best = choice;
      }
      return best;
    }
    case 'or': {
      const keys = new Map<string, Key>();
      let cost = 0;
      for (const one of expr.of) {
        const choice = cheapest(one, popularity);
        if (!choice) return undefined;
        for (const [id, key] of choice.keys) keys.set(id, key);
        cost = Math.max(cost, choice.cost);
      }
      return { keys, cost };
    }
    case 'any':
    case 'not':
    case 'test':
      return undefined;
    case 'text':
    case 'ip': {
      const key = keyOf(expr);
      if (!key) return undefined;
      const id = idOf(key);
      return { keys: new Map([[id, key]]), cost: popularity.get(id) ?? 1 };
    }
    default:
      return expr satisfies never;
  }
}
