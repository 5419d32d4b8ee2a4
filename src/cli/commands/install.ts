// `meltemi install` and `uninstall`: the mesh into any cluster, with istioctl's flags and lines.
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { createInterface } from 'node:readline/promises';
import { MELTEMI_VERSION } from '../../base/version.ts';
import { connect } from '../cluster/connect.ts';
import {
  boolFlag,
  CLUSTER_HELP,
  CLUSTER_OPTIONS,
  type Command,
  type Context,
  type Flags,
  listFlag,
  stringFlag,
  UserError,
} from '../command.ts';
import { applyPlan, removeInstallation } from '../install/apply.ts';
import { installPlan } from '../install/plan.ts';
import { type InstallSpec, resolveInstall } from '../install/profiles.ts';

export const install: Command = {
  name: 'install',
  summary: 'Install the mesh into a cluster',
  usage: '[-f FILE] [--set PATH=VALUE] [-y]',
  options: {
    ...CLUSTER_OPTIONS,
    filename: { type: 'string', short: 'f', multiple: true },
    set: { type: 'string', short: 's', multiple: true },
    profile: { type: 'string' },
    yes: { type: 'boolean', short: 'y' },
    'skip-confirmation': { type: 'boolean' },
  },
  maxPositionals: 0,
  help: [
    '-f, --filename FILE   an IstioOperator file; may be given again',
    '--set PATH=VALUE      e.g. profile=demo, values.global.proxy.privileged=true; may be given again',
    '-y                    do not ask',
    ...CLUSTER_HELP,
  ],
  async run(context, flags) {
    const spec = specFrom(context, flags);
    const cluster = connect(context, flags);
    const question = `This will install the Istio ${MELTEMI_VERSION} profile "${spec.profile}" into the cluster. Proceed? (y/N) `;
    if (!(await confirmed(context, flags, question))) return 1;
    await applyPlan(cluster.client, context.clock, installPlan(spec, context.repoRoot), (text) =>
      context.terminal.out(`${context.terminal.green('✔')} ${text}\n`),
    );
    context.terminal.out(`${context.terminal.green('✔')} Installation complete\n`);
    cluster.client.close();
    return 0;
  },
};

/** Reads the flags of install; every mistake is named before anything is sent. */
export function specFrom(context: Context, flags: Flags): InstallSpec {
  const files = listFlag(flags, 'filename').map((name) => {
    try {
      return { name, text: readFileSync(path.resolve(context.cwd, name), 'utf8') };
    } catch (error) {
      throw new UserError(`-f ${name}: ${error instanceof Error ? error.message : error}`);
    }
  });
  const resolved = resolveInstall({ profile: stringFlag(flags, 'profile'), files, sets: listFlag(flags, 'set') });
  if (resolved.kind === 'invalid') throw new UserError(resolved.diagnostics.map((d) => d.message).join('\n'));
  return resolved.spec;
}

export const uninstall: Command = {
  name: 'uninstall',
  summary: 'Remove the mesh from a cluster',
  usage: '[--purge] [-y]',
  options: {
    ...CLUSTER_OPTIONS,
    purge: { type: 'boolean' },
    yes: { type: 'boolean', short: 'y' },
    'skip-confirmation': { type: 'boolean' },
  },
  maxPositionals: 0,
  help: [
    '--purge               also the CRDs (with every Istio resource) and the namespace istio-system',
    '-y  do not ask',
    ...CLUSTER_HELP,
  ],
  async run(context, flags) {
    const cluster = connect(context, flags);
    const purge = boolFlag(flags, 'purge');
    const what = purge ? 'Istio with all its resources, CRDs and namespace' : 'the Istio control plane and gateways';
    if (!(await confirmed(context, flags, `This will remove ${what} from the cluster. Proceed? (y/N) `))) return 1;
    const count = await removeInstallation(cluster.client, { purge });
    cluster.client.close();
    context.terminal.out(
      count === 0 ? 'Nothing of Meltemi was installed.\n' : `${context.terminal.green('✔')} Uninstall complete\n`,
    );
    return 0;
  },
};

async function confirmed(context: Context, flags: Flags, question: string): Promise<boolean> {
  if (boolFlag(flags, 'yes') || boolFlag(flags, 'skip-confirmation')) return true;
  if (context.stdin.isTTY !== true)
    throw new UserError('Nobody to ask: standard input is no terminal. Add -y to go on without asking.');
  const lines = createInterface({ input: context.stdin, output: process.stderr });
  const answer = await lines.question(question);
  lines.close();
  if (/^y(es)?$/i.test(answer.trim())) return true;
  context.terminal.err('Cancelled.\n');
  return false;
}
