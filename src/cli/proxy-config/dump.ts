// Envoy's /config_dump as the tables need it. Field names are the proto's snake_case, as Envoy's admin prints them.
// Tolerant reading: a dump can come from another release or make of proxy.

export type Json = { readonly [key: string]: unknown };

export interface ConfigDump {
  readonly clusters: readonly Json[];
  readonly listeners: readonly { readonly listener: Json; readonly error?: string }[];
  readonly routes: readonly Json[];
  readonly endpoints: readonly Json[];
  readonly secrets: readonly { readonly name: string; readonly state: 'ACTIVE' | 'WARMING'; readonly secret: Json }[];
  readonly bootstrap: Json | undefined;
}

export function readDump(text: string): ConfigDump {
  const configs = list((JSON.parse(text) as Json).configs);
  const section = (name: string): Json => configs.find((c) => String(c['@type']).endsWith(`.${name}ConfigDump`)) ?? {};
  const clusters = section('Clusters');
  const listeners = section('Listeners');
  const routes = section('Routes');
  const endpoints = section('Endpoints');
  const secrets = section('Secrets');
  const bootstrap = section('Bootstrap').bootstrap;
  return {
    clusters: [...list(clusters.static_clusters), ...list(clusters.dynamic_active_clusters)].map((c) =>
      object(c.cluster),
    ),
    listeners: [
      ...list(listeners.static_listeners).map((l) => ({ listener: object(l.listener) })),
      ...list(listeners.dynamic_listeners).flatMap((l) => {
        const active = object(l.active_state).listener;
        const error = object(l.error_state).details;
        return active ? [{ listener: object(active), ...(error ? { error: String(error) } : {}) }] : [];
      }),
    ],
    routes: [...list(routes.static_route_configs), ...list(routes.dynamic_route_configs)].map((r) =>
      object(r.route_config),
    ),
    endpoints: [...list(endpoints.static_endpoint_configs), ...list(endpoints.dynamic_endpoint_configs)].map((e) =>
      object(e.endpoint_config),
    ),
    secrets: [
      ...list(secrets.static_secrets).map((s) => secretEntry(s, 'ACTIVE')),
      ...list(secrets.dynamic_active_secrets).map((s) => secretEntry(s, 'ACTIVE')),
      ...list(secrets.dynamic_warming_secrets).map((s) => secretEntry(s, 'WARMING')),
    ],
    bootstrap: bootstrap === undefined ? undefined : object(bootstrap),
  };
}

function secretEntry(entry: Json, state: 'ACTIVE' | 'WARMING') {
  return { name: String(entry.name), state, secret: object(entry.secret) } as const;
}

export function list(value: unknown): readonly Json[] {
  return Array.isArray(value) ? (value as readonly Json[]) : [];
}
export function object(value: unknown): Json {
  return typeof value === 'object' && value !== null ? (value as Json) : {};
}
export function text(value: unknown): string {
  return value === undefined || value === null ? '' : String(value);
}
/** `a.b.c` inside nested objects. */
export function dig(value: unknown, path: string): unknown {
  return path.split('.').reduce<unknown>((v, key) => object(v)[key], value);
}
