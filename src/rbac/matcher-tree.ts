// The unified matcher (xds.type.matcher.v3.Matcher) with RBAC actions at its leaves: lists of predicates, exact and prefix
// maps, address tries and domain maps over any of the inputs in matcher-inputs.ts. Called by engine.ts.
import type { DescMessage } from '@bufbuild/protobuf';
import type { Any } from '@bufbuild/protobuf/wkt';
import { ActionSchema } from '#proto/envoy/config/rbac/v3/rbac_pb.js';
import { IpSchema } from '#proto/envoy/extensions/matching/input_matchers/ip/v3/ip_pb.js';
import { ServerNameMatcherSchema } from '#proto/xds/type/matcher/v3/domain_pb.js';
import { type IPMatcher, IPMatcherSchema } from '#proto/xds/type/matcher/v3/ip_pb.js';
import {
  type Matcher,
  type Matcher_MatcherList_Predicate,
  type Matcher_MatcherTree,
  type Matcher_OnMatch,
  Matcher_OnMatchSchema,
  MatcherSchema,
} from '#proto/xds/type/matcher/v3/matcher_pb.js';
import type { StringMatcher } from '#proto/xds/type/matcher/v3/string_pb.js';
import { openAny } from '../base/envoy-api/extension.ts';
import { ConfigError, join, only } from '../base/envoy-api/fields.ts';
import { type Cidr, cidrBytesMatch, parseCidr, parseIp } from '../base/ip/ip.ts';
import { actionOf } from './compile.ts';
import { regexMatch } from './compile-values.ts';
import type { Decision } from './engine.ts';
import { type Test, textTest } from './expression.ts';
import type { Facts } from './facts.ts';
import { compileInput, INPUT_TYPES, type Input } from './matcher-inputs.ts';

const MAX_DEPTH = 32;

/** Messages that may stand inside an Any of a matcher. */
export const MATCHER_TYPES: readonly DescMessage[] = [
  ActionSchema,
  ...INPUT_TYPES,
  IpSchema,
  IPMatcherSchema,
  ServerNameMatcherSchema,
];

export interface MatcherTree {
  match(facts: Facts): Decision | undefined;
  /** True when one of the actions is LOG. */
  readonly logs: boolean;
}

type Node = (facts: Facts) => Decision | undefined;

interface Build {
  logs: boolean;
}

export function compileMatcher(message: Matcher, path: string): MatcherTree {
  const build: Build = { logs: false };
  const root = matcher(message, path, build, 0);
  const { logs } = build;
  if (!logs) return { match: root, logs };
  // The hint of a LOG action is set to false when something else was decided.
  return {
    logs,
    match(facts) {
      const decision = root(facts);
      return decision && decision.log === undefined ? { ...decision, log: false } : decision;
    },
  };
}

function matcher(message: Matcher, path: string, build: Build, depth: number): Node {
  only(MatcherSchema, message, path, ['matcher_list', 'matcher_tree', 'on_no_match']);
  if (depth >= MAX_DEPTH) throw new ConfigError(path, `matchers are nested deeper than ${MAX_DEPTH}`);
  const otherwise = message.onNoMatch && onMatch(message.onNoMatch, join(path, 'on_no_match'), build, depth);
  const { matcherType: type } = message;
  // An empty matcher matches nothing.
  if (type.case === undefined) return otherwise ?? (() => undefined);
  const node =
    type.case === 'matcherTree'
      ? tree(type.value, join(path, 'matcher_tree'), build, depth)
      : list(type.value.matchers, join(path, 'matcher_list'), build, depth);
  return otherwise ? (facts) => node(facts) ?? otherwise(facts) : node;
}

function onMatch(message: Matcher_OnMatch | undefined, path: string, build: Build, depth: number): Node {
  if (!message) throw new ConfigError(path, 'value is required');
  only(Matcher_OnMatchSchema, message, path, ['matcher', 'action']);
  const { onMatch: what } = message;
  if (what.case === 'matcher') return matcher(what.value, join(path, 'matcher'), build, depth + 1);
  if (what.case !== 'action') throw new ConfigError(join(path, 'on_match'), 'value is required');
  const decision = readAction(what.value.typedConfig, join(path, 'action'));
  if (decision.log) build.logs = true;
  return () => decision;
}

function readAction(any: Any | undefined, path: string): Decision {
  if (!any) throw new ConfigError(path, 'action has no typed_config');
  const opened = openAny(any, path);
  if (opened.typeName !== ActionSchema.typeName)
    throw new ConfigError(path, `Didn't find a registered implementation for action type '${opened.typeName}'`);
  const message = opened.open(ActionSchema);
  only(ActionSchema, message, path, ['name', 'action']);
  if (message.name === '') throw new ConfigError(join(path, 'name'), 'value length must be at least 1 characters');
  const action = actionOf(message.action, join(path, 'action'));
  return { allowed: action !== 'deny', policy: message.name, log: action === 'log' ? true : undefined };
}

// --- lists

function list(
  matchers: readonly { predicate?: Matcher_MatcherList_Predicate | undefined; onMatch?: Matcher_OnMatch | undefined }[],
  path: string,
  build: Build,
  depth: number,
): Node {
  if (matchers.length === 0) throw new ConfigError(join(path, 'matchers'), 'value must contain at least 1 item(s)');
  const entries = matchers.map((entry, i) => {
    const at = join(path, `matchers[${i}]`);
    if (!entry.predicate) throw new ConfigError(join(at, 'predicate'), 'value is required');
    return {
      test: predicate(entry.predicate, join(at, 'predicate'), depth),
      found: onMatch(entry.onMatch, join(at, 'on_match'), build, depth),
    };
  });
  return (facts) => {
    for (const entry of entries) {
      const found = entry.test(facts) ? entry.found(facts) : undefined;
      if (found) return found;
    }
    return undefined;
  };
}

function predicate(message: Matcher_MatcherList_Predicate, path: string, depth: number): Test {
  if (depth >= MAX_DEPTH) throw new ConfigError(path, `predicates are nested deeper than ${MAX_DEPTH}`);
  const { matchType: type } = message;
  switch (type.case) {
    case 'notMatcher': {
      const inner = predicate(type.value, join(path, 'not_matcher'), depth + 1);
      return (facts) => !inner(facts);
    }
    case 'orMatcher':
    case 'andMatcher': {
      const tests = type.value.predicate.map((one, i) => predicate(one, join(path, `predicate[${i}]`), depth + 1));
      if (tests.length < 2) throw new ConfigError(join(path, 'predicate'), 'value must contain at least 2 item(s)');
      if (type.case === 'orMatcher') return (facts) => tests.some((test) => test(facts));
      return (facts) => tests.every((test) => test(facts));
    }
    case 'singlePredicate': {
      const at = join(path, 'single_predicate');
      const input = compileInput(type.value.input, join(at, 'input'));
      const { matcher: how } = type.value;
      if (how.case === 'valueMatch') return onInput(input, valueMatch(how.value, join(at, 'value_match')));
      if (how.case === 'customMatch')
        return onInput(input, customMatch(how.value.typedConfig, join(at, 'custom_match')));
      throw new ConfigError(join(at, 'matcher'), 'value is required');
    }
    case undefined:
      throw new ConfigError(join(path, 'match_type'), 'value is required');
    default:
      return type satisfies never;
  }
}

function onInput(input: Input, test: (text: string) => boolean): Test {
  return (facts) => {
    const value = input(facts);
    return value !== undefined && test(value);
  };
}

function valueMatch(message: StringMatcher, path: string): (text: string) => boolean {
  const { matchPattern: pattern, ignoreCase: fold } = message;
  switch (pattern.case) {
    case 'exact':
    case 'prefix':
    case 'suffix':
    case 'contains':
      return textTest({ kind: pattern.case, value: pattern.value, fold });
    case 'safeRegex':
      return textTest(regexMatch(pattern.value.regex, join(path, 'safe_regex')));
    default:
      throw new ConfigError(path, `string matcher '${pattern.case ?? 'none'}' is not supported by this proxy`);
  }
}

function customMatch(any: Any | undefined, path: string): (text: string) => boolean {
  if (!any) throw new ConfigError(path, 'custom_match has no typed_config');
  const opened = openAny(any, path);
  if (opened.typeName !== IpSchema.typeName)
    throw new ConfigError(path, `Didn't find a registered implementation for matcher type '${opened.typeName}'`);
  const message = opened.open(IpSchema);
  only(IpSchema, message, path, ['cidr_ranges', 'stat_prefix']);
  const ranges = message.cidrRanges.map((range, i) => cidr(range, join(path, `cidr_ranges[${i}]`)));
  if (ranges.length === 0) throw new ConfigError(join(path, 'cidr_ranges'), 'value must contain at least 1 item(s)');
  return (text) => {
    const bytes = parseIp(text);
    return bytes !== undefined && ranges.some((range) => cidrBytesMatch(range, bytes));
  };
}

function cidr(range: { addressPrefix: string; prefixLen?: number | undefined }, path: string): Cidr {
  const parsed = parseCidr(range.addressPrefix, range.prefixLen);
  if (!parsed) throw new ConfigError(path, `'${range.addressPrefix}/${range.prefixLen ?? 0}' is not a CIDR range`);
  return parsed;
}

// --- trees

function tree(message: Matcher_MatcherTree, path: string, build: Build, depth: number): Node {
  const input = compileInput(message.input, join(path, 'input'));
  const { treeType: type } = message;
  if (type.case === undefined) throw new ConfigError(join(path, 'tree_type'), 'value is required');
  if (type.case === 'customMatch')
    return customTree(input, type.value.typedConfig, join(path, 'custom_match'), build, depth);
  const at = join(path, type.case === 'exactMatchMap' ? 'exact_match_map' : 'prefix_match_map');
  const byKey = new Map<string, Node>();
  for (const [key, value] of Object.entries(type.value.map))
    byKey.set(key, onMatch(value, join(at, `map[${key}]`), build, depth));
  if (byKey.size === 0) throw new ConfigError(join(at, 'map'), 'value must contain at least 1 pair(s)');
  if (type.case === 'exactMatchMap')
    return (facts) => {
      const value = input(facts);
      return value === undefined ? undefined : byKey.get(value)?.(facts);
    };
  const lengths = [...new Set([...byKey.keys()].map((key) => key.length))].sort((a, b) => b - a);
  // The longest prefix first; one whose own matcher finds nothing gives way to a shorter one.
  return (facts) => {
    const value = input(facts);
    if (value === undefined) return undefined;
    for (const length of lengths) {
      if (length > value.length) continue;
      const found = byKey.get(value.slice(0, length))?.(facts);
      if (found) return found;
    }
    return undefined;
  };
}

function customTree(input: Input, any: Any | undefined, path: string, build: Build, depth: number): Node {
  if (!any) throw new ConfigError(path, 'custom_match has no typed_config');
  const opened = openAny(any, path);
  if (opened.typeName === IPMatcherSchema.typeName)
    return addressTree(input, opened.open(IPMatcherSchema), path, build, depth);
  if (opened.typeName === ServerNameMatcherSchema.typeName) {
    const message = opened.open(ServerNameMatcherSchema);
    const byDomain = new Map<string, Node>();
    for (const [i, entry] of message.domainMatchers.entries()) {
      const then = onMatch(entry.onMatch, join(path, `domain_matchers[${i}].on_match`), build, depth);
      for (const domain of entry.domains) {
        const name = domain.toLowerCase();
        if (byDomain.has(name)) throw new ConfigError(path, `Duplicate domain '${domain}' in server name matcher`);
        byDomain.set(name, then);
      }
    }
    return domainTree(input, byDomain);
  }
  throw new ConfigError(path, `Didn't find a registered implementation for matcher type '${opened.typeName}'`);
}

function domainTree(input: Input, byDomain: ReadonlyMap<string, Node>): Node {
  return (facts) => {
    const name = input(facts)?.toLowerCase();
    if (name === undefined) return undefined;
    const exact = byDomain.get(name)?.(facts);
    if (exact) return exact;
    for (let dot = name.indexOf('.'); dot >= 0; dot = name.indexOf('.', dot + 1)) {
      const found = byDomain.get(`*${name.slice(dot)}`)?.(facts);
      if (found) return found;
    }
    return byDomain.get('*')?.(facts);
  };
}

/** The most specific range first; one that finds nothing gives way to a wider one, unless it is exclusive. */
function addressTree(input: Input, message: IPMatcher, path: string, build: Build, depth: number): Node {
  const ranges: { readonly cidr: Cidr; readonly exclusive: boolean; readonly found: Node }[] = [];
  for (const [i, entry] of message.rangeMatchers.entries()) {
    const at = join(path, `range_matchers[${i}]`);
    const then = onMatch(entry.onMatch, join(at, 'on_match'), build, depth);
    for (const [k, range] of entry.ranges.entries())
      ranges.push({ cidr: cidr(range, join(at, `ranges[${k}]`)), exclusive: entry.exclusive, found: then });
  }
  ranges.sort((a, b) => b.cidr.bits - a.cidr.bits);
  return (facts) => {
    const text = input(facts);
    const bytes = text === undefined ? undefined : parseIp(text);
    if (!bytes) return undefined;
    for (const range of ranges) {
      if (!cidrBytesMatch(range.cidr, bytes)) continue;
      const found = range.found(facts);
      if (found || range.exclusive) return found;
    }
    return undefined;
  };
}
