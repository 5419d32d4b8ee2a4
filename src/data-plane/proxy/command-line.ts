// Envoy's command line. Pure: argv in, options or a message out. Called by main.ts.
export interface CommandLine {
  readonly configPath: string;
  readonly configYaml: string;
  readonly mode: 'serve' | 'validate' | 'init_only';
  readonly concurrency: number;
  readonly logLevel: string;
  readonly componentLogLevel: string;
  readonly logPath: string;
  readonly serviceCluster: string;
  readonly serviceNode: string;
  readonly serviceZone: string;
  readonly drainTimeS: number;
  readonly drainStrategy: 'gradual' | 'immediate';
  readonly parentShutdownTimeS: number;
  readonly fileFlushMs: number;
  readonly localAddressIpVersion: 'v4' | 'v6';
  readonly adminAddressPath: string;
  readonly allowUnknownStaticFields: boolean;
  readonly disableHotRestart: boolean;
  readonly baseId: number;
}

export type ParsedCommandLine =
  | { readonly kind: 'run'; readonly options: CommandLine }
  | { readonly kind: 'help' }
  | { readonly kind: 'version' }
  | { readonly kind: 'error'; readonly message: string };

const DEFAULTS: CommandLine = {
  configPath: '',
  configYaml: '',
  mode: 'serve',
  concurrency: 1,
  logLevel: 'info',
  componentLogLevel: '',
  logPath: '',
  serviceCluster: '',
  serviceNode: '',
  serviceZone: '',
  drainTimeS: 600,
  drainStrategy: 'gradual',
  parentShutdownTimeS: 900,
  fileFlushMs: 10_000,
  localAddressIpVersion: 'v4',
  adminAddressPath: '',
  allowUnknownStaticFields: false,
  disableHotRestart: false,
  baseId: 0,
};

/** Flags without a value that change nothing here: one process, no shared memory, no dynamic-field checks to relax. */
const SWITCHES: ReadonlySet<string> = new Set([
  '--use-dynamic-base-id',
  '--skip-hot-restart-on-no-parent',
  '--reject-unknown-dynamic-fields',
  '--ignore-unknown-dynamic-fields',
  '--skip-deprecated-logs',
  '--enable-fine-grain-logging',
  '--disable-extensions',
  '--cpuset-threads',
]);
/** Flags with a value that change nothing here. */
const IGNORED_VALUES: ReadonlySet<string> = new Set([
  '--restart-epoch',
  '--hot-restart-version',
  '--log-format',
  '--stats-tag',
  '--base-id-path',
  '--socket-path',
  '--socket-mode',
]);
const LEVELS: ReadonlySet<string> = new Set(['trace', 'debug', 'info', 'warning', 'warn', 'error', 'critical', 'off']);

type Draft = { -readonly [K in keyof CommandLine]: CommandLine[K] };
type Setter = (draft: Draft, value: string) => string | undefined;

const text =
  (
    key:
      | 'configPath'
      | 'configYaml'
      | 'componentLogLevel'
      | 'logPath'
      | 'serviceCluster'
      | 'serviceNode'
      | 'serviceZone'
      | 'adminAddressPath',
  ): Setter =>
  (draft, value) => {
    draft[key] = value;
    return undefined;
  };
const number =
  (key: 'concurrency' | 'drainTimeS' | 'parentShutdownTimeS' | 'fileFlushMs' | 'baseId'): Setter =>
  (draft, value) => {
    if (!/^\d{1,9}$/.test(value)) return `Couldn't read argument value from string '${value}'`;
    draft[key] = Number(value);
    return undefined;
  };

const VALUES: Readonly<Record<string, Setter>> = {
  '-c': text('configPath'),
  '--config-path': text('configPath'),
  '--config-yaml': text('configYaml'),
  '--component-log-level': text('componentLogLevel'),
  '--log-path': text('logPath'),
  '--service-cluster': text('serviceCluster'),
  '--service-node': text('serviceNode'),
  '--service-zone': text('serviceZone'),
  '--admin-address-path': text('adminAddressPath'),
  '--concurrency': number('concurrency'),
  '--drain-time-s': number('drainTimeS'),
  '--parent-shutdown-time-s': number('parentShutdownTimeS'),
  '--file-flush-interval-msec': number('fileFlushMs'),
  '--base-id': number('baseId'),
  '--mode': (draft, value) => {
    if (value !== 'serve' && value !== 'validate' && value !== 'init_only') return `error: unknown mode '${value}'`;
    draft.mode = value;
    return undefined;
  },
  '--drain-strategy': (draft, value) => {
    if (value !== 'gradual' && value !== 'immediate') return `error: unknown drain-strategy '${value}'`;
    draft.drainStrategy = value;
    return undefined;
  },
  '--local-address-ip-version': (draft, value) => {
    if (value !== 'v4' && value !== 'v6') return `error: unknown IP address version '${value}'`;
    draft.localAddressIpVersion = value;
    return undefined;
  },
  '-l': level,
  '--log-level': level,
};

function level(draft: Draft, value: string): string | undefined {
  if (!LEVELS.has(value)) return `error: invalid log level specified '${value}'`;
  draft.logLevel = value;
  return undefined;
}

export function parseCommandLine(argv: readonly string[]): ParsedCommandLine {
  const draft: Draft = { ...DEFAULTS };
  for (let i = 0; i < argv.length; i++) {
    let flag = argv[i]!;
    let value: string | undefined;
    const equal = flag.startsWith('--') ? flag.indexOf('=') : -1;
    if (equal > 0) {
      value = flag.slice(equal + 1);
      flag = flag.slice(0, equal);
    }
    if (flag === '--version') return { kind: 'version' };
    if (flag === '--help' || flag === '-h') return { kind: 'help' };
    if (flag === '--disable-hot-restart') draft.disableHotRestart = true;
    else if (flag === '--allow-unknown-static-fields' || flag === '--allow-unknown-fields')
      draft.allowUnknownStaticFields = true;
    else if (SWITCHES.has(flag)) continue;
    else {
      const setter = VALUES[flag];
      if (!setter && !IGNORED_VALUES.has(flag))
        return {
          kind: 'error',
          message: `PARSE ERROR: Argument: ${flag}\n             Couldn't find match for argument`,
        };
      if (value === undefined) {
        i += 1;
        value = argv[i];
      }
      if (value === undefined)
        return {
          kind: 'error',
          message: `PARSE ERROR: Argument: ${flag}\n             Missing a value for this argument!`,
        };
      const problem = setter?.(draft, value);
      if (problem) return { kind: 'error', message: problem };
    }
  }
  if (draft.configPath === '' && draft.configYaml === '')
    return {
      kind: 'error',
      message: 'At least one of --config-path or --config-yaml or Options::configProto() should be non-empty',
    };
  return { kind: 'run', options: draft };
}

export const HELP = `USAGE:

   envoy  -c <file> [--config-yaml <yaml>] [--mode serve|validate|init_only] ...

  -c, --config-path <file>            bootstrap: .json, .yaml or .yml
  --config-yaml <text>                YAML or JSON merged over the file
  --mode serve|validate|init_only     validate: check the configuration and exit
  --concurrency <n>                   accepted; one worker serves in this release
  -l, --log-level <level>             trace, debug, info, warning, error, critical, off
  --component-log-level <a:b,...>     accepted; one level serves all components
  --log-path <file>                   log to a file instead of standard error
  --service-cluster, --service-node, --service-zone <text>
  --drain-time-s <s>                  how long connections of removed listeners and chains may go on (600)
  --drain-strategy gradual|immediate  both end keep-alive with the next response
  --file-flush-interval-msec <ms>     access log flush (10000)
  --admin-address-path <file>         where to write the address of the admin interface
  --local-address-ip-version v4|v6
  --allow-unknown-static-fields       unknown fields of the bootstrap are skipped
  --disable-hot-restart, --base-id <n>, --parent-shutdown-time-s <s>
                                      accepted; there is no hot restart
  --version, --help
`;
