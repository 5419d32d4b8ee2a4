// `meltemi lab NAME`: a lab step by step, on the local cluster.

import { kubeconfigPath } from '../cluster/local.ts';
import { boolFlag, type Command, type Context, UserError } from '../command.ts';
import { labNames, loadLab } from '../lab/lab-file.ts';
import { runLab, type StepResult } from '../lab/runner.ts';
import { ensurePackages, findProgram, KUBECTL_PACKAGE, LAB_PACKAGES } from '../system-packages.ts';
import { bringUp } from './up.ts';

export const lab: Command = {
  name: 'lab',
  summary: 'Run a lab step by step; "lab list" names them',
  usage: 'NAME [--check] [--home DIR]',
  options: { home: { type: 'string' }, check: { type: 'boolean' } },
  help: ['--check     exit 1 when a step differs from what it should show', '--home DIR'],
  async run(context, flags) {
    const name = flags.positionals[0];
    if (name === undefined) throw new UserError('Name a lab. "meltemi lab list" shows them.', 64);
    if (name === 'list') {
      for (const each of labNames(context.repoRoot)) {
        const found = loadLab(context.repoRoot, each);
        context.terminal.out(`${each.padEnd(20)} ${found.title}\n`);
      }
      return 0;
    }
    const results = await runOnLocalCluster(context, name);
    const failed = results.some((r) => !r.ok);
    return failed && boolFlag(flags, 'check') ? 1 : 0;
  },
};

/** Brings the cluster up when it is not, then runs the lab against it. Also the body of `demo`. */
export async function runOnLocalCluster(context: Context, name: string): Promise<readonly StepResult[]> {
  const found = loadLab(context.repoRoot, name);
  if (found.needsCluster) await bringUp(context, { bare: false, profile: 'demo', sets: [], apiPort: undefined });
  if (found.needsCluster) ensurePackages(context, [...LAB_PACKAGES, KUBECTL_PACKAGE]);
  context.terminal.out(`\n${context.terminal.bold(found.title)}\n${found.summary}\n`);
  const kubectl = findProgram('kubectl', context.env.PATH);
  return runLab(context, found, {
    ...context.env,
    KUBECONFIG: kubeconfigPath(context.home),
    MELTEMI_HOME: context.home,
    MELTEMI: `${context.repoRoot}/meltemi`,
    ...(kubectl === undefined ? {} : { KUBECTL: kubectl }),
  });
}
