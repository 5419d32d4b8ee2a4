// Questions to the mesh itself: which proxies are connected, what one proxy holds. Asked by exec, so that they work on
// every cluster and need no port of their own. Called by version, proxy-status and proxy-config.
import type { Deployment } from '../../api/kubernetes/deployment.ts';
import { DEPLOYMENTS } from '../../api/kubernetes/deployment.ts';
import type { Pod } from '../../api/kubernetes/pod.ts';
import { PODS } from '../../api/kubernetes/pod.ts';
import { formatLabelSelector } from '../../base/kube/selectors.ts';
import { UserError } from '../command.ts';
import { ROOT_NAMESPACE } from '../install/manifest.ts';
import type { Cluster } from './connect.ts';

/** One element of istiod's /debug/syncz, and the istiod that gave it. */
export interface ProxySync {
  readonly proxy: string;
  readonly cluster: string;
  readonly istiod: string;
  readonly version: string;
  readonly raw: Readonly<Record<string, unknown>>;
}

export async function meshProxies(cluster: Cluster): Promise<readonly ProxySync[]> {
  const pods = await cluster.client.list<Pod>(PODS, { namespace: ROOT_NAMESPACE, labelSelector: 'app=istiod' });
  const running = pods.items.filter((pod) => pod.status?.phase === 'Running');
  if (running.length === 0)
    throw new UserError(`No running istiod in namespace ${ROOT_NAMESPACE}. "meltemi install" installs one.`);
  const all = await Promise.all(
    running.map(async (pod) => {
      const target = { namespace: ROOT_NAMESPACE, pod: pod.metadata.name, container: 'discovery' };
      const answer = await cluster.exec(target, ['pilot-discovery', 'request', 'GET', '/debug/syncz']);
      if (answer.exitCode !== 0)
        throw new UserError(
          `${pod.metadata.name} did not answer /debug/syncz: ${answer.stderr.trim() || answer.stdout.trim()}`,
        );
      return (JSON.parse(answer.stdout) as readonly Readonly<Record<string, unknown>>[]).map((raw) => ({
        proxy: String(raw.proxy),
        cluster: String(raw.cluster_id ?? 'Kubernetes'),
        istiod: pod.metadata.name,
        version: String(raw.istio_version ?? raw.proxy_version ?? ''),
        raw,
      }));
    }),
  );
  return all.flat().sort((a, b) => (a.proxy < b.proxy ? -1 : 1));
}

/** `POD`, `POD.NS` or `deploy/NAME[.NS]` (also `deployment/`, `pod/`). Throws {@link UserError} when there is none. */
export async function findPod(cluster: Cluster, given: string): Promise<Pod> {
  const slash = given.indexOf('/');
  const kind = slash < 0 ? 'pod' : given.slice(0, slash);
  const rest = given.slice(slash + 1);
  const dot = rest.lastIndexOf('.');
  const name = dot < 0 ? rest : rest.slice(0, dot);
  const namespace = dot < 0 ? cluster.namespace : rest.slice(dot + 1);
  if (['pod', 'pods', 'po'].includes(kind)) return cluster.client.get<Pod>(PODS, namespace, name);
  if (!['deploy', 'deployment', 'deployments'].includes(kind))
    throw new UserError(`${given}: expected POD, POD.NAMESPACE or deploy/NAME[.NAMESPACE].`, 64);
  const deployment = await cluster.client.get<Deployment>(DEPLOYMENTS, namespace, name);
  const pods = await cluster.client.list<Pod>(PODS, {
    namespace,
    labelSelector: formatLabelSelector(deployment.spec.selector),
  });
  const pod = pods.items.find((p) => p.status?.phase === 'Running') ?? pods.items[0];
  if (!pod) throw new UserError(`deployment ${namespace}/${name} has no pods.`);
  return pod;
}

/** A GET on the proxy's admin interface, through the agent in the same container. */
export async function adminGet(cluster: Cluster, pod: Pod, path: string): Promise<string> {
  const namespace = pod.metadata.namespace ?? 'default';
  const containers = [...pod.spec.containers, ...(pod.spec.initContainers ?? [])];
  if (!containers.some((c) => c.name === 'istio-proxy'))
    throw new UserError(
      `pod ${namespace}/${pod.metadata.name} has no istio-proxy container: it is not part of the mesh.`,
    );
  const answer = await cluster.exec({ namespace, pod: pod.metadata.name, container: 'istio-proxy' }, [
    'pilot-agent',
    'request',
    'GET',
    path,
  ]);
  if (answer.exitCode !== 0)
    throw new UserError(
      `the proxy of ${namespace}/${pod.metadata.name} did not answer ${path}: ${answer.stderr.trim()}`,
    );
  return answer.stdout;
}
