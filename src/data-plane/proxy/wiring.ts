// Puts the engine together with the real clock, files, DNS and log. The only other file that reads the environment is main.ts.

import { lookup } from 'node:dns/promises';
import { appendFile, createWriteStream, readdirSync, readFileSync, statSync, watch, writeFileSync } from 'node:fs';
import { basename, dirname } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import type { JsonValue } from '@bufbuild/protobuf';
import type { Bootstrap } from '#proto/envoy/config/bootstrap/v3/bootstrap_pb.js';
import { systemClock } from '../../base/runtime/clock.ts';
import { createLogger, type Level, type Logger } from '../../base/runtime/log.ts';
import type { LogFiles } from './access-log/logger.ts';
import type { CommandLine } from './command-line.ts';
import { addressText } from './config/address.ts';
import { type BootstrapSource, loadBootstrap } from './config/bootstrap.ts';
import { ConfigError } from './config/fields.ts';
import { Engine, type LogLevelControl } from './engine.ts';
import type { RuntimeFiles } from './runtime/disk.ts';
import type { WatchedFiles } from './xds/file-source.ts';

/** `<commit>/<version>/<state>/<type>/<ssl>` as Envoy prints it. */
export const VERSION = `${'0'.repeat(40)}/0.1.0-meltemi/Clean/RELEASE/OpenSSL`;

const LEVELS: Readonly<Record<string, Level>> = {
  trace: 'debug',
  debug: 'debug',
  info: 'info',
  warning: 'warn',
  warn: 'warn',
  error: 'error',
  critical: 'error',
  off: 'none',
};

/** The process's own log: standard error or a file, with a level that can be changed. */
export function createProcessLog(options: CommandLine): { log: Logger; level: LogLevelControl } {
  let name = options.logLevel;
  let inner = LEVELS[name] ?? 'info';
  const file = options.logPath === '' ? undefined : createWriteStream(options.logPath, { flags: 'a' });
  const write = (line: string): void => {
    if (file) file.write(line);
    else process.stderr.write(line);
  };
  const make = (scope: string): Logger => {
    const at = (level: Level): Logger => createLogger(scope, { level, clock: systemClock, write });
    return {
      debug: (message, fields) => at(inner).debug(message, fields),
      info: (message, fields) => at(inner).info(message, fields),
      warn: (message, fields) => at(inner).warn(message, fields),
      error: (message, fields) => at(inner).error(message, fields),
      scope: make,
    };
  };
  return {
    log: make('main'),
    level: {
      current: () => name,
      set(wanted) {
        const level = LEVELS[wanted];
        if (!level) return false;
        name = wanted;
        inner = level;
        return true;
      },
    },
  };
}

/** Reads and merges the configuration. Throws ConfigError with Envoy's wording. */
export async function readBootstrap(options: CommandLine): Promise<Bootstrap> {
  const sources: BootstrapSource[] = [];
  if (options.configPath !== '') sources.push(fileSource(options.configPath));
  if (options.configYaml !== '') sources.push({ name: '--config-yaml', text: options.configYaml, kind: 'yaml' });
  const needsYaml = sources.some((source) => source.kind === 'yaml');
  // The YAML parser stays out of the memory of proxies that get JSON.
  const yaml = needsYaml ? await import('yaml') : undefined;
  return loadBootstrap(sources, {
    parseYaml: (text) => (yaml?.parse(text) as JsonValue | undefined) ?? {},
    allowUnknownFields: options.allowUnknownStaticFields,
  });
}

function fileSource(path: string): BootstrapSource {
  const kind = path.endsWith('.json') ? 'json' : path.endsWith('.yaml') || path.endsWith('.yml') ? 'yaml' : undefined;
  if (!kind) throw new ConfigError('', `Unable to load '${path}': the name must end in .json, .yaml or .yml`);
  try {
    return { name: path, text: readFileSync(path, 'utf8'), kind };
  } catch {
    throw new ConfigError('', `Invalid path: ${path}`);
  }
}

const logFiles: LogFiles = {
  append(path, bytes, done) {
    if (path !== '/dev/stdout' && path !== '/dev/stderr')
      return appendFile(path, bytes, (error) => done(error ?? undefined));
    const stream = path === '/dev/stdout' ? process.stdout : process.stderr;
    stream.write(bytes, (error) => done(error ?? undefined));
  },
};

const watchedFiles: WatchedFiles = {
  read: (path) => readFileSync(path),
  watch(directory, changed) {
    const watcher = watch(directory, { persistent: false }, () => changed());
    return () => watcher.close();
  },
  // The parser stays out of the memory of proxies whose files are JSON.
  parseYaml: async (text) => (await import('yaml')).parse(text) as JsonValue,
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

/** Builds an engine on the real world. Throws ConfigError. */
export function createEngine(
  bootstrap: Bootstrap,
  options: CommandLine,
  process_: {
    readonly log: Logger;
    readonly level: LogLevelControl;
    readonly onQuit: () => void;
    readonly variable: (name: string) => string | undefined;
  },
): Engine {
  return new Engine(
    bootstrap,
    {
      drainMs: options.drainTimeS * 1000,
      logFlushMs: options.fileFlushMs,
      commandLine: {
        config_path: options.configPath,
        concurrency: options.concurrency,
        mode: options.mode === 'serve' ? 'Serve' : options.mode === 'validate' ? 'Validate' : 'InitOnly',
        log_level: options.logLevel,
        component_log_level: options.componentLogLevel,
        drain_time: `${options.drainTimeS}s`,
        drain_strategy: options.drainStrategy === 'immediate' ? 'Immediate' : 'Gradual',
        file_flush_interval: `${options.fileFlushMs / 1000}s`,
        local_address_ip_version: options.localAddressIpVersion,
        disable_hot_restart: options.disableHotRestart,
        service_cluster: options.serviceCluster,
        service_node: options.serviceNode,
      },
      nodeId: options.serviceNode,
      nodeCluster: options.serviceCluster,
      version: VERSION,
      logLevel: process_.level,
      onQuit: process_.onQuit,
    },
    {
      clock: systemClock,
      random: Math.random,
      log: process_.log,
      reader: { file: (path) => readFileSync(path), variable: process_.variable },
      files: logFiles,
      runtimeFiles,
      watchedFiles,
      resolve: async (hostname, family) =>
        (await lookup(hostname, { all: true, family })).map((entry) => entry.address),
    },
  );
}

/** How long after the start the one collection of `releaseStartupMemory` is made, ms. */
const SETTLE_MS = 2_000;

/** What loading code and configuration left behind goes back to the system: 103 → 85 MB of RSS at rest, measured. */
export function releaseStartupMemory(): void {
  systemClock.after(SETTLE_MS, () => {
    setFlagsFromString('--expose-gc');
    const collect: unknown = runInNewContext('gc');
    if (typeof collect === 'function') collect();
  });
}

/** --admin-address-path. */
export function writeAdminAddress(path: string, engine: Engine): void {
  if (path !== '' && engine.adminAddress) writeFileSync(path, addressText(engine.adminAddress));
}
