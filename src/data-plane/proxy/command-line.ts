// Envoy's command line: every flag of its --help, with its effect or refused by name. Pure: argv in, options or a message
// out. Called by main.ts.
import { nearest } from '../../base/nearest.ts';
import { parseComponentLevels } from './process-log.ts';

export type Mode = 'serve' | 'validate' | 'init_only';

export interface CommandLine {
  readonly configPath: string;
  readonly configYaml: string;
  readonly mode: Mode;
  /** Workers that serve traffic; 1 = in this thread. */
  readonly concurrency: number;
  readonly concurrencyGiven: boolean;
  /** The number of workers is that of the CPUs this process may use, unless `concurrency` is given. */
  readonly cpusetThreads: boolean;
  readonly logLevel: string;
  readonly componentLogLevel: string;
  readonly logPath: string;
  readonly logFormat: string;
  readonly logFormatEscaped: boolean;
  readonly serviceCluster: string;
  readonly serviceNode: string;
  readonly serviceZone: string;
  readonly drainTimeS: number;
  readonly drainStrategy: 'gradual' | 'immediate';
  readonly parentShutdownTimeS: number;
  readonly fileFlushMs: number;
  readonly fileFlushMinSizeKb: number;
  readonly localAddressIpVersion: 'v4' | 'v6';
  readonly adminAddressPath: string;
  readonly allowUnknownStaticFields: boolean;
  readonly rejectUnknownDynamicFields: boolean;
  readonly ignoreUnknownDynamicFields: boolean;
  readonly skipDeprecatedLogs: boolean;
  readonly disableHotRestart: boolean;
  readonly useDynamicBaseId: boolean;
  readonly baseId: number;
  readonly baseIdPath: string;
  readonly restartEpoch: number;
  /** `tag:value` pairs that every stat carries. */
  readonly statsTags: readonly string[];
}

export type ParsedCommandLine =
  | { readonly kind: 'run'; readonly options: CommandLine }
  | { readonly kind: 'help' }
  | { readonly kind: 'version' }
  | { readonly kind: 'hot-restart-version' }
  | { readonly kind: 'error'; readonly message: string };

/** Workers a command line may ask for. */
export const MAX_CONCURRENCY = 128;
export const DEFAULT_LOG_FORMAT = '[%Y-%m-%d %T.%e][%t][%l][%n] %v';

const DEFAULTS: CommandLine = {
  configPath: '',
  configYaml: '',
  mode: 'serve',
  concurrency: 1,
  concurrencyGiven: false,
  cpusetThreads: false,
  logLevel: 'info',
  componentLogLevel: '',
  logPath: '',
  logFormat: DEFAULT_LOG_FORMAT,
  logFormatEscaped: false,
  serviceCluster: '',
  serviceNode: '',
  serviceZone: '',
  drainTimeS: 600,
  drainStrategy: 'gradual',
  parentShutdownTimeS: 900,
  fileFlushMs: 10_000,
  fileFlushMinSizeKb: 64,
  localAddressIpVersion: 'v4',
  adminAddressPath: '',
  allowUnknownStaticFields: false,
  rejectUnknownDynamicFields: false,
  ignoreUnknownDynamicFields: false,
  skipDeprecatedLogs: false,
  disableHotRestart: false,
  useDynamicBaseId: false,
  baseId: 0,
  baseIdPath: '',
  restartEpoch: 0,
  statsTags: [],
};

type Draft = { -readonly [K in keyof CommandLine]: CommandLine[K] };
type KeysOf<T> = {
  [K in keyof CommandLine]: CommandLine[K] extends T ? (T extends CommandLine[K] ? K : never) : never;
}[keyof CommandLine];

interface Flag {
  readonly long: string;
  readonly short?: string;
  /** What the value is called in --help; without it the flag takes none. */
  readonly value?: string;
  readonly repeats?: boolean;
  readonly help: string;
  /** Returns a message when the value cannot be used. */
  readonly set: (draft: Draft, value: string) => string | undefined;
}

const text =
  (key: KeysOf<string>) =>
  (draft: Draft, value: string): undefined => {
    draft[key] = value;
  };
const on =
  (key: KeysOf<boolean>) =>
  (draft: Draft): undefined => {
    draft[key] = true;
  };
const MAX_UINT32 = 4_294_967_295;
const count =
  (key: KeysOf<number>) =>
  (draft: Draft, value: string): string | undefined => {
    if (!/^\d{1,10}$/.test(value) || Number(value) > MAX_UINT32)
      return `Couldn't read argument value from string '${value}'`;
    draft[key] = Number(value);
    return undefined;
  };
/** A flag of Envoy's that asks for something this proxy does not have. */
const refused = (why: string) => (_draft: Draft, _value: string) => `is not supported by this proxy: ${why}`;
const nothing = (): undefined => {};

const FLAGS: readonly Flag[] = [
  {
    long: 'config-path',
    short: 'c',
    value: 'file',
    help: 'bootstrap: .json, .yaml, .yml, .pb or .pb_text',
    set: text('configPath'),
  },
  {
    long: 'config-yaml',
    value: 'text',
    help: 'YAML or JSON merged over the file (protobuf MergeFrom)',
    set: text('configYaml'),
  },
  {
    long: 'mode',
    value: 'mode',
    help: 'serve (default), validate: check the configuration and exit, init_only: start up to traffic and exit',
    set: (draft, value) => {
      draft.mode = value as Mode;
      return undefined;
    },
  },
  {
    long: 'concurrency',
    value: 'n',
    help: 'worker threads; default 1: traffic is served by the main thread',
    set: (draft, value) => {
      const problem = count('concurrency')(draft, value);
      draft.concurrency = Math.max(1, draft.concurrency);
      draft.concurrencyGiven = true;
      return problem;
    },
  },
  {
    long: 'cpuset-threads',
    help: 'without --concurrency: one worker for each CPU of the process',
    set: on('cpusetThreads'),
  },
  {
    long: 'log-level',
    short: 'l',
    value: 'level',
    help: 'trace, debug, info (default), warning, error, critical, off',
    set: text('logLevel'),
  },
  {
    long: 'component-log-level',
    value: 'a:l,b:l',
    help: 'levels of single components, as upstream:debug,config:trace',
    set: text('componentLogLevel'),
  },
  { long: 'log-path', value: 'file', help: 'log to a file instead of standard error', set: text('logPath') },
  {
    long: 'log-format',
    value: 'format',
    help: `spdlog pattern; default "${DEFAULT_LOG_FORMAT}"`,
    set: text('logFormat'),
  },
  {
    long: 'log-format-escaped',
    help: 'escape C-style sequences in messages of the log',
    set: on('logFormatEscaped'),
  },
  { long: 'service-cluster', value: 'name', help: 'node.cluster', set: text('serviceCluster') },
  { long: 'service-node', value: 'name', help: 'node.id', set: text('serviceNode') },
  { long: 'service-zone', value: 'name', help: 'node.locality.zone', set: text('serviceZone') },
  {
    long: 'drain-time-s',
    value: 's',
    help: 'time for connections of changed or removed listeners to end (600)',
    set: count('drainTimeS'),
  },
  {
    long: 'drain-strategy',
    value: 'strategy',
    help: 'gradual (default): ever more connections are ended over the drain time; immediate: all with their next response',
    set: text2('drainStrategy'),
  },
  {
    long: 'file-flush-interval-msec',
    value: 'ms',
    help: 'interval of access log flushes (10000)',
    set: count('fileFlushMs'),
  },
  {
    long: 'file-flush-min-size-kb',
    value: 'kb',
    help: 'size at which an access log is flushed at once (64)',
    set: count('fileFlushMinSizeKb'),
  },
  {
    long: 'admin-address-path',
    value: 'file',
    help: 'where the address of the admin interface is written',
    set: text('adminAddressPath'),
  },
  {
    long: 'local-address-ip-version',
    value: 'v4|v6',
    help: 'family of the local address shown to others',
    set: text2('localAddressIpVersion'),
  },
  {
    long: 'allow-unknown-static-fields',
    help: 'unknown fields of the bootstrap are skipped',
    set: on('allowUnknownStaticFields'),
  },
  { long: 'allow-unknown-fields', help: 'the same (deprecated)', set: on('allowUnknownStaticFields') },
  {
    long: 'reject-unknown-dynamic-fields',
    help: 'unknown fields of xDS resources make a NACK (default: a warning)',
    set: on('rejectUnknownDynamicFields'),
  },
  {
    long: 'ignore-unknown-dynamic-fields',
    help: 'unknown fields of xDS resources are skipped in silence',
    set: on('ignoreUnknownDynamicFields'),
  },
  {
    long: 'skip-deprecated-logs',
    help: 'no log of deprecated fields (there is none)',
    set: on('skipDeprecatedLogs'),
  },
  {
    long: 'stats-tag',
    value: 'tag:value',
    repeats: true,
    help: 'a tag that every stat carries; may be given several times',
    set: (draft, value) => {
      draft.statsTags = [...draft.statsTags, value];
      return undefined;
    },
  },
  {
    long: 'parent-shutdown-time-s',
    value: 's',
    help: 'shown by /server_info; there is no parent to shut down (900)',
    set: count('parentShutdownTimeS'),
  },
  {
    long: 'disable-hot-restart',
    help: 'always so: a new process opens its own sockets',
    set: on('disableHotRestart'),
  },
  {
    long: 'base-id',
    value: 'n',
    help: 'needs no choice: several proxies run beside each other by themselves',
    set: count('baseId'),
  },
  { long: 'base-id-path', value: 'file', help: 'where the base id is written', set: text('baseIdPath') },
  { long: 'use-dynamic-base-id', help: 'as --base-id', set: on('useDynamicBaseId') },
  {
    long: 'restart-epoch',
    value: 'n',
    help: 'only 0: there is no hot restart',
    set: count('restartEpoch'),
  },
  { long: 'hot-restart-version', help: 'prints "disabled"', set: nothing },
  { long: 'log-stacktrace-single-entry', help: 'always so', set: nothing },
  {
    long: 'socket-path',
    value: 'path',
    help: 'refused',
    set: refused(
      'there is no hot restart; start the new process and drain the old one with POST /drain_listeners?graceful',
    ),
  },
  {
    long: 'socket-mode',
    value: 'mode',
    help: 'refused',
    set: refused('there is no hot restart and so no socket of it'),
  },
  {
    long: 'skip-hot-restart-on-no-parent',
    help: 'always so: a start never needs a parent',
    set: nothing,
  },
  { long: 'skip-hot-restart-parent-stats', help: 'always so', set: nothing },
  {
    long: 'disable-extensions',
    value: 'list',
    help: 'refused',
    set: refused('leave the extension out of the configuration'),
  },
  { long: 'enable-core-dump', help: 'refused', set: refused('set it for the process with ulimit -c') },
  { long: 'enable-mutex-tracing', help: 'refused', set: refused('there are no mutexes to trace') },
  {
    long: 'enable-fine-grain-logging',
    help: 'refused',
    set: refused('use --component-log-level'),
  },
];

/** A word that `check` looks at after all flags are read. */
function text2(key: 'drainStrategy' | 'localAddressIpVersion') {
  return (draft: Draft, value: string): undefined => {
    (draft as Record<string, unknown>)[key] = value;
  };
}

const BY_NAME: ReadonlyMap<string, Flag> = new Map(
  FLAGS.flatMap((flag) => [
    [`--${flag.long}`, flag] as const,
    ...(flag.short === undefined ? [] : [[`-${flag.short}`, flag] as const]),
  ]),
);

function meant(name: string): string {
  if (!name.startsWith('-')) return '; the bootstrap is given with -c';
  const near = name.startsWith('--') ? nearest(name, BY_NAME.keys()) : undefined;
  return near === undefined ? '' : `; did you mean ${near}?`;
}

/** `command`: what the user typed before its words. */
export function parseCommandLine(argv: readonly string[], command = 'envoy'): ParsedCommandLine {
  const draft: Draft = { ...DEFAULTS };
  const fail = (argument: string, problem: string): ParsedCommandLine => parseError(command, argument, problem);
  const seen = new Set<Flag>();
  for (let i = 0; i < argv.length; i++) {
    const word = argv[i]!;
    if (word === '--' || word === '--ignore_rest') break;
    const equal = word.startsWith('--') ? word.indexOf('=') : -1;
    const name = equal > 0 ? word.slice(0, equal) : word;
    if (name === '--version') return { kind: 'version' };
    if (name === '--help' || name === '-h') return { kind: 'help' };
    const flag = BY_NAME.get(name);
    if (!flag) return fail(name, `Couldn't find match for argument${meant(name)}`);
    if (seen.has(flag) && !flag.repeats) return fail(`(--${flag.long})`, 'Argument already set!');
    seen.add(flag);
    let value: string | undefined;
    if (flag.value !== undefined) {
      value = equal > 0 ? word.slice(equal + 1) : argv[++i];
      if (value === undefined)
        return fail(
          flag.short === undefined ? `--${flag.long}` : `-${flag.short} (--${flag.long})`,
          'Missing a value for this argument!',
        );
    } else if (equal > 0) return fail(word, "Couldn't find match for argument");
    const problem = flag.set(draft, value ?? '');
    if (problem?.startsWith('Couldn')) return fail(`(--${flag.long})`, problem);
    if (problem) return { kind: 'error', message: `error: --${flag.long} ${problem}` };
  }
  if ([...seen].some((flag) => flag.long === 'hot-restart-version')) return { kind: 'hot-restart-version' };
  const problem = check(draft);
  return problem === undefined ? { kind: 'run', options: draft } : { kind: 'error', message: problem };
}

function parseError(command: string, argument: string, problem: string): ParsedCommandLine {
  return {
    kind: 'error',
    message: `PARSE ERROR: Argument: ${argument}\n             ${problem}\n\nBrief USAGE:\n   ${command}  -c <file> [--config-yaml <text>] [--mode serve|validate|init_only] ...\n\nFor complete USAGE and HELP type:\n   ${command} --help\n`,
  };
}

const LEVELS: ReadonlySet<string> = new Set(['trace', 'debug', 'info', 'warning', 'warn', 'error', 'critical', 'off']);

/** What Envoy looks at once all flags are read, in its words. */
function check(options: CommandLine): string | undefined {
  if (!LEVELS.has(options.logLevel)) return `error: invalid log level specified '${options.logLevel}'`;
  const levels = parseComponentLevels(options.componentLogLevel);
  if (typeof levels === 'string') return levels;
  if (!['serve', 'validate', 'init_only'].includes(options.mode)) return `error: unknown mode '${options.mode}'`;
  if (!['v4', 'v6'].includes(options.localAddressIpVersion))
    return `error: unknown IP address version '${options.localAddressIpVersion}'`;
  if (!['gradual', 'immediate'].includes(options.drainStrategy))
    return `error: unknown drain-strategy '${options.drainStrategy}'`;
  if (options.restartEpoch > 0 && options.useDynamicBaseId)
    return `error: cannot use --restart-epoch=${options.restartEpoch} with --use-dynamic-base-id`;
  if (options.restartEpoch > 0)
    return 'error: --restart-epoch is not supported by this proxy: there is no hot restart. Start the new process on its own, then drain the old one with POST /drain_listeners?graceful and end it with POST /quitquitquit';
  if (options.concurrency > MAX_CONCURRENCY) return `error: --concurrency is at most ${MAX_CONCURRENCY}`;
  for (const tag of options.statsTags)
    if (!/^[A-Za-z0-9_]+:[^.]+$/.test(tag)) return `error: misformatted stats-tag '${tag}'`;
  if (options.configPath === '' && options.configYaml === '')
    return 'At least one of --config-path or --config-yaml or Options::configProto() should be non-empty: give a bootstrap with -c <file>';
  return undefined;
}

export function helpText(command: string): string {
  const left = (flag: Flag): string => {
    const short = flag.short === undefined ? '' : `-${flag.short}, `;
    return `${short}--${flag.long}${flag.value === undefined ? '' : ` <${flag.value}>`}`;
  };
  const shown = FLAGS.filter((flag) => flag.help !== 'refused');
  const width = Math.max(...shown.map((flag) => left(flag).length));
  const lines = shown.map((flag) => `  ${left(flag).padEnd(width)}  ${flag.help}\n`);
  const not = FLAGS.filter((flag) => flag.help === 'refused').map((flag) => `--${flag.long}`);
  return `USAGE:\n\n   ${command}  -c <file> [--config-yaml <text>] [--mode serve|validate|init_only] ...\n\nWhere:\n\n${lines.join('')}  ${'--'.padEnd(width)}  what follows is not read\n  ${'--version'.padEnd(width)}  prints the version and exits\n  ${'-h, --help'.padEnd(width)}  prints this and exits\n\nFlags of Envoy that are refused: ${not.join(', ')}.\n`;
}
