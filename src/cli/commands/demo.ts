// `meltemi demo`: the main job, told as a story: the cluster, the mesh, plaintext let through and refused, the certificate.

import { kubeconfigPath } from '../cluster/local.ts';
import type { Command } from '../command.ts';
import { runOnLocalCluster } from './lab.ts';

const LAB = 'istio-in-action';

export const demo: Command = {
  name: 'demo',
  summary:
    'See the mesh at work: a cluster, two services, plaintext refused and let through, a certificate on the wire',
  usage: '[--home DIR]',
  options: { home: { type: 'string' } },
  maxPositionals: 0,
  help: ['--home DIR   state, kubeconfig and logs; default: $MELTEMI_HOME or ~/.meltemi'],
  async run(context) {
    const { terminal } = context;
    terminal.out(
      `${terminal.bold('Meltemi')}: a service mesh on this machine. First a small Kubernetes with the mesh in it, then a lab.\n`,
    );
    const results = await runOnLocalCluster(context, LAB);
    const failed = results.find((r) => !r.ok);
    if (failed) {
      terminal.out(`\n${terminal.red('✘')} The step "${failed.step.title}" did not show what it should.\n`);
      terminal.out('See what runs: meltemi status\n');
      return 1;
    }
    terminal.out(
      `\n${terminal.green('✔')} ${terminal.bold('That was the demo; everything still runs. Go on with it:')}\n`,
    );
    for (const [command, what] of [
      [`export KUBECONFIG=${kubeconfigPath(context.home)}`, ''],
      ['kubectl get pods -A', 'your own kubectl works'],
      ['./meltemi proxy-status', 'what each proxy has'],
      ['./meltemi pc secret deploy/webapp.istioinaction', 'its certificate'],
      ['./meltemi lab list', 'more labs'],
      ['./meltemi down', 'take everything away again'],
    ] as const)
      terminal.out(`  ${terminal.cyan(command)}${what ? `   ${terminal.dim(`# ${what}`)}` : ''}\n`);
    return 0;
  },
};
