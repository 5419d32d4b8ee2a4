// `meltemi proxy`: the embedded proxy with Envoy's command line. The launcher starts its program itself; this is the way of
// a CLI that was started without the launcher. The proxy takes the place of this process: one process, one signal.
import path from 'node:path';
import type { Command } from '../command.ts';

export const proxy: Command = {
  name: 'proxy',
  summary: "Run the embedded proxy with Envoy's command line: -c FILE, --mode validate, …",
  usage: '-c FILE [--config-yaml TEXT] [--mode serve|validate|init_only] [flags of Envoy]',
  options: {},
  help: ['"meltemi proxy --help" lists its flags'],
  run: async (context) => replace(context.repoRoot, ['--help'], context.env),
  runWords: async (context, words) => replace(context.repoRoot, words, context.env),
};

function replace(
  repoRoot: string,
  words: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
): number {
  const bundle = import.meta.filename.endsWith('.mjs');
  const main = bundle
    ? path.join(repoRoot, 'generated', 'programs', 'envoy.mjs')
    : path.join(repoRoot, 'src', 'data-plane', 'proxy', 'main.ts');
  process.execve?.(
    process.execPath,
    [process.execPath, '--disable-warning=ExperimentalWarning', main, ...words],
    Object.fromEntries(
      Object.entries({ ...env, MELTEMI_COMMAND: 'meltemi proxy' }).filter(
        (entry): entry is [string, string] => entry[1] !== undefined,
      ),
    ),
  );
  throw new Error('this Node cannot replace its process');
}
