// `npm test`: generated code, types, lint, then every unit test. No root needed.
// Arguments are passed on as test files; without any, all of src/, scripts/ and test/ except test/acceptance.
import { spawnSync } from 'node:child_process';
import { existsSync, globSync } from 'node:fs';
import path from 'node:path';

const root = path.dirname(import.meta.dirname);
const bin = (name: string): string => path.join(root, 'node_modules', '.bin', name);

function step(name: string, command: string, args: readonly string[]): void {
  const started = performance.now();
  console.log(`== ${name}`);
  const run = spawnSync(command, args, { cwd: root, stdio: 'inherit' });
  if (run.status !== 0) {
    console.error(`${name} failed (exit ${run.status ?? run.signal})`);
    process.exit(run.status || 1);
  }
  console.log(`== ${name}: ${((performance.now() - started) / 1000).toFixed(1)} s`);
}

const chosen = process.argv.slice(2);
if (!existsSync(path.join(root, 'generated', 'proto')))
  step('generate', process.execPath, ['scripts/generate/main.ts']);
if (chosen.length === 0) {
  step('types', bin('tsc'), ['--noEmit']);
  step('lint', path.join(root, 'node_modules', '@biomejs', 'cli-linux-x64', 'biome'), [
    'check',
    '--error-on-warnings',
    '.',
  ]);
}
const files =
  chosen.length > 0
    ? chosen
    : globSync(
        [
          '{src,scripts,images}/**/*.test.ts',
          'test/*.test.ts',
          'test/{fakes,conformance,simulation,fuzz}/**/*.test.ts',
        ],
        {
          cwd: root,
        },
      ).sort();
step('tests', process.execPath, [
  '--disable-warning=ExperimentalWarning',
  '--test',
  '--test-concurrency=2',
  '--test-timeout=120000',
  ...files,
]);
