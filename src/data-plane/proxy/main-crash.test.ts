// What a bug does to the whole program: in the main thread it ends with its stack in the log, in a worker another one takes over.
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import type { JsonObject } from '@bufbuild/protobuf';
import { ask, bootstrap, hcm, listener, routes } from './testing/engine.ts';
import { eventually, startProgram } from './testing/program.ts';

const direct: JsonObject = { match: { prefix: '/' }, direct_response: { status: 200 } };
const CONFIG = bootstrap([listener('in', [{ filters: [hcm(routes([direct]))] }])], []);

/** Code for every thread: does `what` in the threads that `where` names once the file at `trigger` is there. */
function bug(trigger: string, where: string, what: string): string {
  return `
    import { existsSync, rmSync } from 'node:fs';
    import { isMainThread } from 'node:worker_threads';
    function aBugOfTheTest() { ${what} }
    if (${where}) setInterval(() => {
      if (!existsSync(${JSON.stringify(trigger)})) return;
      rmSync(${JSON.stringify(trigger)});
      aBugOfTheTest();
    }, 10).unref();`;
}

function directory(t: TestContext): string {
  const dir = mkdtempSync(path.join(tmpdir(), 'meltemi-crash-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

const BUGS = [
  ['an exception nobody catches', "throw new Error('boom')"],
  ['a promise nobody waits for', "Promise.reject(new Error('boom'))"],
] as const;

for (const [name, what] of BUGS) {
  for (const concurrency of [1, 2])
    test(`${name} in the main thread ends the program loudly, --concurrency ${concurrency}`, {
      timeout: 60_000,
    }, async (t) => {
      const dir = directory(t);
      const trigger = path.join(dir, 'trigger');
      const log = path.join(dir, 'log');
      const program = await startProgram(t, CONFIG, concurrency, {
        args: ['--log-path', log],
        preload: bug(trigger, 'isMainThread', what),
      });
      writeFileSync(trigger, '');
      assert.equal(await program.ended, 1);
      assert.match(
        readFileSync(log, 'utf8'),
        /\]\[critical\]\[main\] uncaught exception: Error: boom\n\s+at aBugOfTheTest/,
      );
    });

  test(`${name} in a worker ends that worker loudly, and another one serves`, { timeout: 60_000 }, async (t) => {
    const trigger = path.join(directory(t), 'trigger');
    const program = await startProgram(t, CONFIG, 2, { preload: bug(trigger, '!isMainThread', what) });
    const port = await program.port('in');
    for (let round = 1; round <= 2; round++) {
      writeFileSync(trigger, '');
      await eventually(
        'it is logged',
        async () => program.log().split('a worker died and is started anew').length > round,
      );
    }
    assert.match(program.log(), /worker=\d error="Error: boom\\n\s+at aBugOfTheTest/);
    await eventually('all serve', () =>
      ask(port).then(
        ({ status }) => status === 200,
        () => false,
      ),
    );
    program.kill('SIGTERM');
    assert.equal(await program.ended, 0);
  });
}
