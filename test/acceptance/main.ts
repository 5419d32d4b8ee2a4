// `npm run acceptance`: as root, on a bare Debian. Brings the tools, then runs the root tests one file after the other.
// Files that need a cluster start their own or share the one of cluster.ts. Arguments choose files. `--engine envoy` runs the labs
// with the stock Envoy in every sidecar and gateway (brought by `meltemi engine add`, or taken from MELTEMI_ENVOY).
import { spawnSync } from 'node:child_process';
import { globSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { currentKubectl, debianKubectl, installSystemPackages } from './tools.ts';

const root = path.resolve(import.meta.dirname, '..', '..');
const FILE_TIMEOUT_MS = 15 * 60_000;
/** What a proxy engine has to show: the other files are about the cluster. */
const ENGINE_FILES = 'test/acceptance/[1-4]0-lab-*.test.ts';
const { values, positionals: chosen } = parseArgs({
  options: { engine: { type: 'string', default: 'meltemi' } },
  allowPositionals: true,
});
if (values.engine !== 'meltemi' && values.engine !== 'envoy') {
  console.error('--engine is meltemi or envoy');
  process.exit(64);
}

if (process.getuid?.() !== 0) {
  console.error('The acceptance run needs root: it makes network namespaces, mounts and containers.');
  process.exit(1);
}
installSystemPackages();
const kubectl = currentKubectl();
const oldKubectl = debianKubectl();
const home = mkdtempSync(path.join(tmpdir(), 'meltemi-acceptance-'));
const env = {
  ...process.env,
  MELTEMI_HOME: home,
  KUBECONFIG: path.join(home, 'kubeconfig'),
  KUBECTL: kubectl,
  OLD_KUBECTL: oldKubectl,
  ACCEPTANCE_ENGINE: values.engine,
  NO_COLOR: '1',
};
if (values.engine === 'envoy') {
  const given = process.env.MELTEMI_ENVOY;
  const add = ['engine', 'add', 'envoy', ...(given ? ['--path', given] : [])];
  const added = spawnSync(path.join(root, 'meltemi'), add, { env, stdio: 'inherit' });
  if (added.status !== 0) process.exit(1);
}
const all = values.engine === 'envoy' ? ENGINE_FILES : 'test/acceptance/*.test.ts';
const files = chosen.length > 0 ? chosen : globSync(all, { cwd: root }).sort();
const run = spawnSync(
  process.execPath,
  [
    '--disable-warning=ExperimentalWarning',
    '--test',
    '--test-concurrency=1',
    `--test-timeout=${FILE_TIMEOUT_MS}`,
    '--test-reporter=spec',
    ...files,
  ],
  { cwd: root, stdio: 'inherit', env },
);
const down = spawnSync(path.join(root, 'meltemi'), ['down', '--purge'], { env, encoding: 'utf8' });
if (down.status !== 0) console.error(`meltemi down failed:\n${down.stdout}${down.stderr}`);
rmSync(home, { recursive: true, force: true });
process.exit(run.status !== 0 ? (run.status ?? 1) : (down.status ?? 1));
