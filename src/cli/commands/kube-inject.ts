// `meltemi kube-inject -f FILE`: prints the YAML with the sidecar in every pod template. Works without a cluster.
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { text as readAll } from 'node:stream/consumers';
import { type Command, listFlag, stringFlag, UserError } from '../command.ts';
import { createOfflineInjector } from '../install/offline-injector.ts';
import { resolveInstall } from '../install/profiles.ts';

export const kubeInject: Command = {
  name: 'kube-inject',
  summary: 'Print YAML with the sidecar added to every pod template',
  usage: '-f FILE [--set PATH=VALUE] [-n NAMESPACE]',
  options: {
    filename: { type: 'string', short: 'f' },
    set: { type: 'string', multiple: true },
    profile: { type: 'string' },
    namespace: { type: 'string', short: 'n' },
  },
  help: [
    '-f, --filename FILE   "-" reads standard input',
    '--profile P, --set    as in install: the values the sidecar is made from; default: profile "default"',
    '-n, --namespace NS    of objects that name none; default: "default"',
  ],
  async run(context, flags) {
    const file = stringFlag(flags, 'filename');
    if (file === undefined) throw new UserError('Name the YAML: -f FILE, or -f - for standard input.', 64);
    const yaml = file === '-' ? await readAll(context.stdin) : read(path.resolve(context.cwd, file), file);
    const resolved = resolveInstall({ profile: stringFlag(flags, 'profile'), files: [], sets: listFlag(flags, 'set') });
    if (resolved.kind === 'invalid') throw new UserError(resolved.diagnostics.map((d) => d.message).join('\n'));
    try {
      const injector = createOfflineInjector(resolved.spec);
      context.terminal.out(injector.injectYaml(yaml, stringFlag(flags, 'namespace') ?? 'default'));
      return 0;
    } catch (error) {
      throw new UserError(`${file}: ${error instanceof Error ? error.message : error}`);
    }
  },
};

function read(absolute: string, given: string): string {
  try {
    return readFileSync(absolute, 'utf8');
  } catch (error) {
    throw new UserError(`-f ${given}: ${error instanceof Error ? error.message : error}`);
  }
}
