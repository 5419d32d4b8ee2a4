// The `envoy` command: Envoy's command line and exit codes in front of the engine. Started by pilot-agent and by users.
import { errorText } from '../../base/runtime/log.ts';
import { HELP, parseCommandLine } from './command-line.ts';
import {
  createEngine,
  createProcessLog,
  readBootstrap,
  releaseStartupMemory,
  VERSION,
  writeAdminAddress,
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
    case 'error':
      process.stderr.write(`${parsed.message}\n`);
      return 1;
    case 'run':
      break;
  }
  const { options } = parsed;
  const { log, level } = createProcessLog(options);
  const name = options.configPath || '--config-yaml';
  try {
    const bootstrap = await readBootstrap(options);
    let quit = (): void => process.exit(0);
    const engine = createEngine(bootstrap, options, {
      log,
      level,
      onQuit: () => quit(),
      variable: (key) => process.env[key],
    });
    if (options.mode === 'validate') {
      engine.stop();
      process.stdout.write(`configuration '${name}' OK\n`);
      return 0;
    }
    quit = () => {
      engine.stop();
      // A last log line may still be on its way.
      setImmediate(() => process.exit(0));
    };
    process.on('SIGTERM', () => quit());
    process.on('SIGINT', () => quit());
    await engine.start();
    writeAdminAddress(options.adminAddressPath, engine);
    void engine.whenLive().then(releaseStartupMemory);
    if (options.mode === 'init_only') {
      await engine.whenLive();
      quit();
    }
    return undefined;
  } catch (error) {
    const time = new Date().toISOString();
    process.stderr.write(`[${time}][critical][main] error initializing configuration '${name}': ${errorText(error)}\n`);
    return 1;
  }
}

const code = await main();
if (code !== undefined) process.exitCode = code;
// `validate` must end although resources of the configuration would keep the process alive.
if (code !== undefined) setImmediate(() => process.exit(code));
