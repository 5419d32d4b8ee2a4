// Internal redirect policies: which redirects of an upstream the proxy follows itself. Used by action.ts; followed by
// http-filter/router-redirect.ts.
import {
  type InternalRedirectPolicy,
  InternalRedirectPolicySchema,
} from '#proto/envoy/config/route/v3/route_components_pb.js';
import { AllowListedRoutesConfigSchema } from '#proto/envoy/extensions/internal_redirect/allow_listed_routes/v3/allow_listed_routes_config_pb.js';
import { PreviousRoutesConfigSchema } from '#proto/envoy/extensions/internal_redirect/previous_routes/v3/previous_routes_config_pb.js';
import { SafeCrossSchemeConfigSchema } from '#proto/envoy/extensions/internal_redirect/safe_cross_scheme/v3/safe_cross_scheme_config_pb.js';
import { openAny } from '../config/any.ts';
import { ConfigError, join, only } from '../config/fields.ts';
import { type HeaderName, headerName } from '../http/header-map.ts';

export interface InternalRedirectSettings {
  readonly max: number;
  readonly codes: ReadonlySet<number>;
  readonly crossScheme: boolean;
  /** A route may be taken once only. */
  readonly noPreviousRoutes: boolean;
  /** Names of the only routes that may be taken; undefined = any. */
  readonly allowedRoutes: ReadonlySet<string> | undefined;
  /** From https only to https. */
  readonly safeCrossScheme: boolean;
  readonly copyHeaders: readonly HeaderName[];
}

const CODES = new Set([301, 302, 303, 307, 308]);
/** Envoy's bound on response_headers_to_copy. */
const MAX_COPIED = 5;

export function compileInternalRedirect(
  message: InternalRedirectPolicy | undefined,
  path: string,
): InternalRedirectSettings | undefined {
  if (!message) return undefined;
  only(InternalRedirectPolicySchema, message, path, [
    'max_internal_redirects',
    'redirect_response_codes',
    'predicates',
    'allow_cross_scheme_redirect',
    'response_headers_to_copy',
  ]);
  let noPreviousRoutes = false;
  let safeCrossScheme = false;
  let allowedRoutes: Set<string> | undefined;
  for (const [i, predicate] of message.predicates.entries()) {
    const at = join(path, `predicates[${i}]`);
    if (!predicate.typedConfig) throw new ConfigError(at, 'value is required');
    const any = openAny(predicate.typedConfig, at);
    if (any.typeName === PreviousRoutesConfigSchema.typeName) noPreviousRoutes = true;
    else if (any.typeName === SafeCrossSchemeConfigSchema.typeName) safeCrossScheme = true;
    else if (any.typeName === AllowListedRoutesConfigSchema.typeName)
      allowedRoutes = new Set(any.open(AllowListedRoutesConfigSchema).allowedRouteNames);
    else throw new ConfigError(at, `redirect predicate '${any.typeName}' is not supported by this proxy`);
  }
  const codes = message.redirectResponseCodes.length === 0 ? [302] : message.redirectResponseCodes;
  if (message.responseHeadersToCopy.length > MAX_COPIED)
    throw new ConfigError(join(path, 'response_headers_to_copy'), `max number of headers to copy is ${MAX_COPIED}`);
  for (const name of message.responseHeadersToCopy)
    if (name.startsWith(':') || name.toLowerCase() === 'host')
      throw new ConfigError(join(path, 'response_headers_to_copy'), `${name} may not be copied`);
  return {
    max: message.maxInternalRedirects ?? 1,
    // Envoy takes only redirect codes.
    codes: new Set(codes.filter((code) => CODES.has(code))),
    crossScheme: message.allowCrossSchemeRedirect,
    noPreviousRoutes,
    allowedRoutes,
    safeCrossScheme,
    copyHeaders: message.responseHeadersToCopy.map(headerName),
  };
}
