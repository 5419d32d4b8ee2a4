// The HTTP filters of a connection manager at one moment, with what is worked out once for all requests. A request keeps the
// plan it began with: extension discovery may give the manager another one meanwhile.
import type { HttpFilter } from './filter.ts';
import { type PerFilter, switchedOff } from './per-filter.ts';

export class FilterPlan {
  readonly filters: readonly HttpFilter[];
  /** Places of filters that look at bodies, in the order in which they see them. */
  readonly requestHooks: readonly number[];
  readonly responseHooks: readonly number[];
  readonly #off: Uint8Array | undefined;
  readonly #offByRoute = new WeakMap<PerFilter, { readonly off: Uint8Array | undefined }>();

  constructor(filters: readonly HttpFilter[]) {
    this.filters = filters;
    const places = filters.map((_, i) => i);
    this.requestHooks = places.filter((i) => filters[i]!.onRequestData || filters[i]!.onRequestEnd);
    this.responseHooks = places.filter((i) => filters[i]!.onResponseData || filters[i]!.onResponseEnd).reverse();
    this.#off = switchedOff(filters, undefined);
  }

  /** Filters that do not run with these settings of a route; undefined = all run. */
  switchedOff(perFilter: PerFilter | undefined): Uint8Array | undefined {
    if (!perFilter || perFilter.size === 0) return this.#off;
    let known = this.#offByRoute.get(perFilter);
    if (!known) {
      known = { off: switchedOff(this.filters, perFilter) };
      this.#offByRoute.set(perFilter, known);
    }
    return known.off;
  }
}
