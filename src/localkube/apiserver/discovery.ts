// What is served, as clients ask for it: /api, /apis, resource lists, and the aggregated form. Called by http/handler.ts.
import type { Dict } from './json.ts';
import { ALL_VERBS, groupVersion, type Registry, type ResourceDef } from './resources.ts';

const SUB_VERBS: Readonly<Record<string, readonly string[]>> = {
  status: ['get', 'patch', 'update'],
  scale: ['get', 'patch', 'update'],
  finalize: ['update'],
  attach: ['create', 'get'],
  exec: ['create', 'get'],
  portforward: ['create', 'get'],
  binding: ['create'],
  eviction: ['create'],
  ephemeralcontainers: ['get', 'patch', 'update'],
  log: ['get'],
  token: ['create'],
};

/** A subresource whose object is not the parent's kind. */
const SUB_KINDS: Readonly<Record<string, { readonly group: string; readonly version: string; readonly kind: string }>> =
  {
    scale: { group: 'autoscaling', version: 'v1', kind: 'Scale' },
    attach: { group: '', version: 'v1', kind: 'PodAttachOptions' },
    exec: { group: '', version: 'v1', kind: 'PodExecOptions' },
    portforward: { group: '', version: 'v1', kind: 'PodPortForwardOptions' },
    binding: { group: '', version: 'v1', kind: 'Binding' },
    eviction: { group: 'policy', version: 'v1', kind: 'Eviction' },
    token: { group: 'authentication.k8s.io', version: 'v1', kind: 'TokenRequest' },
  };

export function verbsOf(def: ResourceDef): readonly string[] {
  return def.ephemeral ? ['create'] : ALL_VERBS;
}

/** GET /api/v1, /apis/apps/v1; undefined when nothing of it is served. */
export function resourceList(registry: Registry, group: string, version: string): Dict | undefined {
  const defs = registry.all().filter((def) => def.group === group && def.version === version);
  if (defs.length === 0) return undefined;
  return {
    kind: 'APIResourceList',
    ...(group ? { apiVersion: 'v1' } : {}),
    groupVersion: groupVersion({ group, version }),
    resources: defs.flatMap((def) => [
      {
        name: def.resource,
        singularName: def.singular,
        namespaced: def.namespaced,
        kind: def.kind,
        verbs: verbsOf(def),
        ...(def.shortNames.length ? { shortNames: def.shortNames } : {}),
        ...(def.categories.length ? { categories: def.categories } : {}),
      },
      ...def.subresources.map((sub) => {
        const kind = SUB_KINDS[sub];
        return {
          name: `${def.resource}/${sub}`,
          singularName: '',
          namespaced: def.namespaced,
          ...(kind ? { group: kind.group, version: kind.version } : {}),
          kind: kind?.kind ?? def.kind,
          verbs: SUB_VERBS[sub] ?? ['get'],
        };
      }),
    ]),
  };
}

interface Group {
  readonly name: string;
  readonly versions: readonly string[];
}

/** Groups in the order of preference kubectl relies on for short names. */
function groupsOf(registry: Registry): readonly Group[] {
  const versions = new Map<string, string[]>();
  for (const def of registry.all()) {
    if (def.group === '') continue;
    const list = versions.get(def.group) ?? [];
    if (!list.includes(def.version)) list.push(def.version);
    versions.set(def.group, list);
  }
  return [...versions].map(([name, list]) => ({ name, versions: list }));
}

function apiGroup(group: Group): Dict {
  const all = group.versions.map((version) => ({ groupVersion: `${group.name}/${version}`, version }));
  return { name: group.name, versions: all, preferredVersion: all[0] };
}

export function legacyRoot(registry: Registry, path: string): Dict | undefined {
  if (path === '/api')
    return {
      kind: 'APIVersions',
      versions: ['v1'],
      serverAddressByClientCIDRs: [{ clientCIDR: '0.0.0.0/0', serverAddress: '' }],
    };
  if (path === '/apis') return { kind: 'APIGroupList', apiVersion: 'v1', groups: groupsOf(registry).map(apiGroup) };
  const parts = path.split('/').filter((part) => part !== '');
  if (parts[0] === 'api' && parts.length === 2) return resourceList(registry, '', parts[1] ?? '');
  if (parts[0] !== 'apis') return undefined;
  if (parts.length === 2) {
    const group = groupsOf(registry).find((item) => item.name === parts[1]);
    return group && { kind: 'APIGroup', apiVersion: 'v1', ...apiGroup(group) };
  }
  return parts.length === 3 ? resourceList(registry, parts[1] ?? '', parts[2] ?? '') : undefined;
}

/** APIGroupDiscoveryList for /api or /apis. */
export function aggregated(registry: Registry, path: '/api' | '/apis', version: 'v2' | 'v2beta1'): Dict {
  const groups = path === '/api' ? [{ name: '', versions: ['v1'] }] : groupsOf(registry);
  return {
    kind: 'APIGroupDiscoveryList',
    apiVersion: `apidiscovery.k8s.io/${version}`,
    metadata: {},
    items: groups.map((group) => ({
      metadata: { ...(group.name ? { name: group.name } : {}), creationTimestamp: null },
      versions: group.versions.map((item) => ({
        version: item,
        resources: registry
          .all()
          .filter((def) => def.group === group.name && def.version === item)
          .map(aggregatedResource),
        freshness: 'Current',
      })),
    })),
  };
}

function aggregatedResource(def: ResourceDef): Dict {
  return {
    resource: def.resource,
    responseKind: { group: def.group, version: def.version, kind: def.kind },
    scope: def.namespaced ? 'Namespaced' : 'Cluster',
    singularResource: def.singular,
    verbs: verbsOf(def),
    ...(def.shortNames.length ? { shortNames: def.shortNames } : {}),
    ...(def.categories.length ? { categories: def.categories } : {}),
    ...(def.subresources.length
      ? {
          subresources: def.subresources.map((sub) => ({
            subresource: sub,
            responseKind: SUB_KINDS[sub] ?? { group: def.group, version: def.version, kind: def.kind },
            verbs: SUB_VERBS[sub] ?? ['get'],
          })),
        }
      : {}),
  };
}
