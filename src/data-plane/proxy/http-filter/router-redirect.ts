// Follows a redirect of the upstream inside the proxy: the request gets the new target and runs through the filters again.
// Called by router-exchange.ts.

import { type HeaderMap, headerName } from '../http/header-map.ts';
import { RARE } from '../http/manager-counters.ts';
import { H } from '../http/names.ts';
import type { HttpStream } from '../http/stream.ts';
import type { CompiledRoute } from '../route/compiled.ts';
import type { InternalRedirectSettings } from '../route/internal-redirect.ts';

/** What a request remembers of the redirects it has taken. */
export interface RedirectHistory {
  count: number;
  readonly routes: Set<string>;
}

const ORIGINAL_URL = headerName('x-envoy-original-url');
/** User information is no part of an authority. */
const LOCATION = /^(https?):\/\/(?:[^/?#\s@]*@)?([^/?#\s,@\\]+)(?=[/?#\s]|$)([^#\s]*)/i;

/** True when the stream is on its way again with the new target. False: the answer is the client's. */
export function followRedirect(
  stream: HttpStream,
  route: CompiledRoute,
  settings: InternalRedirectSettings,
  status: number,
  response: HeaderMap,
): boolean {
  const location = response.get(H.location);
  if (location === undefined) return false;
  const match = LOCATION.exec(location);
  const { rare } = stream.manager.counters;
  const passThrough = (why: number): false => {
    rare.add(why);
    return false;
  };
  if (!match) return passThrough(RARE.redirectBadLocation);
  const scheme = match[1]!.toLowerCase();
  const history: RedirectHistory = stream.redirects ?? { count: 0, routes: new Set() };
  if (!settings.crossScheme && scheme !== stream.scheme) return passThrough(RARE.redirectUnsafeScheme);
  if (history.count >= settings.max) return passThrough(RARE.redirectTooMany);
  if (settings.safeCrossScheme && stream.scheme === 'http' && scheme === 'https')
    return passThrough(RARE.redirectPredicate);
  const before = { scheme: stream.scheme, authority: stream.authority, path: stream.path, method: stream.method };
  const rest = match[3]!;
  const path = rest.startsWith('/') ? rest : `/${rest}`;
  // See Other: whatever it was, it is asked for with GET, without its body.
  const seeOther = status === 303 && stream.method !== 'GET' && stream.method !== 'HEAD';
  stream.retarget(scheme, match[2]!, path, seeOther ? 'GET' : stream.method);
  const next = stream.route;
  if (!next || !allowed(next, settings, history)) {
    stream.retarget(before.scheme, before.authority, before.path, before.method);
    stream.keepRoute(route);
    // Envoy forgets the cluster with the route.
    if (!next) stream.info.setCluster(undefined);
    return passThrough(next ? RARE.redirectPredicate : RARE.redirectNoRoute);
  }
  stream.headers.set(ORIGINAL_URL, `${before.scheme}://${before.authority}${before.path}`);
  history.count += 1;
  history.routes.add(next.name);
  stream.redirects = history;
  for (const name of settings.copyHeaders) {
    const value = response.getAll(name);
    if (value === undefined) stream.headers.remove(name);
    else stream.headers.set(name, value);
  }
  if (seeOther) {
    stream.headers.remove(H.contentLength);
    stream.headers.remove(H.transferEncoding);
    stream.body = 'none';
  }
  return true;
}

function allowed(next: CompiledRoute, settings: InternalRedirectSettings, history: RedirectHistory): boolean {
  if (settings.noPreviousRoutes && history.routes.has(next.name)) return false;
  return settings.allowedRoutes === undefined || settings.allowedRoutes.has(next.name);
}
