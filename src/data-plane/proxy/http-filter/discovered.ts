// HTTP filters whose configuration comes later (ECDS): until it is there their place answers 500. Built by registry.ts; the
// connection manager gets a new plan whenever one changes.

import type { Any } from '@bufbuild/protobuf/wkt';
import type { ExtensionConfigSource } from '#proto/envoy/config/core/v3/config_source_pb.js';
import { discover, type ExtensionProvider } from '../config/discovered.ts';
import { FLAG } from '../http/stream-info.ts';
import type { Live } from '../transport-socket/secrets.ts';
import type { HttpFilter } from './filter.ts';

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
  const share = discover('http_filter', name, source, provider, build, path);
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
