// `meltemi test`: MeshTest files, run offline against the production control plane and real proxies. Exit 0 all pass, 1 some
// failed, 2 a file is wrong.
import type { Command } from '../command.ts';

export const test: Command = {
  name: 'test',
  summary: 'Run MeshTest files: real requests through real proxies, without a cluster',
  usage: 'FILE… [flags]',
  options: {
    home: { type: 'string' },
    engine: { type: 'string' },
    'envoy-path': { type: 'string' },
    filter: { type: 'string' },
    output: { type: 'string', short: 'o' },
    watch: { type: 'boolean' },
  },
  help: [
    'FILE                   MeshTest files, folders of them, or patterns',
    '--engine E             meltemi (default), envoy, or both: both are also compared with each other',
    '--envoy-path FILE      a stock Envoy; default: the one of "meltemi engine add envoy"',
    '--filter RE            only requests whose TEST/REQUEST name matches',
    '-o text|json|junit|tap',
    '--watch                run again when a file changes',
    'Exit: 0 all pass, 1 some failed, 2 a file is wrong',
  ],
  async run(context, flags) {
    const { runMeshTests } = await import('../mesh-test/run-command.ts');
    return runMeshTests(context, flags);
  },
};
