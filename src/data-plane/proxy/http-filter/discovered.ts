// HTTP filters whose configuration comes later (ECDS): until it is there their place answers 500. Built by registry.ts; the
// connection manager gets a new plan whenever one changes.

import type { Any } from '@bufbuild/protobuf/wkt';
import {
  type ExtensionConfigSource,
  ExtensionConfigSourceSchema,
} from '#proto/envoy/config/core/v3/config_source_pb.js';
import { openAny, typeNameOf } from '../config/any.ts';
import { ConfigError, join, only } from '../config/fields.ts';
import { FLAG } from '../http/stream-info.ts';
import type { Live } from '../transport-socket/secrets.ts';
import type { HttpFilter } from './filter.ts';

/** Extension configurations by name; xds/ecds.ts. */
export interface ExtensionProvider {
  /**
   * `build` makes the filter from a configuration, and refuses it with a ConfigError; what it made is disposed when the
   * next one takes its place. Throws ConfigError when the source cannot be used.
   */
  subscribe<T extends { dispose?(): void }>(
    name: string,
    source: ExtensionConfigSource,
    build: (any: Any) => T,
    path: string,
  ): { readonly live: Live<T>; release(): void };
}

/** A place in the chain: a filter that is there, or one that comes and changes. */
export type FilterPlace =
  | { readonly kind: 'fixed'; readonly filter: HttpFilter }
  | { readonly kind: 'discovered'; readonly name: string; readonly live: Live<HttpFilter>; release(): void };

export function discoveredFilter(
  name: string,
  source: ExtensionConfigSource,
  provider: ExtensionProvider,
  build: (any: Any) => HttpFilter,
  path: string,
): FilterPlace {
  only(ExtensionConfigSourceSchema, source, path, [
    'config_source',
    'default_config',
    'apply_default_config_without_warming',
    'type_urls',
  ]);
  if (source.typeUrls.length === 0)
    throw new ConfigError(join(path, 'type_urls'), 'value must contain at least 1 item');
  if (source.applyDefaultConfigWithoutWarming && !source.defaultConfig)
    throw new ConfigError(path, 'apply_default_config_without_warming needs a default_config');
  const allowed = new Set(source.typeUrls.map(typeNameOf));
  const share = provider.subscribe(
    name,
    source,
    (any) => {
      const type = openAny(any, name).typeName;
      if (!allowed.has(type))
        throw new ConfigError('', `Error: filter config has type URL ${type} but expect ${[...allowed].join(', ')}.`);
      return build(any);
    },
    path,
  );
  return { kind: 'discovered', name, live: share.live, release: () => share.release() };
}

/** The chain as it is now. */
export function filtersNow(places: readonly FilterPlace[]): HttpFilter[] {
  return places.map((place) => (place.kind === 'fixed' ? place.filter : (place.live.current() ?? missing(place.name))));
}

function missing(name: string): HttpFilter {
  return {
    name,
    onRequest(stream) {
      stream.localReply({ status: 500, body: '', flags: FLAG.NFCF, details: 'filter_config_not_found' });
      return 'stop';
    },
  };
}
