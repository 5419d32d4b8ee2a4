// `meltemi profile list` and `profile dump`: as istioctl 1.23 prints them.
import { stringify } from 'yaml';
import { type Command, stringFlag, UserError } from '../command.ts';
import { PROFILE_NAMES, profileTree } from '../install/profiles.ts';

export const profileList: Command = {
  name: 'profile list',
  summary: 'List the installation profiles',
  usage: '',
  options: {},
  help: [],
  async run(context) {
    context.terminal.out(`Istio configuration profiles:\n${PROFILE_NAMES.map((name) => `    ${name}\n`).join('')}`);
    return 0;
  },
};

export const profileDump: Command = {
  name: 'profile dump',
  summary: 'Print a profile as an IstioOperator file for "install -f"',
  usage: '[PROFILE]',
  options: { output: { type: 'string', short: 'o' } },
  help: ['-o yaml|json     default: yaml'],
  async run(context, flags) {
    const found = profileTree(flags.positionals[0] ?? 'default');
    if (found.kind === 'refused') throw new UserError(found.message);
    const operator = { apiVersion: 'install.istio.io/v1alpha1', kind: 'IstioOperator', spec: found.tree };
    const format = stringFlag(flags, 'output') ?? 'yaml';
    if (format !== 'yaml' && format !== 'json') throw new UserError(`-o ${format}: the formats are yaml and json.`, 64);
    context.terminal.out(format === 'json' ? `${JSON.stringify(operator, null, 2)}\n` : stringify(operator));
    return 0;
  },
};
