// The `envoy` command: Envoy's command line and exit codes in front of the engine. Started by pilot-agent, by `meltemi proxy`
// and by users.
// The `envoy` command: Envoy's command line and exit codes in front of the engine. Started by pilot-agent and by users.
import { errorText } from '../../base/runtime/log.ts';
import { type CommandLine, HELP, parseCommandLine } from './command-line.ts';
import { applicationLogFormat } from './config/application-log.ts';
import {
  createEngine,
  openProcessLog,
  readBootstrap,
  releaseStartupMemory,
  VERSION,
  writeAdminAddress,
  writeBaseId,
} from './wiring.ts';

process.title = 'envoy';

async function main(): Promise<number | undefined> {
  const parsed = parseCommandLine(process.argv.slice(2));
  switch (parsed.kind) {
    case 'help':
      process.stdout.write(HELP);
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

async function run(options: CommandLine): Promise<number | undefined> {
  let { log, control } = openProcessLog(options);
  try {
    const bootstrap = await readBootstrap(options, log);
    const format = applicationLogFormat(bootstrap, options);
    if (format !== undefined) ({ log, control } = openProcessLog(options, format));
    let quit = (): void => process.exit(0);
    const engine = createEngine(bootstrap, options, {
      log,
      level: control,
      onQuit: () => quit(),
      variable: (key) => process.env[key],
    });
    if (options.mode === 'validate') {
      engine.stop();
      process.stdout.write(`configuration '${options.configPath}' OK\n`);
      return 0;
    }
    quit = () => {
      engine.stop();
      // A last log line may still be on its way.
      setImmediate(() => process.exit(0));
    };
    process.on('SIGTERM', () => quit());
    process.on('SIGINT', () => quit());
    // A file that is to be opened again after it was moved away.
    process.on('SIGUSR1', () => engine.logs.flush());
    await engine.start();
    writeBaseId(options.baseIdPath);
    writeAdminAddress(options.adminAddressPath, engine);
    void engine.whenLive().then(releaseStartupMemory);
    if (options.mode === 'init_only') {
      await engine.whenLive();
      quit();
    }
    return undefined;
  } catch (error) {
    log.critical(`error initializing configuration '${options.configPath}': ${errorText(error)}`);
    return 1;
  }
}

const code = await main();
if (code !== undefined) process.exitCode = code;
// `validate` must end although resources of the configuration would keep the process alive.
if (code !== undefined) setImmediate(() => process.exit(code));
