// Settings of filters that stand on a route table, virtual host, route or weighted cluster: by filter name, the most
// specific level wins. Built by registry.ts, carried by routes, read by streams.

export interface PerFilterEntry {
  /** The filter does not run here. */
  readonly disabled: boolean;
  /** What the filter made of its message; undefined when only `disabled` was said. */
  readonly settings: unknown;
  /** What the next less specific level says, for filters that put levels together. */
  readonly outer?: PerFilterEntry;
}

export type PerFilter = ReadonlyMap<string, PerFilterEntry>;

/** Per filter of a chain: 1 = it does not run with these settings. Undefined when all run. */
export function switchedOff(
  filters: readonly { readonly name: string; readonly disabled?: boolean }[],
  perFilter: PerFilter | undefined,
): Uint8Array | undefined {
  let out: Uint8Array | undefined;
  for (const [i, filter] of filters.entries()) {
    // Settings of a route switch a disabled filter on.
    if (!(perFilter?.get(filter.name)?.disabled ?? filter.disabled ?? false)) continue;
    out ??= new Uint8Array(filters.length);
    out[i] = 1;
  }
  return out;
}
