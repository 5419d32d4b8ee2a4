// `npm run conformance`: the proxy's cases, then the mesh's, on both engines. Flags that only the proxy's suite has run only that.
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { readFlags } from './flags.ts';

const flags = readFlags();
const args = process.argv.slice(2);
const onlyProxy = flags.file !== undefined || flags.keep || flags.show || flags.pending || flags.differences;
let failed = 0;
for (const suite of onlyProxy ? ['proxy'] : ['proxy', 'mesh']) {
  const main = path.join(import.meta.dirname, suite, 'main.ts');
  const run = spawnSync(process.execPath, ['--disable-warning=ExperimentalWarning', main, ...args], {
    stdio: 'inherit',
  });
  failed = Math.max(failed, run.status ?? 1);
}
process.exitCode = failed;
