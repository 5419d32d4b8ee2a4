// Hash policies of a route: what a ring or Maglev balancer chooses by. Computed only when a balancer asks.
import {
  type RouteAction_HashPolicy,
  RouteAction_HashPolicy_CookieSchema,
  RouteAction_HashPolicy_HeaderSchema,
  RouteAction_HashPolicySchema,
} from '#proto/envoy/config/route/v3/route_components_pb.js';
import { type Hash64, xxHash64 } from '../cluster/hash64.ts';
import { ConfigError, join, millis, only } from '../config/fields.ts';
import { headerName } from '../http/header-map.ts';
import { type CookieShape, cookieValue, setCookie } from './cookies.ts';
import { queryValue, type RequestView } from './matchers.ts';
import { filterStateText } from './metadata-match.ts';
import { regexReplace } from './rewrite.ts';

/** Takes Set-Cookie values that a policy made. */
export interface HashRequest extends RequestView {
  readonly random: () => number;
  addCookie(header: string): void;
}

export type HashPolicy = (request: HashRequest) => Hash64 | undefined;

interface Part {
  readonly terminal: boolean;
  readonly hash: (request: HashRequest) => Hash64 | undefined;
}

export function compileHashPolicy(messages: readonly RouteAction_HashPolicy[], path: string): HashPolicy | undefined {
  if (messages.length === 0) return undefined;
  const parts = messages.map((message, i): Part => {
    const at = join(path, `hash_policy[${i}]`);
    only(RouteAction_HashPolicySchema, message, at, [
      'header',
      'cookie',
      'connection_properties',
      'query_parameter',
      'filter_state',
      'terminal',
    ]);
    return { terminal: message.terminal, hash: one(message, at) };
  });
  return (request) => {
    let total: Hash64 | undefined;
    for (const part of parts) {
      const hash = part.hash(request);
      if (hash === undefined) continue;
      total = total === undefined ? hash : combine(total, hash);
      if (part.terminal) break;
    }
    return total;
  };
}

/** The older hash turns left by one bit, so that two equal ones do not cancel each other. */
function combine(before: Hash64, next: Hash64): Hash64 {
  const hi = ((before.hi << 1) | (before.lo >>> 31)) >>> 0;
  const lo = ((before.lo << 1) | (before.hi >>> 31)) >>> 0;
  return { hi: (hi ^ next.hi) >>> 0, lo: (lo ^ next.lo) >>> 0 };
}

function one(message: RouteAction_HashPolicy, path: string): Part['hash'] {
  const spec = message.policySpecifier;
  switch (spec.case) {
    case 'header': {
      const at = join(path, 'header');
      only(RouteAction_HashPolicy_HeaderSchema, spec.value, at, ['header_name', 'regex_rewrite']);
      if (spec.value.headerName === '') throw new ConfigError(join(at, 'header_name'), 'value is required');
      const name = headerName(spec.value.headerName);
      const replace = spec.value.regexRewrite && regexReplace(spec.value.regexRewrite, join(at, 'regex_rewrite'));
      return (request) => {
        const value = name.text === ':path' ? request.path : request.headers.getAll(name);
        return value === undefined ? undefined : textHash(replace ? replace(value) : value);
      };
    }
    case 'cookie': {
      const at = join(path, 'cookie');
      only(RouteAction_HashPolicy_CookieSchema, spec.value, at, ['name', 'ttl', 'path', 'attributes']);
      const { name, ttl, path: cookiePath, attributes } = spec.value;
      if (name === '') throw new ConfigError(join(at, 'name'), 'value is required');
      const shape: CookieShape = { name, path: cookiePath, attributes, maxAgeS: Math.floor(millis(ttl, 0) / 1000) };
      return (request) => {
        const value = cookieValue(request.headers, name);
        if (value !== undefined) return textHash(value);
        if (ttl === undefined) return undefined;
        const made = randomHex(request.random);
        request.addCookie(setCookie(shape, made));
        return textHash(made);
      };
    }
    case 'connectionProperties':
      return (request) => {
        const { remote } = request.info;
        return spec.value.sourceIp && remote.kind === 'ip' ? textHash(remote.ip) : undefined;
      };
    case 'queryParameter': {
      const { name } = spec.value;
      if (name === '') throw new ConfigError(join(path, 'query_parameter.name'), 'value is required');
      return (request) => {
        const value = queryValue(request.path, name);
        return value === undefined ? undefined : textHash(value);
      };
    }
    case 'filterState': {
      const { key } = spec.value;
      if (key === '') throw new ConfigError(join(path, 'filter_state.key'), 'value is required');
      return (request) => {
        const value = filterStateText(request.info, key);
        return value === undefined ? undefined : textHash(value);
      };
    }
    case undefined:
      throw new ConfigError(join(path, 'policy_specifier'), 'value is required');
  }
}

function textHash(text: string): Hash64 {
  return xxHash64(Buffer.from(text, 'latin1'));
}

function randomHex(random: () => number): string {
  const word = () => ((random() * 0x1_0000_0000) >>> 0).toString(16).padStart(8, '0');
  return word() + word();
}
