// The proxy's program as a shell or a supervisor sees it: its exit code.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { bootstrap, hcm, listener, routes, socketAddress } from './testing/engine.ts';

test('a listener whose port is taken ends the program with a failure that names the address', async (t) => {
  const taken = createServer();
  await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', () => resolve()));
  t.after(() => taken.close());
  const { port } = taken.address() as AddressInfo;
  const dir = mkdtempSync(path.join(tmpdir(), 'meltemi-main-'));
  t.after(() => rmSync(dir, { recursive: true }));
  const file = path.join(dir, 'bootstrap.json');
  const busy = listener('busy', [{ filters: [hcm(routes([]))] }], { address: socketAddress(port) });
  writeFileSync(file, JSON.stringify(bootstrap([busy], [])));

  const child = spawn(
    process.execPath,
    ['--disable-warning=ExperimentalWarning', path.join(import.meta.dirname, 'main.ts'), '-c', file, '-l', 'error'],
    { stdio: ['ignore', 'ignore', 'pipe'] },
  );
  t.after(() => child.kill('SIGKILL'));
  let said = '';
  child.stderr.on('data', (chunk: Buffer) => {
    said += chunk.toString();
  });
  const code = await new Promise<number | null>((resolve) => child.on('close', resolve));
  assert.match(said, new RegExp(`cannot bind '127\\.0\\.0\\.1:${port}'`));
  assert.equal(code, 1);
});
