// generated/compile-cache: V8's compiled code of our programs and what they import, which containers read (images/bin/lib/start).
// Without it the first start of each image loads Node's TypeScript compiler: 0.3 s and 30 MB more. Called by main.ts, last.
import { spawn } from 'node:child_process';
import { chmodSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';

/** The newest file of the cache: programs changed after it was written do not use the cache. */
const STAMP = 'complete';
const MAX_RUN_MS = 30_000;

/** Commands that end by themselves, and modules that do nothing when imported. */
const COMMANDS: readonly (readonly string[])[] = [
  ['src/control-plane/main.ts'],
  ['src/data-plane/agent/main.ts', 'version'],
  ['src/data-plane/proxy/main.ts', '--version'],
  ['src/data-plane/capture/main.ts', '--help'],
];
const MODULES: readonly (readonly string[])[] = [
  ['src/data-plane/agent/wiring.ts', 'src/data-plane/agent/commands.ts'],
  ['src/data-plane/proxy/wiring.ts'],
];

/** A program that fails to load leaves its part of the cache empty, which only costs time. */
export async function generateCompileCache(root: string, out: string): Promise<void> {
  mkdirSync(out, { recursive: true });
  const imported = MODULES.map((files) => {
    const urls = files.map((file) => `import(${JSON.stringify(path.join(root, file))})`);
    return ['--eval', `Promise.all([${urls}]).then(() => process.exit(0))`];
  });
  const flags = ['--disable-warning=ExperimentalWarning', '--require', path.join(root, 'images/bin/lib/preload.cjs')];
  const runs = [...COMMANDS.map(([file = '', ...args]) => [path.join(root, file), ...args]), ...imported];
  await Promise.all(runs.map((args) => run([...flags, ...args], root, out)));
  // Node writes them for their owner alone; the programs run as other users.
  for (const entry of readdirSync(out, { recursive: true, withFileTypes: true })) {
    chmodSync(path.join(entry.parentPath, entry.name), entry.isDirectory() ? 0o755 : 0o644);
  }
  writeFileSync(path.join(out, STAMP), '', { mode: 0o644 });
}

function run(args: readonly string[], cwd: string, cache: string): Promise<void> {
  const env = { PATH: process.env.PATH, NODE_COMPILE_CACHE: cache, NODE_COMPILE_CACHE_PORTABLE: '1' };
  const child = spawn(process.execPath, args, { cwd, env, stdio: 'ignore', timeout: MAX_RUN_MS });
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', () => resolve());
  });
}
