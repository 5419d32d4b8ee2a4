// Conditions as a tree: what compile.ts makes of Envoy's permissions and principals, what index.ts sorts policies by, and
// what explain.ts walks. `toTest` turns a tree into a function once; long lists become one look-up.
import type { RE2JS } from 're2js';
import { type Cidr, cidrBytesMatch } from '../base/ip/ip.ts';
import type { Attribute } from './attributes.ts';
import type { Facts } from './facts.ts';
import { type IpSide, ipBytes } from './ip-side.ts';
import { KeyTable, keyOf } from './keys.ts';

export type TextMatch =
  | { readonly kind: 'exact' | 'prefix' | 'suffix' | 'contains'; readonly value: string; readonly fold: boolean }
  /** `oneLine`: what `.*value.*` and the like mean in RE2, where a dot is not a line break. */
  | { readonly kind: 'line-prefix' | 'line-suffix' | 'line-contains'; readonly value: string }
  | { readonly kind: 'regex'; readonly source: string; readonly regex: RE2JS }
  | { readonly kind: 'template'; readonly source: string; readonly prefix: string; test(text: string): boolean }
  | { readonly kind: 'present' };

export type Expr =
  | { readonly kind: 'any' }
  | { readonly kind: 'never' }
  | { readonly kind: 'and'; readonly of: readonly Expr[] }
  | { readonly kind: 'or'; readonly of: readonly Expr[] }
  | { readonly kind: 'not'; readonly of: Expr }
  | { readonly kind: 'text'; readonly attribute: Attribute; readonly match: TextMatch }
  | { readonly kind: 'ip'; readonly side: IpSide; readonly cidr: Cidr; readonly text: string }
  /** Anything else: `label` says what it wants. */
  | { readonly kind: 'test'; readonly label: string; test(facts: Facts): boolean };

export type Test = (facts: Facts) => boolean;

export const ANY: Expr = { kind: 'any' };
export const NEVER: Expr = { kind: 'never' };

/** A list with at least so many comparable conditions is looked up, not walked. */
const LIST_AS_TABLE = 4;

export function toTest(expr: Expr): Test {
  switch (expr.kind) {
    case 'any':
      return () => true;
    case 'never':
      return () => false;
    case 'and':
      return every(expr.of.map(toTest));
    case 'or':
      return anyOf(expr.of);
    case 'not': {
      const inner = toTest(expr.of);
      return (facts) => !inner(facts);
    }
    case 'text': {
      const { attribute } = expr;
      const test = textTest(expr.match);
      return (facts) => {
        const value = attribute.read(facts);
        if (value === undefined) return false;
        return typeof value === 'string' ? test(value) : value.some(test);
      };
    }
    case 'ip': {
      const { side, cidr } = expr;
      return (facts) => {
        const bytes = ipBytes(facts[side]);
        return bytes !== undefined && cidrBytesMatch(cidr, bytes);
      };
    }
    case 'test':
      return (facts) => expr.test(facts);
    default:
      return expr satisfies never;
  }
}

function every(tests: readonly Test[]): Test {
  if (tests.length === 1) return tests[0]!;
  if (tests.length === 2) {
    const [first, second] = tests as [Test, Test];
    return (facts) => first(facts) && second(facts);
  }
  return (facts) => {
    for (const test of tests) if (!test(facts)) return false;
    return true;
  };
}

function anyOf(list: readonly Expr[]): Test {
  const byDimension = new Map<string, Expr[]>();
  const tests: Test[] = [];
  for (const expr of list) {
    const key = keyOf(expr);
    if (!key?.complete) {
      tests.push(toTest(expr));
      continue;
    }
    const group = byDimension.get(key.dimension.id);
    if (group) group.push(expr);
    else byDimension.set(key.dimension.id, [expr]);
  }
  for (const group of byDimension.values()) {
    if (group.length < LIST_AS_TABLE) {
      for (const expr of group) tests.push(toTest(expr));
      continue;
    }
    const table = new KeyTable<true>();
    for (const expr of group) {
      const key = keyOf(expr)!;
      table.add(key.dimension, key.value, true);
    }
    tests.push((facts) => table.has(facts));
  }
  if (tests.length === 1) return tests[0]!;
  return (facts) => {
    for (const test of tests) if (test(facts)) return true;
    return false;
  };
}

export function textTest(match: TextMatch): (text: string) => boolean {
  switch (match.kind) {
    case 'exact':
    case 'prefix':
    case 'suffix':
    case 'contains':
      return match.fold ? foldTest(match.kind, match.value.toLowerCase()) : plainTest(match.kind, match.value);
    case 'line-prefix':
      return (text) => text.startsWith(match.value) && !text.includes('\n');
    case 'line-suffix':
      return (text) => text.endsWith(match.value) && !text.includes('\n');
    case 'line-contains':
      return (text) => text.includes(match.value) && !text.includes('\n');
    case 'regex':
      return (text) => match.regex.testExact(text);
    case 'template':
      return (text) => match.test(text);
    case 'present':
      return () => true;
    default:
      return match satisfies never;
  }
}

type PlainKind = 'exact' | 'prefix' | 'suffix' | 'contains';

function plainTest(kind: PlainKind, want: string): (text: string) => boolean {
  switch (kind) {
    case 'exact':
      return (text) => text === want;
    case 'prefix':
      return (text) => text.startsWith(want);
    case 'suffix':
      return (text) => text.endsWith(want);
    case 'contains':
      return (text) => text.includes(want);
    default:
      return kind satisfies never;
  }
}

function foldTest(kind: PlainKind, want: string): (text: string) => boolean {
  const test = plainTest(kind, want);
  return (text) => test(text.toLowerCase());
}
