// Redirects and answers that a route gives by itself. Used by action.ts.
import {
  type DirectResponseAction,
  DirectResponseActionSchema,
  type RedirectAction,
  RedirectActionSchema,
  RedirectAction_RedirectResponseCode as RedirectCode,
} from '#proto/envoy/config/route/v3/route_components_pb.js';
import { type BodyFormat, compileBodyFormat, type FormatWorld } from '../access-log/body-format.ts';
import { ConfigError, join, only } from '../config/fields.ts';
import { utf8Bytes } from '../http/header-map.ts';
import { MAX_DIRECT_RESPONSE_BYTES } from '../limits.ts';
import { readSource } from '../transport-socket/secrets.ts';
import type { RequestView } from './matchers.ts';
import { type PathMatch, pathOf } from './path.ts';
import { prefixPath, regexPath, type TargetRewrite } from './rewrite.ts';

export interface RedirectSettings {
  readonly kind: 'redirect';
  readonly status: number;
  readonly location: (request: RequestView) => string;
  /** Of the path, which logs show too; undefined = it stays. */
  readonly rewrite: TargetRewrite | undefined;
}

export interface DirectSettings {
  readonly kind: 'direct';
  readonly status: number;
  readonly body: Buffer;
  readonly format: BodyFormat | undefined;
}

const REDIRECT_STATUS: Readonly<Record<RedirectCode, number>> = {
  [RedirectCode.MOVED_PERMANENTLY]: 301,
  [RedirectCode.FOUND]: 302,
  [RedirectCode.SEE_OTHER]: 303,
  [RedirectCode.TEMPORARY_REDIRECT]: 307,
  [RedirectCode.PERMANENT_REDIRECT]: 308,
};

export function redirect(message: RedirectAction, match: PathMatch, path: string): RedirectSettings {
  only(RedirectActionSchema, message, path, [
    'https_redirect',
    'scheme_redirect',
    'host_redirect',
    'port_redirect',
    'path_redirect',
    'prefix_rewrite',
    'regex_rewrite',
    'response_code',
    'strip_query',
  ]);
  const scheme = message.schemeRewriteSpecifier;
  const rewrite = rewriteOf(message, match, path);
  const target = targetOf(message, rewrite, path);
  const port = message.portRedirect === 0 ? '' : `:${message.portRedirect}`;
  return {
    kind: 'redirect',
    status: REDIRECT_STATUS[message.responseCode],
    rewrite,
    location(request) {
      const to =
        scheme.case === 'schemeRedirect' && scheme.value !== ''
          ? scheme.value
          : scheme.case === 'httpsRedirect' && scheme.value
            ? 'https'
            : request.scheme;
      const host = message.hostRedirect || requestHost(request, to, port !== '');
      return `${to}://${host}${port}${target(request)}`;
    },
  };
}

function rewriteOf(message: RedirectAction, match: PathMatch, path: string): TargetRewrite | undefined {
  const spec = message.pathRewriteSpecifier;
  if (spec.case === 'prefixRewrite' && spec.value !== '') return prefixPath(spec.value, match);
  return spec.case === 'regexRewrite' ? regexPath(spec.value, join(path, 'regex_rewrite')) : undefined;
}

function targetOf(
  message: RedirectAction,
  rewrite: TargetRewrite | undefined,
  path: string,
): (request: RequestView) => string {
  const spec = message.pathRewriteSpecifier;
  const { stripQuery } = message;
  if (spec.case === 'pathRedirect' && spec.value !== '') {
    for (const char of spec.value)
      if (char === '\r' || char === '\n' || char === '\0')
        throw new ConfigError(join(path, 'path_redirect'), 'value does not match regex pattern');
    // A query that the redirect itself has takes the place of the request's, and is never stripped.
    const value = utf8Bytes(spec.value);
    if (value.includes('?')) return () => value;
    return (request) => value + (stripQuery ? '' : request.path.slice(pathOf(request.path).length));
  }
  return (request) => {
    const target = rewrite?.(request.path, request.info) ?? request.path;
    return stripQuery ? pathOf(target) : target;
  };
}

const OWN_PORT: Readonly<Record<string, string>> = { http: ':80', https: ':443' };

/** The port of the request goes when the redirect names another, or the scheme changes and it was the old scheme's own. */
function requestHost(request: RequestView, scheme: string, otherPort: boolean): string {
  const host = request.authority;
  const colon = host.lastIndexOf(':');
  if (colon < 0 || (host.startsWith('[') && host[colon - 1] !== ']')) return host;
  const own = scheme !== request.scheme && host.slice(colon) === OWN_PORT[request.scheme];
  return otherPort || own ? host.slice(0, colon) : host;
}

/** Of a direct answer that says where something is (201 and 3xx). */
export function ownUri(request: RequestView): string {
  return `${request.scheme}://${request.authority}${request.path}`;
}

export function direct(
  message: DirectResponseAction,
  world: FormatWorld,
  maxBytes: number | undefined,
  path: string,
): DirectSettings {
  only(DirectResponseActionSchema, message, path, ['status', 'body', 'body_format']);
  if (message.status < 200 || message.status >= 600)
    throw new ConfigError(join(path, 'status'), 'value must be inside range [200, 600)');
  const at = join(path, 'body');
  const body = readSource(message.body, world.reader, at) ?? Buffer.alloc(0);
  const max = Math.min(maxBytes ?? DEFAULT_DIRECT_BYTES, MAX_DIRECT_RESPONSE_BYTES);
  if (body.length > max) throw new ConfigError(at, `response body size is ${body.length} bytes; maximum is ${max}`);
  return {
    kind: 'direct',
    status: message.status,
    body,
    format: message.bodyFormat && compileBodyFormat(message.bodyFormat, world, join(path, 'body_format')),
  };
}

/** Envoy's bound when max_direct_response_body_size_bytes says nothing. */
const DEFAULT_DIRECT_BYTES = 4096;
