// A request path as Kubernetes understands it: verb, resource, namespace, name, subresource. Pure. Called by dispatch and the HTTP layer.

export type RequestInfo =
  | {
      readonly kind: 'resource';
      readonly verb: string;
      readonly group: string;
      readonly version: string;
      readonly namespace: string;
      readonly resource: string;
      readonly name: string;
      readonly subresource: string;
      /** Anything behind the subresource (proxy paths). */
      readonly rest: string;
    }
  | { readonly kind: 'path'; readonly verb: string; readonly path: string };

const VERBS: Readonly<Record<string, string>> = {
  GET: 'get',
  HEAD: 'get',
  POST: 'create',
  PUT: 'update',
  PATCH: 'patch',
  DELETE: 'delete',
};
const NAMESPACE_SUBRESOURCES: ReadonlySet<string> = new Set(['status', 'finalize']);

export function parseRequest(method: string, url: URL): RequestInfo {
  const verb = VERBS[method] ?? method.toLowerCase();
  const parts = url.pathname
    .split('/')
    .filter((part) => part !== '')
    .map(decodePart);
  const rest = parts[0] === 'api' ? parts.slice(2) : parts[0] === 'apis' ? parts.slice(3) : [];
  if (rest.length === 0) return { kind: 'path', verb, path: url.pathname };
  const group = parts[0] === 'api' ? '' : (parts[1] ?? '');
  const version = (parts[0] === 'api' ? parts[1] : parts[2]) ?? '';
  let oldWatch = false;
  if (rest[0] === 'watch') {
    oldWatch = true;
    rest.shift();
  }
  let namespace = '';
  // `namespaces/x` is an object, `namespaces/x/pods` a collection in it.
  if (
    rest[0] === 'namespaces' &&
    rest.length > 2 &&
    !(rest.length === 3 && NAMESPACE_SUBRESOURCES.has(rest[2] ?? ''))
  ) {
    namespace = rest[1] ?? '';
    rest.splice(0, 2);
  }
  const [resource = '', name = '', subresource = ''] = rest;
  const info = {
    kind: 'resource',
    group,
    version,
    namespace,
    resource,
    name,
    subresource,
    rest: rest.slice(3).join('/'),
  } as const;
  return { ...info, verb: resourceVerb(verb, name, url.searchParams, oldWatch) };
}

function resourceVerb(verb: string, name: string, query: URLSearchParams, oldWatch: boolean): string {
  if (verb === 'get' && (oldWatch || isTrue(query.get('watch')))) return 'watch';
  if (name !== '') return verb;
  if (verb === 'get') return 'list';
  return verb === 'delete' ? 'deletecollection' : verb;
}

export function isTrue(value: string | null): boolean {
  return value === 'true' || value === '1' || value === '';
}

function decodePart(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}
