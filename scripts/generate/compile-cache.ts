// generated/compile-cache: V8's compiled code of generated/programs, which the programs' launchers name to Node.
// Called by main.ts, last.
import { spawn } from 'node:child_process';
import { chmodSync, mkdirSync, readdirSync } from 'node:fs';
import path from 'node:path';

const MAX_RUN_MS = 30_000;

/** Commands that end by themselves, and modules that do nothing when imported. */
const COMMANDS: readonly (readonly string[])[] = [
  ['pilot-discovery.mjs', 'version'],
  ['pilot-agent.mjs', 'version'],
  ['envoy.mjs', '--version'],
  ['istio-iptables.mjs', '--help'],
  ['meltemi.mjs', 'version', '--remote=false'],
  ['localkube.mjs', '--help'],
];
const MODULES: readonly string[] = ['pilot-agent-wiring.mjs', 'pilot-agent-commands.mjs'];

/** A program that fails to load leaves its part of the cache empty, which only costs time. */
export async function generateCompileCache(root: string, out: string): Promise<void> {
  mkdirSync(out, { recursive: true });
  const programs = path.join(root, 'generated/programs');
  const urls = MODULES.map((file) => `import(${JSON.stringify(path.join(programs, file))})`);
  const imported = ['--eval', `Promise.all([${urls}]).then(() => process.exit(0))`];
  const flags = ['--disable-warning=ExperimentalWarning', '--require', path.join(root, 'images/bin/lib/preload.cjs')];
  const runs = [...COMMANDS.map(([file = '', ...args]) => [path.join(programs, file), ...args]), imported];
  await Promise.all(runs.map((args) => run([...flags, ...args], root, out)));
  // Node writes them for their owner alone; the programs run as other users.
  for (const entry of readdirSync(out, { recursive: true, withFileTypes: true })) {
    chmodSync(path.join(entry.parentPath, entry.name), entry.isDirectory() ? 0o755 : 0o644);
  }
}

function run(args: readonly string[], cwd: string, cache: string): Promise<void> {
  const env = { PATH: process.env.PATH, NODE_COMPILE_CACHE: cache, NODE_COMPILE_CACHE_PORTABLE: '1' };
  const child = spawn(process.execPath, args, { cwd, env, stdio: 'ignore', timeout: MAX_RUN_MS });
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', () => resolve());
  });
}
