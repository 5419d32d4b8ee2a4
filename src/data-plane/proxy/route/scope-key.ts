// The scope of a request: a key built from its headers, looked up among the scopes' keys. Source: ScopedRoutes.ScopeKeyBuilder
// of Envoy's connection manager. Used by xds/srds.ts.
import type { ScopedRouteConfiguration_Key } from '#proto/envoy/config/route/v3/scoped_route_pb.js';
import {
  ScopedRoutes_ScopeKeyBuilder_FragmentBuilder_HeaderValueExtractorSchema as ExtractorSchema,
  type ScopedRoutes_ScopeKeyBuilder,
} from '#proto/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js';
import { ConfigError, join, only } from '../config/fields.ts';
import { headerName } from '../http/header-map.ts';
import type { RequestView } from './matchers.ts';

/** Undefined: the request has no such key, so no scope. */
export type ScopeKeyBuilder = (request: RequestView) => string | undefined;

/** Stands between fragments; no header value holds it. */
const BETWEEN = '\n';

export function scopeKeyBuilder(message: ScopedRoutes_ScopeKeyBuilder | undefined, path: string): ScopeKeyBuilder {
  if (!message || message.fragments.length === 0)
    throw new ConfigError(join(path, 'fragments'), 'value must contain at least 1 item');
  const fragments = message.fragments.map((fragment, i) => {
    const at = join(path, `fragments[${i}].header_value_extractor`);
    if (fragment.type.case !== 'headerValueExtractor') throw new ConfigError(at, 'value is required');
    const extractor = fragment.type.value;
    only(ExtractorSchema, extractor, at, ['name', 'element_separator', 'index', 'element']);
    if (extractor.name === '') throw new ConfigError(join(at, 'name'), 'value is required');
    const name = headerName(extractor.name);
    const { elementSeparator, extractType } = extractor;
    if (extractType.case === 'index' && elementSeparator === '' && extractType.value !== 0)
      throw new ConfigError(at, 'Index > 0 for empty string element separator.');
    const split = (value: string): string[] => (elementSeparator === '' ? [value] : value.split(elementSeparator));
    return (request: RequestView): string | undefined => {
      const value = request.headers.get(name);
      if (value === undefined) return undefined;
      if (extractType.case === 'element') {
        const { key, separator } = extractType.value;
        for (const element of split(value)) {
          const cut = element.indexOf(separator);
          if (cut >= 0 ? element.slice(0, cut) === key : element === key)
            return cut >= 0 ? element.slice(cut + separator.length) : '';
        }
        return undefined;
      }
      return split(value)[extractType.case === 'index' ? extractType.value : 0];
    };
  });
  return (request) => {
    let key = '';
    for (const fragment of fragments) {
      const part = fragment(request);
      if (part === undefined) return undefined;
      key += part + BETWEEN;
    }
    return key;
  };
}

export function scopeKeyOf(message: ScopedRouteConfiguration_Key | undefined, path: string): string {
  if (!message || message.fragments.length === 0)
    throw new ConfigError(join(path, 'key.fragments'), 'value must contain at least 1 item');
  return message.fragments
    .map((fragment) => `${fragment.type.case === 'stringKey' ? fragment.type.value : ''}${BETWEEN}`)
    .join('');
}
