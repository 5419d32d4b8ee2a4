// The routes of one virtual host: the first that matches, found without walking over routes with another exact path.
import type { CompiledRoute } from './compiled.ts';
import type { RequestView } from './matchers.ts';
import { pathOf } from './path.ts';

export class RouteList {
  /** Case-sensitive exact paths; the routes of one path in their order. */
  readonly #exact = new Map<string, CompiledRoute[]>();
  readonly #others: CompiledRoute[] = [];
  readonly #ignoreParameters: boolean;

  constructor(routes: readonly CompiledRoute[], ignoreParameters: boolean) {
    this.#ignoreParameters = ignoreParameters;
    for (const route of routes) {
      const { match } = route;
      if (match.kind !== 'exact' || match.fold) {
        this.#others.push(route);
        continue;
      }
      const same = this.#exact.get(match.value);
      if (same) same.push(route);
      else this.#exact.set(match.value, [route]);
    }
  }

  /** `random` in [0, 1) decides runtime fractions. */
  find(request: RequestView, random: () => number, after = -1): CompiledRoute | undefined {
    let path = pathOf(request.path);
    if (this.#ignoreParameters) {
      const mark = path.indexOf(';');
      if (mark >= 0) path = path.slice(0, mark);
    }
    const others = this.#others;
    const exact = this.#exact.size > 0 ? this.#exact.get(path) : undefined;
    let e = 0;
    let o = 0;
    while (true) {
      const fromExact = exact?.[e];
      const fromOthers = others[o];
      let route: CompiledRoute;
      if (fromExact && (!fromOthers || fromExact.order < fromOthers.order)) {
        route = fromExact;
        e += 1;
        if (route.order <= after || !holds(route, request)) continue;
      } else if (fromOthers) {
        route = fromOthers;
        o += 1;
        if (route.order <= after || !onPath(route, request, path) || !holds(route, request)) continue;
      } else return undefined;
      const share = route.share();
      if (share >= 1 || random() < share) return route;
    }
  }
}

/** A CONNECT request has no path: only connect matchers look at it. */
function onPath(route: CompiledRoute, request: RequestView, path: string): boolean {
  if (route.match.kind === 'connect') return true;
  return request.path !== '' && route.pathTest(path);
}

function holds(route: CompiledRoute, request: RequestView): boolean {
  const { tests } = route;
  for (let i = 0; i < tests.length; i++) if (!tests[i]!(request)) return false;
  return true;
}
