// The `meltemi` command. Finds the command, gives it its context, and maps failures to messages and exit codes.
// Run by the launcher on the bundled Node.
import path from 'node:path';
import { KubeError } from '../base/kube/types.ts';
import { nearest } from '../base/nearest.ts';
import { systemClock } from '../base/runtime/clock.ts';
import { type Command, type Context, parseFlags, stringFlag, UserError } from './command.ts';
import { COMMANDS, findCommand } from './commands/index.ts';
import { createTerminal } from './output/terminal.ts';

const EXIT_USAGE = 64;
const EXIT_INTERRUPTED = 130;

async function main(argv: readonly string[]): Promise<number> {
  const env = process.env;
  // The launcher's, for this process: what it starts has nothing to do with our compiled code.
  if (import.meta.filename.endsWith('.mjs')) {
    delete env.NODE_COMPILE_CACHE;
    delete env.NODE_COMPILE_CACHE_PORTABLE;
  }
  const colour = process.stdout.isTTY === true && (env.NO_COLOR ?? '') === '' && env.TERM !== 'dumb';
  const terminal = createTerminal({
    stdout: process.stdout,
    stderr: process.stderr,
    colour,
    now: () => performance.now(),
  });
  const context: Context = {
    terminal,
    clock: systemClock,
    env,
    cwd: process.cwd(),
    repoRoot: path.resolve(import.meta.dirname, '..', '..'),
    home: path.resolve(env.MELTEMI_HOME ?? path.join(env.HOME ?? '/root', '.meltemi')),
    uid: process.getuid?.() ?? -1,
    stdin: process.stdin,
  };
  try {
    return await dispatch(context, argv);
  } catch (error) {
    if (error instanceof UserError) {
      terminal.err(`${terminal.red('Error:')} ${error.message}\n`);
      return error.exitCode;
    }
    if (error instanceof KubeError) {
      const hint = error.code === 0 ? '\nIs the cluster up? "meltemi status" tells.' : '';
      terminal.err(`${terminal.red('Error:')} ${error.message}${hint}\n`);
      return 1;
    }
    throw error;
  }
}

async function dispatch(context: Context, argv: readonly string[]): Promise<number> {
  const [first = '', second = ''] = argv;
  if (first === '' || first === 'help' || first === '--help' || first === '-h') {
    const wanted = first === 'help' ? findCommand(argv.slice(1)) : undefined;
    const group = first === 'help' ? groupOf(second) : [];
    context.terminal.out(
      wanted ? commandHelp(wanted.command) : group.length > 0 ? groupHelp(second, group) : overview(),
    );
    return 0;
  }
  if (first === '--version') return dispatch(context, ['version', '--remote=false']);
  const found = findCommand(argv);
  const group = groupOf(first);
  if (!found && group.length > 0 && (second === '--help' || second === '-h')) {
    context.terminal.out(groupHelp(first, group));
    return 0;
  }
  if (!found && group.length > 0)
    throw new UserError(
      `${second === '' || second.startsWith('-') ? `"${first}" needs one more word` : `There is no command "${first} ${second}"`}: ${group.map((c) => `"meltemi ${c.name}"`).join(' or ')}.`,
      EXIT_USAGE,
    );
  if (!found) {
    const near = nearest(
      first,
      COMMANDS.map((c) => c.name.split(' ')[0]!),
    );
    throw new UserError(
      `There is no command "${first}".${near ? ` Did you mean "${near}"?` : ''} "meltemi --help" lists them.`,
      EXIT_USAGE,
    );
  }
  if (found.command.runWords) return found.command.runWords(context, found.rest);
  const flags = parseFlags(found.command, normalise(found.rest));
  if (flags.values.help === true) {
    context.terminal.out(commandHelp(found.command));
    return 0;
  }
  const home = stringFlag(flags, 'home');
  return found.command.run(home === undefined ? context : { ...context, home: path.resolve(context.cwd, home) }, flags);
}

/** istioctl accepts `--remote=false`; parseArgs has no boolean values. */
function normalise(argv: readonly string[]): readonly string[] {
  return argv.flatMap((word) => {
    if (word === '--remote=false') return ['--no-remote'];
    return /^--(yes|remote|skip-confirmation|all-namespaces|check|purge|bare|verbose)=true$/.test(word)
      ? [word.slice(0, -5)]
      : [word];
  });
}

/** Commands of two words that share the first. */
function groupOf(word: string): readonly Command[] {
  return word === '' ? [] : COMMANDS.filter((c) => c.name.startsWith(`${word} `));
}

function listed(commands: readonly Command[]): readonly string[] {
  const width = Math.max(...commands.map((c) => c.name.length));
  return commands.map((c) => `  ${c.name.padEnd(width)}   ${c.summary}`);
}

function groupHelp(word: string, commands: readonly Command[]): string {
  return [`Usage: meltemi ${word} COMMAND [flags]`, '', ...listed(commands), ''].join('\n');
}

function overview(): string {
  return [
    "Meltemi: a zero-trust service mesh that speaks Istio's API.",
    '',
    'Usage: meltemi COMMAND [flags]',
    '',
    ...listed(COMMANDS),
    '',
    'Start with "meltemi demo". "meltemi COMMAND --help" explains one command.',
    '',
  ].join('\n');
}

function commandHelp(command: Command): string {
  const aliases = command.aliases?.length ? [`Also: ${command.aliases.join(', ')}`] : [];
  return [
    command.summary,
    '',
    `Usage: meltemi ${command.name} ${command.usage}`.trimEnd(),
    ...aliases,
    ...(command.help.length > 0 ? ['', ...command.help.map((line) => `  ${line}`)] : []),
    '',
  ].join('\n');
}

process.on('SIGINT', () => process.exit(EXIT_INTERRUPTED));
// A closed pipe (`meltemi … | head`) is no error.
process.stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? 0 : 1));
process.exitCode = await main(process.argv.slice(2));
