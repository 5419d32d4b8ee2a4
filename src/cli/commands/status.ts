// `meltemi status`: what runs, and where.
import { readFileSync } from 'node:fs';
import { PODS, type Pod } from '../../api/kubernetes/pod.ts';
import { loadKubeconfig } from '../../base/kube/connection.ts';
import { createHttpKubeClient } from '../../base/kube/http-client.ts';
import { kubeconfigPath, logPath, readState } from '../cluster/local.ts';
import { type Command, stringFlag, UserError } from '../command.ts';
import { renderTable } from '../output/table.ts';

export const status: Command = {
  name: 'status',
  summary: 'Show whether the local cluster runs, and what runs in it',
  usage: '[--home DIR] [-o json]',
  options: { home: { type: 'string' }, output: { type: 'string', short: 'o' } },
  maxPositionals: 0,
  help: ['-o json', '--home DIR'],
  async run(context, flags) {
    const output = stringFlag(flags, 'output');
    if (output !== undefined && output !== 'json') throw new UserError(`-o ${output}: expected json.`, 64);
    const json = output === 'json';
    const state = readState(context.home);
    if (!state) {
      context.terminal.out(
        json
          ? `${JSON.stringify({ running: false, home: context.home })}\n`
          : `No cluster runs for ${context.home}. "meltemi up" starts one.\n`,
      );
      return 1;
    }
    const client = createHttpKubeClient(
      loadKubeconfig(kubeconfigPath(context.home), { clock: context.clock, readFile: (f) => readFileSync(f, 'utf8') }),
    );
    const pods = (await client.list<Pod>(PODS)).items;
    client.close();
    const facts = {
      running: true,
      home: context.home,
      pid: state.pid,
      startedAt: state.startedAt,
      api: `https://127.0.0.1:${state.apiPort}`,
      kubeconfig: kubeconfigPath(context.home),
      log: logPath(context.home),
      pods: pods.map((pod) => ({
        namespace: pod.metadata.namespace,
        name: pod.metadata.name,
        ready: readiness(pod),
        phase: pod.status?.phase,
      })),
    };
    if (json) {
      context.terminal.out(`${JSON.stringify(facts, null, 2)}\n`);
      return 0;
    }
    context.terminal.out(
      `Cluster     ${context.terminal.green('running')} since ${state.startedAt} (pid ${state.pid})\nAPI server  ${facts.api}\nKubeconfig  ${facts.kubeconfig}\nLog         ${facts.log}\n\n`,
    );
    context.terminal.out(
      renderTable(
        ['NAMESPACE', 'POD', 'READY', 'STATUS'],
        facts.pods.map((p) => [p.namespace ?? '', p.name, p.ready, p.phase ?? '']),
      ),
    );
    return 0;
  },
};

function readiness(pod: Pod): string {
  const statuses = pod.status?.containerStatuses ?? [];
  return `${statuses.filter((c) => c.ready).length}/${pod.spec.containers.length}`;
}
