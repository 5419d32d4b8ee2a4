// StringMatcher, RE2 expressions and sampling fractions, compiled once. Used by routes, TLS, faults and stats.
import { RE2JS } from 're2js';
import type { RegexMatcher } from '#proto/envoy/type/matcher/v3/regex_pb.js';
import type { StringMatcher } from '#proto/envoy/type/matcher/v3/string_pb.js';
import { type FractionalPercent, FractionalPercent_DenominatorType } from '#proto/envoy/type/v3/percent_pb.js';
import { ConfigError, join } from './fields.ts';

/** Regular expressions: compiled size is bounded by the length of the text. */
const MAX_REGEX_CHARS = 4_096;

export type StringTest = (text: string) => boolean;

/** An RE2 expression; linear in its input. */
export function compileRegex(text: string, path: string): RE2JS {
  if (text.length > MAX_REGEX_CHARS) throw new ConfigError(path, `regex longer than ${MAX_REGEX_CHARS} characters`);
  try {
    return RE2JS.compile(text);
  } catch (error) {
    throw new ConfigError(path, `Invalid regex '${text}': ${error instanceof Error ? error.message : error}`);
  }
}

/** Matches the whole text. */
export function fullRegex(matcher: RegexMatcher, path: string): StringTest {
  const compiled = compileRegex(matcher.regex, join(path, 'regex'));
  return (text) => compiled.testExact(text);
}

export function stringTest(matcher: StringMatcher, path: string): StringTest {
  const pattern = matcher.matchPattern;
  const fold = matcher.ignoreCase;
  const prepare = (text: string) => (fold ? text.toLowerCase() : text);
  switch (pattern.case) {
    case 'exact': {
      const want = prepare(pattern.value);
      return (text) => prepare(text) === want;
    }
    case 'prefix': {
      const want = prepare(pattern.value);
      return (text) => prepare(text).startsWith(want);
    }
    case 'suffix': {
      const want = prepare(pattern.value);
      return (text) => prepare(text).endsWith(want);
    }
    case 'contains': {
      const want = prepare(pattern.value);
      return (text) => prepare(text).includes(want);
    }
    case 'safeRegex':
      if (fold) throw new ConfigError(path, 'ignore_case has no effect for safe_regex');
      return fullRegex(pattern.value, join(path, 'safe_regex'));
    default:
      throw new ConfigError(path, `string matcher '${pattern.case ?? 'none'}' is not supported`);
  }
}

/** Share of the whole, 0..1; `fallback` when absent. */
export function fraction(percent: FractionalPercent | undefined, fallback: number): number {
  if (!percent) return fallback;
  const whole =
    percent.denominator === FractionalPercent_DenominatorType.MILLION
      ? 1_000_000
      : percent.denominator === FractionalPercent_DenominatorType.TEN_THOUSAND
        ? 10_000
        : 100;
  return Math.min(1, percent.numerator / whole);
}

/** Of HeaderMatcher, which routes and policies both take whole. */
export const HEADER_MATCHER_FIELDS: readonly string[] = [
  'name',
  'exact_match',
  'safe_regex_match',
  'range_match',
  'present_match',
  'prefix_match',
  'suffix_match',
  'contains_match',
  'string_match',
  'invert_match',
  'treat_missing_header_as_empty',
];
