// `meltemi down`: stops the local cluster and takes every namespace, rule, mount and process away, also after a crash.
import { rmSync } from 'node:fs';
import { removeAllContainers } from '../../localkube/kubelet/remove-all.ts';
import { removeNetwork } from '../../localkube/network/node-network.ts';
import { instanceOf, readState, stopProcess } from '../cluster/local.ts';
import { boolFlag, type Command } from '../command.ts';
import { requireRoot } from '../system-packages.ts';

export const down: Command = {
  name: 'down',
  summary: 'Stop the local cluster; with --purge forget its state',
  usage: '[--purge] [--home DIR]',
  options: { home: { type: 'string' }, purge: { type: 'boolean' } },
  maxPositionals: 0,
  help: ['--purge     also delete the state, kubeconfig and logs', '--home DIR'],
  async run(context, flags) {
    requireRoot(context, 'Stopping the local cluster');
    const state = readState(context.home);
    const done = context.terminal.progress('Stopping');
    const clean = state ? await stopProcess(context, state) : true;
    // A process that crashed leaves its pods: the same sweep serves both.
    await removeAllContainers(context.home);
    await removeNetwork(instanceOf(context.home));
    if (boolFlag(flags, 'purge')) rmSync(context.home, { recursive: true, force: true });
    done({
      ok: true,
      note: state ? (clean ? '' : '(the process did not end by itself and was killed)') : '(nothing was running)',
    });
    return 0;
  },
};
