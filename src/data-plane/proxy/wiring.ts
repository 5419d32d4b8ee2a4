// Puts the engine together with the real clock, files, DNS and log. The only other file that reads the environment is main.ts.

import { availableParallelism, hostname, networkInterfaces } from 'node:os';
import { basename, dirname } from 'node:path';
import { isMainThread, threadId } from 'node:worker_threads';
import type { Bootstrap } from '#proto/envoy/config/bootstrap/v3/bootstrap_pb.js';
import { whenAtRest } from '../../base/runtime/at-rest.ts';
import { preciseNow, systemClock } from '../../base/runtime/clock.ts';
import { errorText, type Logger } from '../../base/runtime/log.ts';
import { MELTEMI_VERSION } from '../../base/version.ts';
import type { LogFiles } from './access-log/logger.ts';
import { LOG_NEEDS } from './access-log/needs.ts';
import { systemResolve } from './cluster/system-dns.ts';
import { type CommandLine, MAX_CONCURRENCY } from './command-line.ts';
import { addressText } from './config/address.ts';
import { type BootstrapSource, loadBootstrap, SourceError } from './config/bootstrap.ts';
import { ConfigError } from './config/fields.ts';
import { Engine } from './engine.ts';
import type { EngineDeps, ThreadDeps } from './engine-deps.ts';
import { MAX_BOOTSTRAP_BYTES } from './limits.ts';
import type { MemoryReader } from './overload/manager.ts';
import { createProcessLog, type LogControl, type ProcessLogger, parseComponentLevels } from './process-log.ts';
import type { RuntimeFiles } from './runtime/disk.ts';
import { systemReason } from './system-words.ts';
import { turnClock } from './transport-socket/arena.ts';
import { ffi } from './transport-socket/openssl/library.ts';
import type { TlsTransport } from './transport-socket/tls-context.ts';
import type { WatchedFiles } from './xds/file-source.ts';

// An import of node:fs as an ES module reads all its properties, and one of them loads readline: 2 MB.
const {
  closeSync,
  createWriteStream,
  openSync,
  readdirSync,
  readFileSync,
  statSync,
  watch,
  write,
  writeFileSync,
  writeSync,
} = process.getBuiltinModule('node:fs');

/** The commit of the checkout when it was installed, beside the bundles or, for the sources, in the root; else zeros. */
function installedCommit(): string {
  const here = import.meta.dirname;
  const file = here.endsWith('programs') ? '../commit' : '../../../generated/commit';
  try {
    const commit = readFileSync(new URL(file, `file://${here}/`), 'utf8');
    if (/^[0-9a-f]{40}$/.test(commit)) return commit;
  } catch {
    // Nobody knew it.
  }
  return '0'.repeat(40);
}

/** `<commit>/<version>/<state>/<type>/<ssl>` as Envoy prints it. */
export const VERSION = `${installedCommit()}/${MELTEMI_VERSION}/Clean/RELEASE/OpenSSL`;

export interface ProcessLog {
  readonly log: ProcessLogger;
  readonly control: LogControl;
}

/** The process's own log: standard error or a file. `format` is that of the bootstrap, when it has one. */
export function openProcessLog(options: CommandLine, format?: string): ProcessLog {
  const fd = options.logPath === '' ? undefined : openLogFile(options.logPath);
  const file = fd === undefined ? undefined : createWriteStream('', { fd, flags: 'a' });
  file?.on('error', (error) => process.stderr.write(`cannot write ${options.logPath}: ${error.message}\n`));
  const components = parseComponentLevels(options.componentLogLevel);
  return createProcessLog({
    level: options.logLevel,
    components: typeof components === 'string' ? new Map() : components,
    format: format ?? options.logFormat,
    escaped: options.logFormatEscaped,
    clock: systemClock,
    pid: process.pid,
    thread: isMainThread ? process.pid : threadId,
    write: (line, last) => {
      if (fd !== undefined && last) writeSync(fd, line);
      else if (file) file.write(line);
      else process.stderr.write(line);
    },
  });
}

/** Opened before anything runs: a path that cannot be written is a mistake of the command line. */
function openLogFile(path: string): number {
  try {
    return openSync(path, 'a', 0o644);
  } catch (error) {
    throw new ConfigError('', `Failed to open log-file '${path}': ${systemReason(error)}`);
  }
}

/** What is being configured, for messages: the file, the words of the command line, or both. */
function configName({ configPath, configYaml }: CommandLine): string {
  if (configPath === '') return '--config-yaml';
  return configYaml === '' || configYaml === '{}' ? configPath : `${configPath} with --config-yaml`;
}

/** `critical` line for a configuration that cannot be used: which one, why, and on which line. */
export async function refusal(options: CommandLine, error: unknown): Promise<string> {
  const name = error instanceof SourceError ? error.source : configName(options);
  return `error initializing configuration '${name}': ${errorText(error)}${await placeOf(options, error)}`;
}

async function placeOf(options: CommandLine, error: unknown): Promise<string> {
  if (!(error instanceof ConfigError) || error.at === '') return '';
  const sources: readonly (readonly [string, () => string])[] = [
    [options.configPath, () => readFileSync(options.configPath, 'utf8')],
    ['--config-yaml', () => options.configYaml],
  ];
  const { lineOf } = await import('./config/locate.ts');
  for (const [name, read] of sources) {
    if (name === '' || /\.pb(_text)?$/i.test(name)) continue;
    if (error instanceof SourceError && error.source !== name) continue;
    const line = lineOf(read(), error.at);
    if (line !== undefined) return ` (${name}:${line})`;
  }
  return '';
}

/** Reads and merges the configuration. Throws ConfigError with Envoy's wording. */
export async function readBootstrap(options: CommandLine, log: Logger): Promise<Bootstrap> {
  const sources: BootstrapSource[] = [];
  if (options.configPath !== '') sources.push(fileSource(options.configPath));
  if (options.configYaml !== '') sources.push({ name: '--config-yaml', text: options.configYaml, kind: 'yaml' });
  const has = (kind: BootstrapSource['kind']): boolean => sources.some((source) => source.kind === kind);
  // The parsers stay out of the memory of proxies that get JSON.
  const yaml = has('yaml') ? await import('./config/yaml.ts') : undefined;
  const text = has('pb_text') ? await import('./config/text-proto.ts') : undefined;
  return loadBootstrap(sources, {
    parseYaml: (source) => yaml?.parseYaml(source) ?? {},
    ...(text ? { parseTextProto: text.parseTextProto } : {}),
    allowUnknownFields: options.allowUnknownStaticFields,
    onUnknownField: (field) => log.warn(`Unknown field: ${field}`),
  });
}

/** The kind of a file by its name, as Envoy takes it: what is nothing else is JSON. */
function fileSource(path: string): BootstrapSource {
  const lower = path.toLowerCase();
  const bytes = readBytes(path);
  if (lower.endsWith('.pb')) return { name: path, text: '', bytes, kind: 'pb' };
  const kind = lower.endsWith('.pb_text') ? 'pb_text' : /\.ya?ml$/.test(lower) ? 'yaml' : 'json';
  return { name: path, text: bytes.toString('utf8'), kind };
}

function readBytes(path: string): Buffer {
  try {
    if (statSync(path).size > MAX_BOOTSTRAP_BYTES)
      throw new ConfigError('', `'${path}' is larger than ${MAX_BOOTSTRAP_BYTES} bytes`);
    return readFileSync(path);
  } catch (error) {
    if (error instanceof ConfigError) throw error;
    throw new ConfigError('', `Invalid path: ${path}: ${systemReason(error)}`);
  }
}

/** Log files stay open between writes; one that was reopened is closed when its last write is done. */
interface OpenLog {
  readonly fd: number;
  writes: number;
  stale: boolean;
}
const openLogs = new Map<string, OpenLog>();

function closeIfDone(log: OpenLog): void {
  if (log.stale && log.writes === 0) closeSync(log.fd);
}

const isStandard = (path: string): boolean => path === '/dev/stdout' || path === '/dev/stderr';

function openLog(path: string): OpenLog {
  let log = openLogs.get(path);
  if (!log) {
    log = { fd: openSync(path, 'a', 0o644), writes: 0, stale: false };
    openLogs.set(path, log);
  }
  return log;
}

const logFiles: LogFiles = {
  open(path) {
    if (!isStandard(path)) openLog(path);
  },
  append(path, bytes, done) {
    if (isStandard(path)) {
      const stream = path === '/dev/stdout' ? process.stdout : process.stderr;
      stream.write(bytes, (error) => done(error ?? undefined));
      return;
    }
    let used: OpenLog;
    try {
      used = openLog(path);
    } catch (error) {
      done(error as Error);
      return;
    }
    used.writes += 1;
    write(used.fd, bytes, (error) => {
      used.writes -= 1;
      closeIfDone(used);
      done(error ?? undefined);
    });
  },
  reopen() {
    for (const log of openLogs.values()) {
      log.stale = true;
      closeIfDone(log);
    }
    openLogs.clear();
  },
};

const watchedFiles: WatchedFiles = {
  read: (path) => readFileSync(path),
  watch(directory, changed) {
    const watcher = watch(directory, { persistent: false }, () => changed());
    return () => watcher.close();
  },
  // The parser stays out of the memory of proxies whose files are JSON.
  parseYaml: async (text) => (await import('./config/yaml.ts')).parseYaml(text),
};

const runtimeFiles: RuntimeFiles = {
  list(path) {
    try {
      return readdirSync(path).map((name) => ({ name, directory: statSync(`${path}/${name}`).isDirectory() }));
    } catch {
      return undefined;
    }
  },
  read: (path) => readFileSync(path, 'utf8'),
  watch(path, changed) {
    try {
      // A link is swapped by a rename beside it, which only its directory tells.
      const name = basename(path);
      const watcher = watch(dirname(path), { persistent: false }, (_event, file) => {
        if (file === name) changed();
      });
      watcher.on('error', () => watcher.close());
      return () => watcher.close();
    } catch {
      return () => {};
    }
  },
};

/** Of cgroup v2, then v1. */
const CGROUP_FILES = [
  ['/sys/fs/cgroup/memory.current', '/sys/fs/cgroup/memory.max'],
  ['/sys/fs/cgroup/memory/memory.usage_in_bytes', '/sys/fs/cgroup/memory/memory.limit_in_bytes'],
] as const;

const memory: MemoryReader = {
  heapBytes() {
    const { heapUsed, external } = process.memoryUsage();
    return heapUsed + external;
  },
  cgroup() {
    for (const [usage, limit] of CGROUP_FILES)
      try {
        const used = Number(readFileSync(usage, 'utf8'));
        const max = Number(readFileSync(limit, 'utf8'));
        if (Number.isFinite(used)) return { used, limit: Number.isFinite(max) ? max : undefined };
      } catch {
        // The other kind, or none.
      }
    return undefined;
  },
  shrink: collectGarbage,
};

function collectGarbage(): void {
  const { setFlagsFromString } = process.getBuiltinModule('node:v8');
  const { runInNewContext } = process.getBuiltinModule('node:vm');
  setFlagsFromString('--expose-gc');
  const collect: unknown = runInNewContext('gc');
  // The thorough kind also gives back pages, of the young generation too.
  if (typeof collect === 'function') collect({ type: 'major', execution: 'sync', flavor: 'last-resort' });
  trimHeap();
}

/** glibc keeps what the compiler and OpenSSL freed: 5 MB after a start, measured. Another C library may have no such call. */
function trimHeap(): void {
  try {
    (ffi().load(null).func('int malloc_trim(size_t keep)') as (keep: number) => number)(0);
  } catch {
    // Its heap stays as it is.
  }
}

/** `MELTEMI_TLS_TRANSPORT`: `openssl` (the default) or `tlssocket`. */
function tlsTransportOf(text: string | undefined): TlsTransport {
  if (text === undefined || text === '' || text === 'openssl') return 'openssl';
  if (text === 'tlssocket') return 'tlssocket';
  throw new ConfigError('', `MELTEMI_TLS_TRANSPORT: '${text}' is neither tlssocket nor openssl`);
}

/** The first address of this machine that others could reach. */
function localAddress(): string {
  for (const list of Object.values(networkInterfaces()))
    for (const entry of list ?? []) if (entry.family === 'IPv4' && !entry.internal) return entry.address;
  return '127.0.0.1';
}

/** For `--mode validate` with more than one worker: what is refused then, without starting any. */
export const WITHOUT_WORKERS: Pick<EngineDeps, 'sockets' | 'resolve'> = {
  resolve: systemResolve,
  sockets: { binds: false, bindsAlone: false, port: async () => 0, bound() {}, whereIs: () => undefined },
};

/** Builds an engine on the real world. Throws ConfigError. */
export function createEngine(
  bootstrap: Bootstrap,
  options: CommandLine,
  process_: {
    readonly log: Logger;
    readonly level: LogControl;
    readonly onQuit: (code: number) => void;
    readonly variable: (name: string) => string | undefined;
  },
  /** Of an engine with workers, or of a worker. */
  threads: ThreadDeps = {
    resolve: systemResolve,
  },
): Engine {
  const { isWorker = false, ...threadDeps } = threads;
  return new Engine(
    bootstrap,
    {
      isWorker,
      drainMs: options.drainTimeS * 1000,
      drainStrategy: options.drainStrategy,
      logFlushMs: options.fileFlushMs,
      logFlushBytes: options.fileFlushMinSizeKb * 1024,
      statsTags: options.statsTags,
      unknownFields: options.rejectUnknownDynamicFields
        ? 'reject'
        : options.ignoreUnknownDynamicFields
          ? 'ignore'
          : 'warn',
      commandLine: shownOptions(options),
      nodeZone: options.serviceZone,
      nodeId: options.serviceNode,
      nodeCluster: options.serviceCluster,
      version: VERSION,
      logLevel: process_.level,
      onQuit: process_.onQuit,
    },
    {
      clock: turnClock(systemClock, { wanted: () => LOG_NEEDS.fineTime, now: preciseNow }),
      random: Math.random,
      log: process_.log,
      reader: { file: (path) => readFileSync(path), variable: process_.variable },
      files: logFiles,
      runtimeFiles,
      memory,
      hostname: hostname(),
      localAddress: localAddress(),
      watchedFiles,
      tlsTransport: tlsTransportOf(process_.variable('MELTEMI_TLS_TRANSPORT')),
      ...threadDeps,
    },
  );
}

/** Workers for `--concurrency`, or for `--cpuset-threads`. */
export function workerCount(options: CommandLine): number {
  if (options.concurrencyGiven || !options.cpusetThreads) return options.concurrency;
  return Math.min(availableParallelism(), MAX_CONCURRENCY);
}

/** The command line as /server_info shows it. */
function shownOptions(options: CommandLine): Readonly<Record<string, string | number | boolean | readonly string[]>> {
  const seconds = (ms: number): string => `${ms / 1000}s`;
  return {
    base_id: String(options.baseId),
    concurrency: options.concurrency,
    config_path: options.configPath,
    // Envoy shows it whole; keys in it would be open to whoever reaches the admin interface.
    config_yaml: /PRIVATE KEY|private_key|password|secret/i.test(options.configYaml)
      ? '[redacted]'
      : options.configYaml,
    allow_unknown_static_fields: options.allowUnknownStaticFields,
    admin_address_path: options.adminAddressPath,
    local_address_ip_version: options.localAddressIpVersion,
    log_level: options.logLevel,
    component_log_level: options.componentLogLevel,
    log_format: options.logFormat,
    log_path: options.logPath,
    service_cluster: options.serviceCluster,
    service_node: options.serviceNode,
    service_zone: options.serviceZone,
    file_flush_interval: seconds(options.fileFlushMs),
    drain_time: `${options.drainTimeS}s`,
    parent_shutdown_time: `${options.parentShutdownTimeS}s`,
    mode: options.mode === 'serve' ? 'Serve' : options.mode === 'validate' ? 'Validate' : 'InitOnly',
    disable_hot_restart: true,
    enable_mutex_tracing: false,
    restart_epoch: options.restartEpoch,
    cpuset_threads: options.cpusetThreads,
    reject_unknown_dynamic_fields: options.rejectUnknownDynamicFields,
    log_format_escaped: options.logFormatEscaped,
    disabled_extensions: [],
    ignore_unknown_dynamic_fields: options.ignoreUnknownDynamicFields,
    use_dynamic_base_id: options.useDynamicBaseId,
    base_id_path: options.baseIdPath,
    drain_strategy: options.drainStrategy === 'immediate' ? 'Immediate' : 'Gradual',
    enable_fine_grain_logging: false,
    socket_path: '',
    socket_mode: 0,
    enable_core_dump: false,
    stats_tag: options.statsTags,
    skip_hot_restart_on_no_parent: false,
    skip_hot_restart_parent_stats: false,
    skip_deprecated_logs: options.skipDeprecatedLogs,
    file_flush_min_size: options.fileFlushMinSizeKb,
    log_stacktrace_single_entry: true,
  };
}

/** How long the proxy must have been at rest before `releaseStartupMemory` collects, ms. */
const SETTLE_MS = 2_000;
/** Share of that time in which code may have run. */
const AT_REST = 0.01;

/**
 * What loading code and configuration left behind goes back to the system: 103 → 85 MB of RSS at rest, measured, and 5 MB of the C heap. The collection
 * stops everything for 25–100 ms, so it waits until there is no traffic; with traffic V8 collects by itself, in small steps.
 */
export function releaseStartupMemory(): void {
  const { performance } = process.getBuiltinModule('node:perf_hooks');
  const busy = (): number => performance.eventLoopUtilization().active;
  whenAtRest(systemClock, busy, SETTLE_MS, AT_REST, collectGarbage);
}

/** --base-id-path: there is one base only. */
export function writeBaseId(path: string): void {
  if (path !== '') writeFileSync(path, '0');
}

/** --admin-address-path. */
export function writeAdminAddress(path: string, engine: Engine): void {
  if (path !== '' && engine.adminAddress) writeFileSync(path, addressText(engine.adminAddress));
}
