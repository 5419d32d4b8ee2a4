// The background process of `meltemi up`: the whole embedded Kubernetes. Tells its parent on fd 3 how the start went
// (JSON lines, see src/cli/cluster/local.ts), then runs until SIGTERM and takes everything away with it.
import { createHash } from 'node:crypto';
import {
  closeSync,
  mkdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { systemClock } from '../base/runtime/clock.ts';
import { createLogger, errorText, type Level } from '../base/runtime/log.ts';
import { type LocalKube, startLocalKube } from './wiring.ts';

const PARENT_FD = 3;
const MAX_STOP_MS = 25_000;

process.title = 'localkube';
const { values } = parseArgs({
  options: { home: { type: 'string' }, 'api-port': { type: 'string' }, 'log-level': { type: 'string' } },
});
if (values.home === undefined) throw new Error('localkube: --home DIR is required');
mkdirSync(path.join(values.home, 'localkube'), { recursive: true, mode: 0o700 });
const home = realpathSync(values.home);
const stateFile = path.join(home, 'localkube', 'state.json');
const log = createLogger('localkube', {
  level: (values['log-level'] ?? 'info') as Level,
  clock: systemClock,
  write: (line) => process.stdout.write(line),
});

function tellParent(message: object): void {
  try {
    writeSync(PARENT_FD, `${JSON.stringify(message)}\n`);
  } catch {
    // Started by hand, or the parent is gone: the log has it all.
  }
}

function closeParent(): void {
  try {
    closeSync(PARENT_FD);
  } catch {
    // There was none.
  }
}

function startTicks(): string {
  const stat = readFileSync('/proc/self/stat', 'utf8');
  return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19]!;
}

async function start(): Promise<LocalKube> {
  const kube = await startLocalKube({
    home,
    repoRoot: path.resolve(import.meta.dirname, '..', '..'),
    nodeBinary: process.execPath,
    // The same home always gets the same names, so that what a crash left is found again.
    instance: createHash('sha256').update(home).digest('hex').slice(0, 6),
    apiPort: values['api-port'] === undefined ? undefined : Number(values['api-port']),
    clock: systemClock,
    log,
    random: Math.random,
    onStep: (text) => tellParent({ kind: 'step', text }),
  });
  const state = {
    pid: process.pid,
    startTicks: startTicks(),
    apiPort: kube.apiPort,
    instance: kube.instance,
    startedAt: new Date(systemClock.now()).toISOString(),
  };
  writeFileSync(`${stateFile}.new`, JSON.stringify(state), { mode: 0o600 });
  renameSync(`${stateFile}.new`, stateFile);
  tellParent({ kind: 'ready', state });
  closeParent();
  return kube;
}

let kube: LocalKube | undefined;
let stopping = false;

async function stop(signal: string): Promise<void> {
  if (stopping) return;
  stopping = true;
  log.info('stopping', { signal });
  setTimeout(() => {
    log.error('stopping took too long; "meltemi down" removes what is left', { limitMs: MAX_STOP_MS });
    process.exit(1);
  }, MAX_STOP_MS).unref();
  await kube?.stop();
  rmSync(stateFile, { force: true });
  process.exit(0);
}

process.on('SIGTERM', () => void stop('SIGTERM'));
process.on('SIGINT', () => void stop('SIGINT'));
try {
  kube = await start();
} catch (error) {
  log.error('start failed', { error: error instanceof Error ? (error.stack ?? error.message) : String(error) });
  tellParent({ kind: 'failed', message: errorText(error) });
  process.exit(1);
}
