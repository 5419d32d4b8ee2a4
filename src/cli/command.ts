// What a command is, and what it is given. main.ts finds the command and maps its failure to an exit code.
import { type ParseArgsConfig, parseArgs } from 'node:util';
import type { KubeClient } from '../base/kube/types.ts';
import { nearest } from '../base/nearest.ts';
import type { Clock } from '../base/runtime/clock.ts';
import type { Terminal } from './output/terminal.ts';

export interface Context {
  readonly terminal: Terminal;
  readonly clock: Clock;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly cwd: string;
  /** The checkout, absolute. */
  readonly repoRoot: string;
  /** `$MELTEMI_HOME`, absolute; `--home` overrides. */
  readonly home: string;
  readonly uid: number;
  readonly stdin: NodeJS.ReadStream;
}

export type Options = NonNullable<ParseArgsConfig['options']>;

export interface Flags {
  readonly values: Readonly<Record<string, string | boolean | readonly (string | boolean)[] | undefined>>;
  readonly positionals: readonly string[];
}

export interface Command {
  readonly name: string;
  readonly aliases?: readonly string[];
  /** One line for the list of commands. */
  readonly summary: string;
  /** What follows the name: `POD [flags]`. */
  readonly usage: string;
  readonly options: Options;
  /** Words it takes beside flags; default: as many as it likes. */
  readonly maxPositionals?: number;
  /** Lines for --help, one an option: `--api-port N   port of the API server …`. */
  readonly help: readonly string[];
  run(context: Context, flags: Flags): Promise<number>;
  /** Takes its words as they are, before any flag is read: a command with a command line of its own. */
  runWords?(context: Context, words: readonly string[]): Promise<number>;
}

/** A failure the user can do something about: printed as it is, without a stack. */
export class UserError extends Error {
  readonly exitCode: number;
  constructor(message: string, exitCode = 1) {
    super(message);
    this.name = 'UserError';
    this.exitCode = exitCode;
  }
}

export function parseFlags(command: Command, argv: readonly string[]): Flags {
  const hint = `Run "meltemi ${command.name} --help" for its flags.`;
  try {
    const parsed = parseArgs({
      args: [...argv],
      options: { ...command.options, help: { type: 'boolean', short: 'h' } },
      allowPositionals: true,
      strict: true,
    });
    const extra = parsed.positionals[command.maxPositionals ?? Number.POSITIVE_INFINITY];
    if (extra !== undefined && parsed.values.help !== true)
      throw new UserError(`"meltemi ${command.name}" does not take "${extra}".\n${hint}`, 64);
    return { values: parsed.values, positionals: parsed.positionals };
  } catch (error) {
    if (error instanceof UserError) throw error;
    // parseArgs goes on about words that start with a dash; no command takes any.
    const reason = error instanceof Error ? error.message.split('\n')[0]!.split('. To specify')[0]! : String(error);
    throw new UserError(`${reason}${meant(reason, command)}\n${hint}`, 64);
  }
}

function meant(reason: string, command: Command): string {
  const unknown = /^Unknown option '--([^']+)'/.exec(reason)?.[1];
  const near = unknown === undefined ? undefined : nearest(unknown, Object.keys(command.options));
  return near === undefined ? '' : `: did you mean --${near}?`;
}

export function stringFlag(flags: Flags, name: string): string | undefined {
  const value = flags.values[name];
  return typeof value === 'string' ? value : undefined;
}

export function listFlag(flags: Flags, name: string): readonly string[] {
  const value = flags.values[name];
  if (Array.isArray(value)) return value.filter((v) => typeof v === 'string');
  return typeof value === 'string' ? [value] : [];
}

export function boolFlag(flags: Flags, name: string): boolean {
  return flags.values[name] === true;
}

/** Flags of every command that talks to a cluster. */
export const CLUSTER_OPTIONS: Options = {
  home: { type: 'string' },
  kubeconfig: { type: 'string' },
  context: { type: 'string' },
  namespace: { type: 'string', short: 'n' },
};

export const CLUSTER_HELP: readonly string[] = [
  "--kubeconfig FILE     default: $KUBECONFIG, then the local cluster's, then ~/.kube/config",
  '--context NAME        context in that file',
  '-n, --namespace NS    default: the context\'s, else "default"',
];

/** A cluster as commands see it. Made by cluster/connect.ts. */
export interface ClusterConnection {
  readonly client: KubeClient;
  readonly namespace: string;
  readonly kubeconfigPath: string;
}
