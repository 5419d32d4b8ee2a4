// The `envoy` command: Envoy's command line and exit codes in front of the engine. Started by pilot-agent, by `meltemi proxy`
// and by users.
import { isMainThread } from 'node:worker_threads';
import { systemClock } from '../../base/runtime/clock.ts';
import { errorText } from '../../base/runtime/log.ts';
import { type CommandLine, helpText, parseCommandLine } from './command-line.ts';
import { applicationLogFormat } from './config/application-log.ts';
import { rehearseConnections } from './transport-socket/rehearsal.ts';
import {
  createEngine,
  openProcessLog,
  type ProcessLog,
  readBootstrap,
  refusal,
  releaseStartupMemory,
  VERSION,
  WITHOUT_WORKERS,
  workerCount,
  writeAdminAddress,
  writeBaseId,
} from './wiring.ts';

/** How long the end may take, ms. */
const QUIT_MS = 5_000;

if (isMainThread) process.title = 'envoy';

async function main(): Promise<number | undefined> {
  const command = commandName();
  const parsed = parseCommandLine(process.argv.slice(2), command);
  switch (parsed.kind) {
    case 'help':
      process.stdout.write(helpText(command));
      return 0;
    case 'version':
      process.stdout.write(`\nenvoy  version: ${VERSION}\n\n`);
      return 0;
    case 'hot-restart-version':
      process.stderr.write('disabled');
      return 0;
    case 'error':
      process.stderr.write(`${parsed.message}\n`);
      return 1;
    case 'run':
      return run(parsed.options);
  }
}

/** What the user typed: `meltemi proxy`, where the launcher or the CLI says so, else Envoy's own name. */
function commandName(): string {
  const { MELTEMI_COMMAND: command } = process.env;
  // What is started from here is called otherwise.
  delete process.env.MELTEMI_COMMAND;
  return command ?? 'envoy';
}

/** Any long time. */
const STAY_MS = 0x7fffffff;

async function run(options: CommandLine): Promise<number | undefined> {
  let opened: ProcessLog;
  try {
    opened = openProcessLog(options);
  } catch (error) {
    process.stderr.write(`${errorText(error)}\n`);
    return 1;
  }
  let { log, control } = opened;
  // A bug, also in a promise nobody waits for: state may be half changed, so nothing goes on. Who supervises starts it anew.
  process.on('uncaughtException', (error: unknown) => {
    log.critical(`uncaught exception: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`);
    process.exit(1);
  });
  try {
    const bootstrap = await readBootstrap(options, log);
    const format = applicationLogFormat(bootstrap, options);
    if (format !== undefined) ({ log, control } = openProcessLog(options, format));
    let quit = (code: number): void => process.exit(code);
    const count = workerCount(options);
    const process_ = {
      log,
      level: control,
      onQuit: (code: number) => quit(code),
      variable: (key: string) => process.env[key],
    };
    // With one worker this thread serves; nothing of the threads is loaded.
    const workers =
      count > 1 && options.mode !== 'validate'
        ? (await import('./workers/wiring.ts')).createWorkers(
            bootstrap,
            { ...options, concurrency: count },
            format,
            log,
          )
        : undefined;
    const threads = workers?.threads ?? (count > 1 ? WITHOUT_WORKERS : undefined);
    const engine = createEngine(bootstrap, { ...options, concurrency: count }, process_, threads);
    if (options.mode === 'validate') {
      engine.stop();
      process.stdout.write(`configuration '${options.configPath}' OK\n`);
      return 0;
    }
    let quitting = false;
    quit = (code) => {
      if (quitting) return;
      quitting = true;
      engine.stop();
      // Last lines of access logs are still on their way, and workers end their connections.
      const ended = Promise.all([engine.logs.settled(), workers?.stop()]);
      void Promise.race([ended, new Promise((resolve) => setTimeout(resolve, QUIT_MS))]).then(() => process.exit(code));
    };
    process.on('SIGTERM', () => quit(0));
    process.on('SIGINT', () => quit(0));
    // A file that is to be opened again after it was moved away.
    process.on('SIGUSR1', () => engine.reopenLogs());
    // No timer of the engine keeps the process alive: one without an open socket (its control plane is away) waits all the same.
    setInterval(() => {}, STAY_MS);
    void rehearseConnections(systemClock);
    await engine.start();
    writeBaseId(options.baseIdPath);
    writeAdminAddress(options.adminAddressPath, engine);
    void engine.whenLive().then(releaseStartupMemory);
    if (options.mode === 'init_only') {
      await engine.whenLive();
      quit(0);
    }
    return undefined;
  } catch (error) {
    log.critical(await refusal(options, error));
    return 1;
  }
}

if (!isMainThread) await (await import('./workers/wiring.ts')).runThisWorker();
const code = isMainThread ? await main() : undefined;
if (code !== undefined) process.exitCode = code;
// `validate` must end although resources of the configuration would keep the process alive.
if (code !== undefined) setImmediate(() => process.exit(code));
