// Why a request went as it did: what each proxy logged, and the resources that speak of the hosts involved. Called by run-request.ts. Pure.
import { hostMatches, resolveHost } from '../../control-plane/offline/wiring.ts';
import { type Observed, parseLogLine } from './compare.ts';
import type { MeshTest, TestRequest, TestResource } from './format.ts';
import { DOMAIN, ROOT_NAMESPACE } from './objects.ts';

export interface Explanation {
  readonly hops: readonly ExplainedHop[];
  /** `VirtualService foo/reviews (routes.yaml:12)`. */
  readonly resources: readonly string[];
  /** What is probably wrong, where that can be said. */
  readonly note?: string;
}

export interface ExplainedHop {
  readonly proxy: string;
  readonly text: string;
}

const MAX_HOPS = 12;

export function explain(test: MeshTest, request: TestRequest, observed: Observed): Explanation {
  const hosts = new Set([request.host.toLowerCase()]);
  const named = request.headers.find(([n]) => n.toLowerCase() === 'host')?.[1];
  if (named !== undefined) hosts.add(named.replace(/:\d+$/, '').toLowerCase());
  const namespaces = new Set<string>([ROOT_NAMESPACE]);
  const hops = ofLastRequest(observed.logs)
    .slice(-MAX_HOPS)
    .map(({ proxy, text }): ExplainedHop => {
      namespaces.add(proxy.slice(0, proxy.indexOf('/')));
      const hop = parseLogLine(text);
      if (!hop) return { proxy, text };
      const cluster = hop.cluster.split('|');
      if (cluster[0] === 'outbound' && cluster[3]) hosts.add(cluster[3]);
      const parts = [
        hop.cluster === '-' ? 'no cluster' : `cluster ${hop.cluster}`,
        ...(hop.route === '-' ? [] : [`route ${hop.route}`]),
        ...(hop.upstream === '-' ? [] : [`to ${hop.upstream}`]),
        `answer ${hop.status}`,
        ...(hop.flags.length > 0 ? [`flags ${hop.flags.join(',')}`] : []),
        ...(hop.details === '-' ? [] : [hop.details]),
        ...(hop.failure === '-' || hop.failure === '' ? [] : [hop.failure]),
      ];
      return { proxy, text: parts.join(', ') };
    });
  const from = request.from.includes('/') ? request.from.slice(0, request.from.indexOf('/')) : '';
  if (from !== '') {
    namespaces.add(from);
    for (const host of [...hosts]) if (!host.includes('.')) hosts.add(resolveHost(host, from, DOMAIN));
  }
  for (const host of [...hosts]) {
    const service = test.services.find(
      (s) => host === `${s.name}.${s.namespace}` || host === `${s.name}.${s.namespace}.svc`,
    );
    if (service) hosts.add(`${service.name}.${service.namespace}.svc.${DOMAIN}`);
  }
  const resources = test.resources.filter((r) => concerns(r, hosts, namespaces, request.from === 'external'));
  // Proxies log when a request is over: the last on its way is the first to do so.
  hops.sort((a, b) => Number(isInbound(a)) - Number(isInbound(b)));
  return { hops, resources: resources.map(titleOf), ...noteOf(test, request, observed) };
}

const isInbound = ({ text }: ExplainedHop): boolean => text.startsWith('cluster inbound|');

function noteOf(test: MeshTest, request: TestRequest, observed: Observed): Pick<Explanation, 'note'> {
  const [name = '', namespace = request.from.split('/')[0]] = request.host.split('.');
  const service = test.services.find((s) => s.name === name && s.namespace === namespace);
  if (service && request.resolveTo === undefined && !service.ports.some((p) => p.port === request.port))
    return {
      note: `the Service ${namespace}/${name} has no port ${request.port}: it has ${service.ports.map((p) => p.port).join(', ')}`,
    };
  if (observed.logs.some(({ text }) => parseLogLine(text)?.flags.includes('NC')))
    return { note: 'the route leads to a host or subset that no Service, ServiceEntry or DestinationRule has' };
  return {};
}

/** Lines of an earlier request may arrive late; those of one request share its id. */
function ofLastRequest(logs: Observed['logs']): Observed['logs'] {
  const ids = logs.map(({ text }) => parseLogLine(text)?.requestId ?? '-');
  const last = ids.findLast((id) => id !== '-');
  return logs.filter((_, i) => ids[i] === '-' || ids[i] === last);
}

function titleOf(resource: TestResource): string {
  const { kind, metadata } = resource.object;
  return `${kind} ${metadata.namespace}/${metadata.name} (${resource.file}:${resource.line})`;
}

function concerns(
  resource: TestResource,
  hosts: ReadonlySet<string>,
  namespaces: ReadonlySet<string>,
  external: boolean,
): boolean {
  const { kind, metadata } = resource.object;
  const namespace = metadata.namespace ?? '';
  const spec = (resource.object as { spec?: { host?: unknown; hosts?: unknown } }).spec ?? {};
  const named = [spec.host, ...(Array.isArray(spec.hosts) ? spec.hosts : [])].filter((h) => typeof h === 'string');
  switch (kind) {
    case 'PeerAuthentication':
      return namespaces.has(namespace);
    case 'Gateway':
      return external;
    default:
      return named.some((h) => {
        const pattern = resolveHost(h, namespace, DOMAIN);
        return [...hosts].some((host) => hostMatches(pattern, host));
      });
  }
}
