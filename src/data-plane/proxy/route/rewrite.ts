// Rewrites of path and host that a route asks for. Used by forwards, redirects and internal redirects.

import type { RouteAction } from '#proto/envoy/config/route/v3/route_components_pb.js';
import { UriTemplateRewriteConfigSchema } from '#proto/envoy/extensions/path/rewrite/uri_template/v3/uri_template_rewrite_pb.js';
import type { RegexMatchAndSubstitute } from '#proto/envoy/type/matcher/v3/regex_pb.js';
import { compileFormat, type FormatDeps } from '../access-log/format.ts';
import { openAny } from '../config/any.ts';
import { ConfigError, join } from '../config/fields.ts';
import { compileRegex } from '../config/matchers.ts';
import { type HeaderName, headerName, utf8Bytes } from '../http/header-map.ts';
import type { StreamInfo } from '../http/stream-info.ts';
import { type PathMatch, pathOf } from './path.ts';
import { compileTemplateRewrite } from './uri-template.ts';

/** A target (path and query) changed; undefined = it stays. */
export type TargetRewrite = (target: string, info: StreamInfo) => string | undefined;

/** What would end a request line early, or be read as a second one, goes escaped: a header's value may hold spaces. */
function requestTarget(text: string): string {
  return text.replace(/[\0-\x20\x7f]/g, (char) => `%${char.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0')}`);
}

/** Every match is replaced, `\1` by its group. A substitution that names a group the expression has not changes nothing. */
export function regexReplace(message: RegexMatchAndSubstitute, path: string): (text: string) => string {
  const pattern = compileRegex(message.pattern?.regex ?? '', join(path, 'pattern.regex'));
  const parts: (string | number)[] = [];
  for (const [, group, escaped, plain] of utf8Bytes(message.substitution).matchAll(/\\(\d)|\\(.)|([^\\]+)/gs)) {
    if (group !== undefined) parts.push(Number(group));
    else if (plain !== undefined) parts.push(plain);
    else if (escaped === '\\') parts.push('\\');
    else throw new ConfigError(path, `invalid substitution '${message.substitution}'`);
  }
  if (parts.some((part) => typeof part === 'number' && part > pattern.groupCount())) return (text) => text;
  return (text) => {
    const matcher = pattern.matcher(text);
    let out = '';
    let at = 0;
    let last = -1;
    while (matcher.find()) {
      // As RE2 replaces: nothing at the end of what was just replaced is no match.
      if (matcher.start() === last && matcher.end() === last) continue;
      last = matcher.end();
      out += text.slice(at, matcher.start());
      for (const part of parts) out += typeof part === 'string' ? part : (matcher.group(part) ?? '');
      at = matcher.end();
    }
    return at === 0 && out === '' ? text : out + text.slice(at);
  };
}

/** The path part is replaced by an expression; the query stays. */
export function regexPath(message: RegexMatchAndSubstitute, path: string): TargetRewrite {
  const replace = regexReplace(message, path);
  return (target) => {
    const bare = pathOf(target);
    return requestTarget(replace(bare)) + target.slice(bare.length);
  };
}

/** What the route matched is replaced: the prefix, or the whole path for every other kind of match. */
export function prefixPath(text: string, match: PathMatch): TargetRewrite {
  const prefix = requestTarget(utf8Bytes(text));
  if (match.kind !== 'prefix') return (target) => prefix + target.slice(pathOf(target).length);
  const { length } = match.value;
  return (target) => prefix + target.slice(length);
}

export function pathRewrite(
  message: RouteAction,
  match: PathMatch,
  deps: FormatDeps,
  path: string,
): TargetRewrite | undefined {
  const given = [
    message.prefixRewrite !== '',
    message.regexRewrite !== undefined,
    message.pathRewritePolicy !== undefined,
    message.pathRewrite !== '',
  ];
  if (given.filter(Boolean).length > 1)
    throw new ConfigError(
      path,
      'Specify only one of prefix_rewrite, regex_rewrite, path_rewrite_policy or path_rewrite',
    );
  if (message.regexRewrite) return regexPath(message.regexRewrite, join(path, 'regex_rewrite'));
  if (message.pathRewritePolicy) return templatePath(message, match, join(path, 'path_rewrite_policy'));
  if (message.pathRewrite !== '') {
    const format = compileFormat(utf8Bytes(message.pathRewrite), join(path, 'path_rewrite'), '', deps);
    return (target, info) => {
      const made = format(info);
      return made === '' ? undefined : requestTarget(made) + target.slice(pathOf(target).length);
    };
  }
  return message.prefixRewrite === '' ? undefined : prefixPath(message.prefixRewrite, match);
}

function templatePath(message: RouteAction, match: PathMatch, path: string): TargetRewrite {
  const config = message.pathRewritePolicy?.typedConfig;
  if (!config) throw new ConfigError(path, 'value is required');
  const any = openAny(config, path);
  if (any.typeName !== UriTemplateRewriteConfigSchema.typeName)
    throw new ConfigError(path, `path rewriter '${any.typeName}' is not supported by this proxy`);
  if (match.kind !== 'template')
    throw new ConfigError(path, 'unable to use path_rewrite_policy without a path_match_policy of the same kind');
  const rewrite = compileTemplateRewrite(
    any.open(UriTemplateRewriteConfigSchema).pathTemplateRewrite,
    match.template,
    path,
  );
  return (target) => {
    const bare = pathOf(target);
    const made = rewrite(bare);
    return made === undefined ? undefined : made + target.slice(bare.length);
  };
}

/** The authority a request gets upstream. `auto` is the name of the chosen host. */
export type HostRewrite =
  | { readonly kind: 'literal'; readonly value: string }
  | { readonly kind: 'auto' }
  | { readonly kind: 'header'; readonly name: HeaderName }
  | { readonly kind: 'path'; readonly replace: (path: string) => string }
  | { readonly kind: 'format'; readonly format: (info: StreamInfo) => string };

export function hostRewrite(message: RouteAction, deps: FormatDeps, path: string): HostRewrite | undefined {
  const spec = message.hostRewriteSpecifier;
  switch (spec.case) {
    case 'hostRewriteLiteral':
      return spec.value === '' ? undefined : { kind: 'literal', value: spec.value };
    case 'autoHostRewrite':
      return spec.value.value ? { kind: 'auto' } : undefined;
    case 'hostRewriteHeader':
      return { kind: 'header', name: headerName(spec.value) };
    case 'hostRewritePathRegex':
      return { kind: 'path', replace: regexReplace(spec.value, join(path, 'host_rewrite_path_regex')) };
    case 'hostRewrite':
      return { kind: 'format', format: compileFormat(utf8Bytes(spec.value), join(path, 'host_rewrite'), '', deps) };
    case undefined:
      return undefined;
  }
}
