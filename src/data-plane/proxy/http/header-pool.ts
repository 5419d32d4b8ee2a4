// HeaderMaps that are used again: a message takes one, and the stream it belonged to gives it back when it is
// complete. One that is never given back is only garbage.
import { MAX_SPARE_HEADER_MAPS } from '../limits.ts';
import { HeaderMap } from './header-map.ts';

const spare: HeaderMap[] = [];

export function takeHeaders(): HeaderMap {
  const headers = spare.pop() ?? new HeaderMap(1024);
  headers.pooled = true;
  return headers;
}

/** Nobody may look at `headers` any more. */
export function giveHeaders(headers: HeaderMap | undefined): void {
  if (!headers?.pooled) return;
  headers.pooled = false;
  headers.clear();
  if (spare.length < MAX_SPARE_HEADER_MAPS) spare.push(headers);
}

const nothing = new HeaderMap(64);

/** An empty map for what is over: writing to it changes nothing that counts. */
export function noHeaders(): HeaderMap {
  nothing.clear();
  return nothing;
}
