// Header and query-parameter matchers of routes and faults, compiled once.
import type {
  CookieMatcher,
  HeaderMatcher,
  QueryParameterMatcher,
} from '#proto/envoy/config/route/v3/route_components_pb.js';
import {
  CookieMatcherSchema,
  HeaderMatcherSchema,
  QueryParameterMatcherSchema,
} from '#proto/envoy/config/route/v3/route_components_pb.js';
import { ConfigError, join, only } from '../config/fields.ts';
import { fullRegex, HEADER_MATCHER_FIELDS, type StringTest, stringTest } from '../config/matchers.ts';
import { type HeaderMap, headerName, utf8Text } from '../http/header-map.ts';
import type { StreamInfo } from '../http/stream-info.ts';
import { cookieValue } from './cookies.ts';

/** What routes look at. */
export interface RequestView {
  readonly method: string;
  readonly path: string;
  readonly authority: string;
  readonly scheme: string;
  readonly headers: HeaderMap;
  readonly info: StreamInfo;
}

export type RequestTest = (request: RequestView) => boolean;

export function headerTest(message: HeaderMatcher, path: string): RequestTest {
  only(HeaderMatcherSchema, message, path, HEADER_MATCHER_FIELDS);
  const read = reader(message.name, path);
  const { invertMatch, treatMissingHeaderAsEmpty } = message;
  const spec = message.headerMatchSpecifier;
  if (spec.case === undefined || spec.case === 'presentMatch') {
    const want = (spec.case === undefined ? true : spec.value) !== invertMatch;
    return (request) => ((read(request) ?? (treatMissingHeaderAsEmpty ? '' : undefined)) !== undefined) === want;
  }
  const test = valueTest(spec, path);
  return (request) => {
    let value = read(request);
    if (value === undefined && treatMissingHeaderAsEmpty) value = '';
    // A missing header never matches, inverted or not (Envoy).
    if (value === undefined) return false;
    return (typeof value === 'string' ? test(value) : value.some(test)) !== invertMatch;
  };
}

function valueTest(
  spec: Exclude<HeaderMatcher['headerMatchSpecifier'], { case: undefined } | { case: 'presentMatch' }>,
  path: string,
): StringTest {
  switch (spec.case) {
    case 'exactMatch': {
      const want = spec.value;
      return (value) => value === want;
    }
    case 'prefixMatch': {
      const want = spec.value;
      return (value) => value.startsWith(want);
    }
    case 'suffixMatch': {
      const want = spec.value;
      return (value) => value.endsWith(want);
    }
    case 'containsMatch': {
      const want = spec.value;
      return (value) => value.includes(want);
    }
    case 'safeRegexMatch':
      return fullRegex(spec.value, join(path, 'safe_regex_match'));
    case 'stringMatch':
      return stringTest(spec.value, join(path, 'string_match'));
    case 'rangeMatch': {
      const { start, end } = spec.value;
      return (value) => {
        const text = value.trim();
        if (!/^[+-]?\d{1,18}$/.test(text)) return false;
        const number = BigInt(text.startsWith('+') ? text.slice(1) : text);
        return number >= start && number < end;
      };
    }
  }
}

/** A repeated header gives all its values: one of them has to match, as joined ones could be forged past a rule. */
function reader(name: string, path: string): (request: RequestView) => string | readonly string[] | undefined {
  const lower = name.toLowerCase();
  switch (lower) {
    case '':
      throw new ConfigError(join(path, 'name'), 'value is required');
    case ':method':
      return (request) => request.method;
    case ':path':
      return (request) => request.path;
    case ':authority':
    case 'host':
      return (request) => request.authority;
    case ':scheme':
      return (request) => request.scheme;
    default: {
      const header = headerName(lower);
      return (request) => {
        const value = request.headers.getEach(header);
        if (value === undefined) return undefined;
        return typeof value === 'string' ? utf8Text(value) : value.map(utf8Text);
      };
    }
  }
}

export function queryTest(message: QueryParameterMatcher, path: string): RequestTest {
  only(QueryParameterMatcherSchema, message, path, ['name', 'string_match', 'present_match']);
  const spec = message.queryParameterMatchSpecifier;
  const { name } = message;
  if (name === '') throw new ConfigError(join(path, 'name'), 'value is required');
  if (spec.case === 'stringMatch') {
    const test = stringTest(spec.value, join(path, 'string_match'));
    return (request) => {
      const value = queryValue(request.path, name);
      return value !== undefined && test(value);
    };
  }
  const want = spec.case === 'presentMatch' ? spec.value : true;
  return (request) => (queryValue(request.path, name) !== undefined) === want;
}

/** The first value of `name` in the query of `path`, as it was sent: Envoy compares without decoding. */
export function queryValue(path: string, name: string): string | undefined {
  const mark = path.indexOf('?');
  if (mark < 0) return undefined;
  for (let at = mark + 1; at <= path.length; ) {
    const next = path.indexOf('&', at);
    const end = next < 0 ? path.length : next;
    const equal = path.indexOf('=', at);
    const nameEnd = equal >= 0 && equal < end ? equal : end;
    if (nameEnd - at === name.length && path.startsWith(name, at))
      return nameEnd === end ? '' : path.slice(nameEnd + 1, end);
    at = end + 1;
  }
  return undefined;
}

/** A missing cookie is like an empty one that matches nothing. */
export function cookieTest(message: CookieMatcher, path: string): RequestTest {
  only(CookieMatcherSchema, message, path, ['name', 'string_match', 'invert_match']);
  if (message.name === '') throw new ConfigError(join(path, 'name'), 'value is required');
  if (!message.stringMatch) throw new ConfigError(join(path, 'string_match'), 'value is required');
  const test = stringTest(message.stringMatch, join(path, 'string_match'));
  const { name, invertMatch } = message;
  return (request) => {
    const value = cookieValue(request.headers, name);
    return (value !== undefined && test(value)) !== invertMatch;
  };
}
