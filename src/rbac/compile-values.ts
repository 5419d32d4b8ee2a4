// Matchers of texts, headers, metadata and filter state → conditions. Called by compile.ts and matcher-tree.ts.
import type { JsonValue } from '@bufbuild/protobuf';
import { type HeaderMatcher, HeaderMatcherSchema } from '#proto/envoy/config/route/v3/route_components_pb.js';
import { type FilterStateMatcher, FilterStateMatcherSchema } from '#proto/envoy/type/matcher/v3/filter_state_pb.js';
import { type MetadataMatcher, MetadataMatcherSchema } from '#proto/envoy/type/matcher/v3/metadata_pb.js';
import type { StringMatcher } from '#proto/envoy/type/matcher/v3/string_pb.js';
import type { ValueMatcher } from '#proto/envoy/type/matcher/v3/value_pb.js';

import { ConfigError, join, only } from '../base/envoy-api/fields.ts';
import { compileRegex, HEADER_MATCHER_FIELDS } from '../base/envoy-api/matchers.ts';
import { cidrBytesMatch, parseCidr, parseIp } from '../base/ip/ip.ts';
import {
  type Attribute,
  filterStateAttribute,
  headerAttribute,
  metadataAttribute,
  metadataValue,
} from './attributes.ts';
import { type Expr, NEVER, type TextMatch, textTest } from './expression.ts';

export function text(attribute: Attribute, matcher: StringMatcher, path: string): Expr {
  return { kind: 'text', attribute, match: textMatch(matcher, path) };
}

export function textMatch(matcher: StringMatcher, path: string): TextMatch {
  const { matchPattern: pattern, ignoreCase: fold } = matcher;
  switch (pattern.case) {
    case 'exact':
    case 'prefix':
    case 'suffix':
    case 'contains':
      if (pattern.value === '' && pattern.case !== 'exact')
        throw new ConfigError(join(path, pattern.case), 'value length must be at least 1 characters');
      return { kind: pattern.case, value: pattern.value, fold };
    case 'safeRegex':
      return regexMatch(pattern.value.regex, join(path, 'safe_regex'));
    case 'custom':
      throw new ConfigError(
        join(path, 'custom'),
        `string matcher '${pattern.value.name}' is not supported by this proxy`,
      );
    case undefined:
      throw new ConfigError(join(path, 'match_pattern'), 'value is required');
    default:
      return pattern satisfies never;
  }
}

/** What Istio writes for wildcards needs no regex engine. */
const SIMPLE = /^(\.\*)?((?:[A-Za-z0-9/:_~%@-]|\\[./-])+)(\.\*)?$/;

export function regexMatch(source: string, path: string): TextMatch {
  if (source === '') throw new ConfigError(join(path, 'regex'), 'value length must be at least 1 characters');
  const simple = SIMPLE.exec(source);
  if (simple) {
    const value = simple[2]!.replaceAll(/\\(.)/g, '$1');
    if (simple[1] && simple[3]) return { kind: 'line-contains', value };
    if (simple[1]) return { kind: 'line-suffix', value };
    return simple[3] ? { kind: 'line-prefix', value } : { kind: 'exact', value, fold: false };
  }
  return { kind: 'regex', source, regex: compileRegex(source, join(path, 'regex')) };
}

// --- headers

export function header(message: HeaderMatcher, path: string): Expr {
  only(HeaderMatcherSchema, message, path, HEADER_MATCHER_FIELDS);
  if (message.name === '') throw new ConfigError(join(path, 'name'), 'value length must be at least 1 characters');
  const attribute = headerAttribute(message.name, message.treatMissingHeaderAsEmpty);
  const present: Expr = { kind: 'text', attribute, match: { kind: 'present' } };
  const spec = message.headerMatchSpecifier;
  if (spec.case === undefined || spec.case === 'presentMatch') {
    const want = (spec.case === undefined ? true : spec.value) !== message.invertMatch;
    return want ? present : { kind: 'not', of: present };
  }
  const matches = headerValue(attribute, spec, path);
  if (!message.invertMatch) return matches;
  // A missing header never matches, inverted or not.
  return { kind: 'and', of: [present, { kind: 'not', of: matches }] };
}

type HeaderSpec = Exclude<HeaderMatcher['headerMatchSpecifier'], { case: undefined } | { case: 'presentMatch' }>;

function headerValue(attribute: Attribute, spec: HeaderSpec, path: string): Expr {
  const made = (match: TextMatch): Expr => ({ kind: 'text', attribute, match });
  switch (spec.case) {
    case 'exactMatch':
      return made({ kind: 'exact', value: spec.value, fold: false });
    case 'prefixMatch':
      return made({ kind: 'prefix', value: spec.value, fold: false });
    case 'suffixMatch':
      return made({ kind: 'suffix', value: spec.value, fold: false });
    case 'containsMatch':
      return made({ kind: 'contains', value: spec.value, fold: false });
    case 'safeRegexMatch':
      return made(regexMatch(spec.value.regex, join(path, 'safe_regex_match')));
    case 'stringMatch':
      return made(textMatch(spec.value, join(path, 'string_match')));
    case 'rangeMatch': {
      const { start, end } = spec.value;
      return {
        kind: 'test',
        label: `${attribute.key} in [${start}, ${end})`,
        test(facts) {
          const value = attribute.read(facts);
          const inRange = (text: string) => /^-?\d{1,18}$/.test(text) && BigInt(text) >= start && BigInt(text) < end;
          return typeof value === 'string' ? inRange(value) : (value?.some(inRange) ?? false);
        },
      };
    }
    default:
      return spec satisfies never;
  }
}

// --- metadata and filter state

export function metadata(message: MetadataMatcher, source: 'dynamic' | 'route', path: string): Expr {
  only(MetadataMatcherSchema, message, path, ['filter', 'path', 'value', 'invert']);
  if (message.filter === '') throw new ConfigError(join(path, 'filter'), 'value length must be at least 1 characters');
  if (message.path.length === 0) throw new ConfigError(join(path, 'path'), 'value must contain at least 1 item(s)');
  if (!message.value) throw new ConfigError(join(path, 'value'), 'value is required');
  const keys = message.path.map((segment, i) => {
    if (segment.segment.case !== 'key') throw new ConfigError(join(path, `path[${i}].key`), 'value is required');
    return segment.segment.value;
  });
  const where = { source, filter: message.filter, keys };
  const matches = metadataMatches(where, message.value, join(path, 'value'));
  return message.invert ? { kind: 'not', of: matches } : matches;
}

interface Where {
  readonly source: 'dynamic' | 'route';
  readonly filter: string;
  readonly keys: readonly string[];
}

/** Strings, alone or in a list, can be looked up; other kinds of values are tested. */
function metadataMatches(where: Where, matcher: ValueMatcher, path: string): Expr {
  const { matchPattern: pattern } = matcher;
  const at = (list: boolean) => metadataAttribute(where.source, where.filter, where.keys, list);
  if (pattern.case === 'stringMatch') return text(at(false), pattern.value, join(path, 'string_match'));
  if (pattern.case === 'orMatch') {
    if (pattern.value.valueMatchers.length < 2)
      throw new ConfigError(join(path, 'or_match.value_matchers'), 'value must contain at least 2 item(s)');
    return {
      kind: 'or',
      of: pattern.value.valueMatchers.map((one, i) =>
        metadataMatches(where, one, join(path, `or_match.value_matchers[${i}]`)),
      ),
    };
  }
  const inner = pattern.case === 'listMatch' ? pattern.value.matchPattern : undefined;
  if (inner?.case === 'oneOf' && inner.value.matchPattern.case === 'stringMatch')
    return text(at(true), inner.value.matchPattern.value, join(path, 'list_match.one_of.string_match'));
  const test = valueTest(matcher, path);
  return {
    kind: 'test',
    label: `${at(false).key.replaceAll('\0', '.')} of a certain value`,
    test: (facts) => test(metadataValue(facts, where.source, where.filter, where.keys)),
  };
}

type ValueTest = (value: JsonValue | undefined) => boolean;

export function valueTest(matcher: ValueMatcher, path: string): ValueTest {
  const { matchPattern: pattern } = matcher;
  switch (pattern.case) {
    case 'nullMatch':
      return (value) => value === null;
    case 'boolMatch':
      return (value) => value === pattern.value;
    case 'presentMatch':
      return (value) => (value !== undefined) === pattern.value;
    case 'stringMatch': {
      const test = textTest(textMatch(pattern.value, join(path, 'string_match')));
      return (value) => typeof value === 'string' && test(value);
    }
    case 'doubleMatch': {
      const spec = pattern.value.matchPattern;
      if (spec.case === 'exact') return (value) => value === spec.value;
      if (spec.case !== 'range') throw new ConfigError(join(path, 'double_match'), 'value is required');
      const { start, end } = spec.value;
      return (value) => typeof value === 'number' && value >= start && value < end;
    }
    case 'listMatch': {
      if (pattern.value.matchPattern.case !== 'oneOf')
        throw new ConfigError(join(path, 'list_match'), 'value is required');
      const one = valueTest(pattern.value.matchPattern.value, join(path, 'list_match.one_of'));
      return (value) => Array.isArray(value) && value.some(one);
    }
    case 'orMatch': {
      const tests = pattern.value.valueMatchers.map((one, i) => valueTest(one, join(path, `or_match[${i}]`)));
      return (value) => tests.some((test) => test(value));
    }
    case undefined:
      throw new ConfigError(join(path, 'match_pattern'), 'value is required');
    default:
      return pattern satisfies never;
  }
}

export function filterState(message: FilterStateMatcher, path: string): Expr {
  only(FilterStateMatcherSchema, message, path, ['key', 'string_match', 'address_match']);
  if (message.key === '') throw new ConfigError(join(path, 'key'), 'value length must be at least 1 characters');
  const attribute = filterStateAttribute(message.key);
  if (message.matcher.case === 'stringMatch') return text(attribute, message.matcher.value, join(path, 'string_match'));
  if (message.matcher.case !== 'addressMatch') throw new ConfigError(join(path, 'matcher'), 'value is required');
  const ranges = message.matcher.value.ranges.map((range, i) => {
    const cidr = parseCidr(range.addressPrefix, range.prefixLen);
    if (!cidr) throw new ConfigError(join(path, `address_match.ranges[${i}]`), 'is not a CIDR range');
    return cidr;
  });
  if (ranges.length === 0) return NEVER;
  return {
    kind: 'test',
    label: `${attribute.key} in certain address ranges`,
    test(facts) {
      const value = attribute.read(facts);
      const bytes = typeof value === 'string' ? parseIp(value) : undefined;
      return bytes !== undefined && ranges.some((range) => cidrBytesMatch(range, bytes));
    },
  };
}
