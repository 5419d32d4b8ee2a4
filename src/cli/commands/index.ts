// The list of commands, in the order --help shows them.
import type { Command } from '../command.ts';
import { analyze } from './analyze.ts';
import { demo } from './demo.ts';
import { down } from './down.ts';
import { engineAdd, engineList } from './engine.ts';
import { install, uninstall } from './install.ts';
import { kubeInject } from './kube-inject.ts';
import { lab } from './lab.ts';
import { profileDump, profileList } from './profile.ts';
import { proxy } from './proxy.ts';
import { proxyConfig } from './proxy-config.ts';
import { proxyStatus } from './proxy-status.ts';
import { status } from './status.ts';
import { test } from './test.ts';
import { up } from './up.ts';
import { version } from './version.ts';

export const COMMANDS: readonly Command[] = [
  demo,
  up,
  down,
  status,
  engineAdd,
  engineList,
  lab,
  install,
  uninstall,
  profileList,
  profileDump,
  version,
  proxyStatus,
  proxyConfig,
  kubeInject,
  proxy,
  analyze,
  test,
];

/** Commands of two words (`profile list`) come before those of one. */
export function findCommand(
  argv: readonly string[],
): { readonly command: Command; readonly rest: readonly string[] } | undefined {
  const [first = '', second = ''] = argv;
  const two = COMMANDS.find((c) => c.name === `${first} ${second}`);
  if (two) return { command: two, rest: argv.slice(2) };
  const one = COMMANDS.find((c) => c.name === first || c.aliases?.includes(first));
  return one ? { command: one, rest: argv.slice(1) } : undefined;
}
