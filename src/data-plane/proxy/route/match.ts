// RouteMatch compiled: a test of the path and tests of everything else. Used by route tables.
import {
  type RouteMatch,
  RouteMatch_TlsContextMatchOptionsSchema,
  RouteMatchSchema,
} from '#proto/envoy/config/route/v3/route_components_pb.js';
import { UriTemplateMatchConfigSchema } from '#proto/envoy/extensions/path/match/uri_template/v3/uri_template_match_pb.js';
import { compileTemplate } from '../../../base/envoy-api/uri-template.ts';
import { openAny } from '../config/any.ts';
import { ConfigError, join, only } from '../config/fields.ts';
import { compileRegex, type StringTest } from '../config/matchers.ts';
import { headerName } from '../http/header-map.ts';
import { type RuntimeView, runtimeShare, type Share } from '../runtime/runtime.ts';
import { cookieTest, headerTest, queryTest, type RequestTest } from './matchers.ts';
import { filterStateTest, metadataTest } from './metadata-match.ts';
import type { PathMatch } from './path.ts';

export interface CompiledMatch {
  readonly path: PathMatch;
  /** Of the path without query; never called for a request without a path. */
  readonly pathTest: StringTest;
  readonly tests: readonly RequestTest[];
  readonly share: Share;
}

export function compileMatch(message: RouteMatch, runtime: RuntimeView, path: string): CompiledMatch {
  only(RouteMatchSchema, message, path, [
    'prefix',
    'path',
    'safe_regex',
    'connect_matcher',
    'path_separated_prefix',
    'path_match_policy',
    'case_sensitive',
    'runtime_fraction',
    'headers',
    'query_parameters',
    'cookies',
    'grpc',
    'tls_context',
    'dynamic_metadata',
    'filter_state',
  ]);
  const [kind, pathTest] = pathSpec(message, path);
  const tests: RequestTest[] = [];
  if (kind.kind === 'connect') tests.push((request) => request.method === 'CONNECT');
  if (message.grpc) tests.push(isGrpc);
  for (const [i, header] of message.headers.entries()) tests.push(headerTest(header, join(path, `headers[${i}]`)));
  for (const [i, query] of message.queryParameters.entries())
    tests.push(queryTest(query, join(path, `query_parameters[${i}]`)));
  for (const [i, cookie] of message.cookies.entries()) tests.push(cookieTest(cookie, join(path, `cookies[${i}]`)));
  const tls = tlsTest(message, join(path, 'tls_context'));
  if (tls) tests.push(tls);
  for (const [i, matcher] of message.dynamicMetadata.entries()) {
    const test = metadataTest(matcher, join(path, `dynamic_metadata[${i}]`));
    tests.push((request) => test(request.info));
  }
  for (const [i, matcher] of message.filterState.entries()) {
    const test = filterStateTest(matcher, join(path, `filter_state[${i}]`));
    tests.push((request) => test(request.info));
  }
  return { path: kind, pathTest, tests, share: runtimeShare(runtime, message.runtimeFraction, 1) };
}

const CONTENT_TYPE = headerName('content-type');
const GRPC = 'application/grpc';

const isGrpc: RequestTest = (request) => {
  const type = request.headers.get(CONTENT_TYPE);
  if (type === undefined || !type.startsWith(GRPC)) return false;
  return type.length === GRPC.length || type[GRPC.length] === '+';
};

function tlsTest(message: RouteMatch, path: string): RequestTest | undefined {
  if (!message.tlsContext) return undefined;
  only(RouteMatch_TlsContextMatchOptionsSchema, message.tlsContext, path, ['presented', 'validated']);
  const { presented, validated } = message.tlsContext;
  return (request) => {
    const { tls } = request.info.connection;
    if (presented !== undefined && (tls?.peerCertificate !== undefined) !== presented) return false;
    return validated === undefined || (tls?.peerVerified ?? false) === validated;
  };
}

const never: StringTest = () => false;

function pathSpec(message: RouteMatch, path: string): [PathMatch, StringTest] {
  const spec = message.pathSpecifier;
  const fold = message.caseSensitive === false;
  switch (spec.case) {
    case 'prefix': {
      const { value } = spec;
      const kind: PathMatch = { kind: 'prefix', value, fold };
      if (value === '/') return [kind, (text) => text.charCodeAt(0) === 47];
      if (!fold) return [kind, (text) => text.startsWith(value)];
      const want = value.toLowerCase();
      return [kind, (text) => text.slice(0, want.length).toLowerCase() === want];
    }
    case 'path': {
      const { value } = spec;
      const kind: PathMatch = { kind: 'exact', value, fold };
      if (!fold) return [kind, (text) => text === value];
      const want = value.toLowerCase();
      return [kind, (text) => text.length === want.length && text.toLowerCase() === want];
    }
    case 'pathSeparatedPrefix': {
      const { value } = spec;
      if (!/^[^?#]+[^?#/]$/.test(value))
        throw new ConfigError(
          join(path, 'path_separated_prefix'),
          'value does not match regex pattern "^[^?#]+[^?#/]$"',
        );
      const want = fold ? value.toLowerCase() : value;
      return [
        { kind: 'prefix', value, fold },
        (text) => {
          if (text.length > want.length && text.charCodeAt(want.length) !== 47) return false;
          const head = text.slice(0, want.length);
          return (fold ? head.toLowerCase() : head) === want;
        },
      ];
    }
    case 'safeRegex': {
      const pattern = compileRegex(spec.value.regex, join(path, 'safe_regex.regex'));
      return [{ kind: 'regex', pattern }, (text) => pattern.testExact(text)];
    }
    case 'connectMatcher':
      return [{ kind: 'connect' }, never];
    case 'pathMatchPolicy': {
      const at = join(path, 'path_match_policy');
      if (!spec.value.typedConfig) throw new ConfigError(at, 'value is required');
      const any = openAny(spec.value.typedConfig, at);
      if (any.typeName !== UriTemplateMatchConfigSchema.typeName)
        throw new ConfigError(at, `path matcher '${any.typeName}' is not supported by this proxy`);
      const template = compileTemplate(any.open(UriTemplateMatchConfigSchema).pathTemplate, at);
      return [{ kind: 'template', template }, template.test];
    }
    default:
      throw new ConfigError(join(path, 'path_specifier'), 'value is required');
  }
}
