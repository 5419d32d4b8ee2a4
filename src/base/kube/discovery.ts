// Which kinds a server has, and under which path: from its discovery documents. Called by the CLI and by apply.
import { parseApiVersion } from './paths.ts';
import { KubeError, type ResourceType } from './types.ts';

interface ResourceList {
  readonly resources?: readonly {
    readonly name: string;
    readonly kind: string;
    readonly namespaced: boolean;
    readonly singularName?: string;
    readonly shortNames?: readonly string[];
  }[];
}

/** `/apis/apps/v1` → its document. {@link HttpKubeClient.getPath} is one. */
export type GetPath = <T>(path: string) => Promise<T>;

export interface TypeResolver {
  /** The type of `apps/v1`, `Deployment`; undefined when the server has none. */
  typeOf(apiVersion: string, kind: string): Promise<ResourceType | undefined>;
}

/** Documents are kept; a kind that is not in them makes its document be read anew, for CRDs that came later. */
export function createTypeResolver(getPath: GetPath): TypeResolver {
  const cache = new Map<string, readonly ResourceType[]>();
  const read = async (apiVersion: string): Promise<readonly ResourceType[]> => {
    const types = await readGroupVersion(getPath, apiVersion);
    cache.set(apiVersion, types);
    return types;
  };
  return {
    async typeOf(apiVersion, kind) {
      const find = (types: readonly ResourceType[] | undefined): ResourceType | undefined =>
        types?.find((type) => type.kind === kind);
      return find(cache.get(apiVersion)) ?? find(await read(apiVersion));
    },
  };
}

async function readGroupVersion(getPath: GetPath, apiVersion: string): Promise<readonly ResourceType[]> {
  const { group, version } = parseApiVersion(apiVersion);
  try {
    const list = await getPath<ResourceList>(group === '' ? `/api/${version}` : `/apis/${group}/${version}`);
    return (list.resources ?? [])
      .filter((r) => !r.name.includes('/'))
      .map((r) => ({ group, version, resource: r.name, kind: r.kind, namespaced: r.namespaced }));
  } catch (error) {
    if (error instanceof KubeError && error.code === 404) return [];
    throw error;
  }
}
