// `meltemi version`: client, control plane and data plane, in istioctl's form.
import type { Pod } from '../../api/kubernetes/pod.ts';
import { PODS } from '../../api/kubernetes/pod.ts';
import { ISTIO_API_VERSION, MELTEMI_VERSION } from '../../base/version.ts';
import { connect } from '../cluster/connect.ts';
import { meshProxies } from '../cluster/mesh.ts';
import { boolFlag, CLUSTER_HELP, CLUSTER_OPTIONS, type Command, stringFlag } from '../command.ts';

export const version: Command = {
  name: 'version',
  summary: 'Print the versions of client, control plane and data plane',
  usage: '[flags]',
  options: {
    ...CLUSTER_OPTIONS,
    remote: { type: 'boolean' },
    'no-remote': { type: 'boolean' },
    output: { type: 'string', short: 'o' },
  },
  help: ['--remote=false     only this client', '-o json', ...CLUSTER_HELP],
  async run(context, flags) {
    const json = stringFlag(flags, 'output') === 'json';
    const client = { version: MELTEMI_VERSION, istioApi: ISTIO_API_VERSION };
    if (boolFlag(flags, 'no-remote')) {
      context.terminal.out(
        json
          ? `${JSON.stringify({ client })}\n`
          : `client version: ${MELTEMI_VERSION}\nIstio API ${ISTIO_API_VERSION}\n`,
      );
      return 0;
    }
    // Known without a cluster, so also told without one.
    if (!json) context.terminal.out(`client version: ${MELTEMI_VERSION}\n`);
    const cluster = connect(context, flags);
    const pods = await cluster.client.list<Pod>(PODS, { labelSelector: 'app=istiod' });
    const tags = [...new Set(pods.items.map((pod) => imageTag(pod, 'discovery')))];
    const proxies = tags.length === 0 ? [] : await meshProxies(cluster);
    if (json) {
      context.terminal.out(
        `${JSON.stringify({ client, controlPlane: tags, dataPlane: proxies.map((p) => p.version) })}\n`,
      );
      return 0;
    }
    if (tags.length === 0) {
      context.terminal.out('Istio is not present in the cluster\n');
      return 0;
    }
    context.terminal.out(`control plane version: ${tags.join(', ')}\n`);
    const counts = Map.groupBy(proxies, (p) => p.version);
    const planes = [...counts].map(([v, list]) => `${v} (${list.length} proxies)`);
    context.terminal.out(`data plane version: ${planes.length > 0 ? planes.join(', ') : 'none'}\n`);
    context.terminal.out(`Istio API ${ISTIO_API_VERSION}\n`);
    return 0;
  },
};

function imageTag(pod: Pod, container: string): string {
  const image = pod.spec.containers.find((c) => c.name === container)?.image ?? '';
  return image.slice(image.lastIndexOf(':') + 1);
}
