// Which requests a tap shows: a MatchPredicate as a tree whose leaves become known while a request goes by. Made by plan.ts, asked
// by the tap filter.
import type { MatchPredicate as CommonPredicate } from '#proto/envoy/config/common/matcher/v3/matcher_pb.js';
import type { HeaderMatcher } from '#proto/envoy/config/route/v3/route_components_pb.js';
import type { MatchPredicate } from '#proto/envoy/config/tap/v3/common_pb.js';
import { ConfigError, join } from '../config/fields.ts';
import { headerTest, type RequestTest, type RequestView } from '../route/matchers.ts';

/** When a leaf is decided. */
export type Moment = 'request' | 'request-trailers' | 'response' | 'response-trailers';

export interface Leaf {
  readonly moment: Moment;
  readonly test: RequestTest;
}

type Node =
  | { readonly kind: 'any' }
  | { readonly kind: 'leaf'; readonly index: number }
  | { readonly kind: 'not'; readonly rule: Node }
  | { readonly kind: 'and' | 'or'; readonly rules: readonly Node[] };

/** Of a leaf, by its index. */
export const UNKNOWN = 0;
export const YES = 1;
export const NO = 2;

export interface TapMatch {
  readonly leaves: readonly Leaf[];
  readonly root: Node;
}

/** Levels of a predicate. */
const MAX_DEPTH = 32;
/** Leaves of a predicate. */
const MAX_LEAVES = 256;

const MOMENTS = {
  httpRequestHeadersMatch: 'request',
  httpRequestTrailersMatch: 'request-trailers',
  httpResponseHeadersMatch: 'response',
  httpResponseTrailersMatch: 'response-trailers',
} as const;

export function readMatch(message: MatchPredicate | CommonPredicate, path: string): TapMatch {
  const leaves: Leaf[] = [];
  const read = ({ rule }: MatchPredicate | CommonPredicate, at: string, depth: number): Node => {
    if (depth > MAX_DEPTH) throw new ConfigError(at, `more than ${MAX_DEPTH} levels`);
    switch (rule.case) {
      case undefined:
        throw new ConfigError(join(at, 'rule'), 'value is required');
      case 'anyMatch':
        return { kind: 'any' };
      case 'notMatch':
        return { kind: 'not', rule: read(rule.value, join(at, 'not_match'), depth + 1) };
      case 'andMatch':
      case 'orMatch': {
        const kind = rule.case === 'andMatch' ? 'and' : 'or';
        const rules = rule.value.rules.map((each, i) => read(each, join(at, `${kind}_match.rules[${i}]`), depth + 1));
        return { kind, rules };
      }
      case 'httpRequestGenericBodyMatch':
      case 'httpResponseGenericBodyMatch':
        throw new ConfigError(at, 'bodies are not matched by this proxy: match headers or trailers');
      default: {
        if (leaves.length >= MAX_LEAVES) throw new ConfigError(at, `more than ${MAX_LEAVES} header matches`);
        const moment = MOMENTS[rule.case];
        const tests = rule.value.headers.map((each, i) => leafTest(each, moment, join(at, `headers[${i}]`)));
        leaves.push({ moment, test: (view) => tests.every((test) => test(view)) });
        return { kind: 'leaf', index: leaves.length - 1 };
      }
    }
  };
  return { root: read(message, path, 0), leaves };
}

/** `:status` stands where a request has its path: an answer has none. */
function leafTest(message: HeaderMatcher, moment: Moment, path: string): RequestTest {
  if (moment !== 'response' || message.name.toLowerCase() !== ':status') return headerTest(message, path);
  return headerTest({ ...message, name: ':path' }, path);
}

/** Takes note of what became known at a moment. */
export function decide(match: TapMatch, states: Uint8Array, moment: Moment, view: RequestView): void {
  for (const [i, leaf] of match.leaves.entries()) if (leaf.moment === moment) states[i] = leaf.test(view) ? YES : NO;
}

/** Whether the request is shown; UNKNOWN while that may change. */
export function evaluate({ root }: TapMatch, states: Uint8Array): number {
  return evaluateNode(root, states);
}

function evaluateNode(node: Node, states: Uint8Array): number {
  switch (node.kind) {
    case 'any':
      return YES;
    case 'leaf':
      return states[node.index]!;
    case 'not': {
      const inner = evaluateNode(node.rule, states);
      return inner === UNKNOWN ? UNKNOWN : inner === YES ? NO : YES;
    }
    default: {
      const decisive = node.kind === 'and' ? NO : YES;
      let result = node.kind === 'and' ? YES : NO;
      for (const rule of node.rules) {
        const each = evaluateNode(rule, states);
        if (each === decisive) return decisive;
        if (each === UNKNOWN) result = UNKNOWN;
      }
      return result;
    }
  }
}

/** At the end of a request nothing more becomes known: what did not come does not match. */
export function settle(match: TapMatch, states: Uint8Array): boolean {
  for (let i = 0; i < states.length; i++) if (states[i] === UNKNOWN) states[i] = NO;
  return evaluate(match, states) === YES;
}
