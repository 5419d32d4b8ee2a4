// `pilot-agent`: the program of the istio-proxy container. Reads argv and environment, hands over to the parts.
import { flushCompileCache } from 'node:module';
import { systemClock } from '../../base/runtime/clock.ts';
import { createLogger, errorText } from '../../base/runtime/log.ts';
import { ISTIO_API_VERSION, MELTEMI_VERSION } from '../../base/version.ts';
import { ENGINES, proxyCommand } from './engine.ts';
import { parseAgentOptions, UsageError } from './options.ts';
import type { Agent } from './wiring.ts';

const DEBUG_PORT = 15_004;
const CACHE_FLUSH_MS = 5000;
const USAGE = `Usage: pilot-agent COMMAND
  proxy sidecar|router [flags]     run the agent and the proxy
  wait [flags]                     wait until the proxy is ready
  request [--debug-port N] METHOD PATH [BODY]
                                   ask the proxy's admin port
  istio-iptables [flags]           program the capture rules
  version                          print the version
`;

process.title = 'pilot-agent';
const [command = '', ...args] = process.argv.slice(2);
const io = {
  clock: systemClock,
  out: (text: string) => process.stdout.write(text),
  err: (text: string) => process.stderr.write(text),
};

try {
  await run();
} catch (error) {
  process.stderr.write(`Error: ${errorText(error)}\n`);
  process.exit(error instanceof UsageError ? 2 : 1);
}

async function run(): Promise<void> {
  switch (command) {
    case 'proxy':
      return runProxy();
    case 'wait':
      process.exit(await (await import('./commands.ts')).runWait(args, heldOpen()));
      break;
    case 'request':
      process.exitCode = await (await import('./commands.ts')).runRequest(args, io);
      return;
    case 'istio-iptables':
      return runCapture();
    case 'version':
    case '--version':
      io.out(`version: ${MELTEMI_VERSION} (Istio API ${ISTIO_API_VERSION})\n`);
      return;
    case 'help':
    case '--help':
    case '-h':
      io.out(USAGE);
      return;
    default:
      throw new UsageError(command === '' ? USAGE : `unknown command ${JSON.stringify(command)}\n${USAGE}`);
  }
}

/** The system clock's timers never keep a process alive, and between two polls there is nothing else. */
function heldOpen() {
  return {
    ...io,
    clock: {
      now: systemClock.now,
      after(delayMs: number, wake: () => void) {
        const one = setTimeout(wake, delayMs);
        return () => clearTimeout(one);
      },
    },
  };
}

async function runProxy(): Promise<void> {
  const options = parseAgentOptions(args, process.env);
  const log = createLogger('agent', {
    level: options.agentLogLevel,
    clock: systemClock,
    write: (line) => process.stderr.write(line),
  });
  let agent: Agent | undefined;
  let ending = false;
  // Before anything else: as process 1 of the container a signal without a handler would be ignored.
  const end = (): void => {
    if (!agent) process.exit(0);
    if (ending) return;
    ending = true;
    agent.terminate().catch((error) => {
      log.error('could not end in order', { error: errorText(error) });
      process.exit(1);
    });
  };
  process.on('SIGTERM', end);
  process.on('SIGINT', end);
  const { startAgent } = await import('./wiring.ts');
  agent = await startAgent({
    root: '/',
    options,
    clock: systemClock,
    random: Math.random,
    log,
    envoyCommand: proxyCommand(options, ENGINES),
    debugPort: DEBUG_PORT,
    onExit: (code) => process.exit(code),
  });
  // Compiled code is otherwise kept only at a clean exit, and a cold start costs each sidecar 25 MB and 100 ms.
  setTimeout(flushCompileCache, CACHE_FLUSH_MS).unref();
}

/** In this process: the program reads the command line from where it is. */
async function runCapture(): Promise<void> {
  process.argv.splice(2, 1);
  await import('../capture/main.ts');
}
