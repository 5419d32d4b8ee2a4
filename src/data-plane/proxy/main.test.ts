// The proxy's program as a shell or a supervisor sees it: its messages and exit codes.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { bootstrap, hcm, listener, routes, socketAddress } from './testing/engine.ts';

interface Said {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

async function run(t: TestContext, words: readonly string[], env: Readonly<Record<string, string>> = {}) {
  const child = spawn(
    process.execPath,
    ['--disable-warning=ExperimentalWarning', path.join(import.meta.dirname, 'main.ts'), ...words],
    { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, ...env } },
  );
  t.after(() => child.kill('SIGKILL'));
  let out = '';
  let err = '';
  child.stdout.on('data', (chunk: Buffer) => {
    out += chunk.toString();
  });
  child.stderr.on('data', (chunk: Buffer) => {
    err += chunk.toString();
  });
  return new Promise<Said>((resolve) => child.on('close', (code) => resolve({ code, out, err })));
}

function folder(t: TestContext): string {
  const dir = mkdtempSync(path.join(tmpdir(), 'meltemi-main-'));
  t.after(() => rmSync(dir, { recursive: true }));
  return dir;
}

async function takenPort(t: TestContext): Promise<number> {
  const taken = createServer();
  await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', () => resolve()));
  t.after(() => taken.close());
  return (taken.address() as AddressInfo).port;
}

test('a port that is taken ends the program with a failure that names who wanted it', async (t) => {
  const port = await takenPort(t);
  const dir = folder(t);
  const busy = listener('busy', [{ filters: [hcm(routes([]))] }], { address: socketAddress(port) });
  const web = path.join(dir, 'listener.json');
  writeFileSync(web, JSON.stringify(bootstrap([busy], [])));
  const admin = path.join(dir, 'admin.json');
  writeFileSync(admin, JSON.stringify({ admin: { address: socketAddress(port) } }));
  const [first, second] = await Promise.all([run(t, ['-c', web, '-l', 'error']), run(t, ['-c', admin, '-l', 'error'])]);
  const words = `cannot bind '127\\.0\\.0\\.1:${port}': Address already in use`;
  assert.match(first.err, new RegExp(`listener 'busy': ${words}`));
  assert.match(second.err, new RegExp(`admin interface: ${words} \\(${admin}:1\\)`));
  assert.deepEqual([first.code, second.code], [1, 1]);
});

test('--mode validate names what is wrong, where, and in which source', async (t) => {
  const dir = folder(t);
  const good = path.join(dir, 'good.yaml');
  writeFileSync(good, 'node: {id: a}\n');
  const bad = path.join(dir, 'bad.yaml');
  writeFileSync(bad, 'node:\n  id: a\nstatic_resources:\n  listener: []\n');
  const port = path.join(dir, 'port.yaml');
  writeFileSync(port, 'admin:\n  address:\n    socket_address:\n      address: 127.0.0.1\n      port_value: 70000\n');
  const tab = path.join(dir, 'tab.yaml');
  writeFileSync(tab, 'node:\n  id: a\n\tcluster: b\n');
  const empty = path.join(dir, 'empty.yaml');
  writeFileSync(empty, '');
  const validate = (...words: string[]) => run(t, ['--mode', 'validate', ...words]);
  const cases: readonly (readonly [words: readonly string[], said: string])[] = [
    [['-c', path.join(dir, 'none.yaml')], `Invalid path: ${dir}/none.yaml: No such file or directory\n`],
    [['-c', dir], `Invalid path: ${dir}: Is a directory\n`],
    [['-c', tab], 'line 3 is indented with a tab, where YAML takes spaces only\n'],
    [['-c', empty], 'Unable to convert YAML as JSON: it is empty\n'],
    [['-c', good, '--config-yaml', '{node: {id: 5}}'], `expected '"'); put it in quotes (--config-yaml:1)\n`],
    [[good], "Couldn't find match for argument; the bootstrap is given with -c\n"],
    [['-c', bad], `no such field: 'listener') has unknown fields; did you mean 'listeners'? (${bad}:4)\n`],
    [['-c', port], `less than or equal to 65535) (${port}:5)\n`],
    [
      ['-c', good, '--log-path', `${dir}/no/log`],
      `Failed to open log-file '${dir}/no/log': No such file or directory\n`,
    ],
    [['-c', good, '--config-yaml', 'nod: 1'], `error initializing configuration '--config-yaml': `],
    [['-c', good, '--config-yaml', 'a: ['], `error initializing configuration '--config-yaml': yaml: error at line 1`],
    [
      ['-c', good, '--config-yaml', '{header_prefix: x}'],
      `configuration '${good} with --config-yaml': header_prefix: `,
    ],
  ];
  const said = await Promise.all(cases.map(([words]) => validate(...words)));
  for (const [i, [words, text]] of cases.entries()) {
    assert.ok(said[i]!.err.includes(text), `${words.join(' ')}: ${said[i]!.err}`);
    assert.equal(said[i]!.code, 1);
  }
  const fine = await validate('-c', good);
  assert.deepEqual([fine.code, fine.out], [0, `configuration '${good}' OK\n`]);
});

test('it calls itself what the user called', async (t) => {
  const [plain, meltemi, mistake] = await Promise.all([
    run(t, ['--help'], { MELTEMI_COMMAND: 'envoy' }),
    run(t, ['--help'], { MELTEMI_COMMAND: 'meltemi proxy' }),
    run(t, ['--config-pth', 'x'], { MELTEMI_COMMAND: 'meltemi proxy' }),
  ]);
  assert.match(plain.out, /^USAGE:\n\n {3}envoy {2}-c <file>/);
  assert.match(meltemi.out, /^USAGE:\n\n {3}meltemi proxy {2}-c <file>/);
  assert.match(mistake.err, /find match for argument; did you mean --config-path\?/);
  assert.match(mistake.err, /meltemi proxy --help/);
});

test('it says where it listens', async (t) => {
  const file = path.join(folder(t), 'web.json');
  const web = listener('web', [{ filters: [hcm(routes([]))] }]);
  writeFileSync(file, JSON.stringify({ ...bootstrap([web], []), admin: { address: socketAddress(0) } }));
  const { code, err } = await run(t, ['-c', file, '--mode', 'init_only']);
  assert.equal(code, 0);
  assert.match(err, /\[info\]\[main\] admin address: 127\.0\.0\.1:[1-9]\d+$/m);
  assert.match(err, /\[info\]\[config\] listener 'web' listens on 127\.0\.0\.1:[1-9]\d+$/m);
});

test('--mode validate refuses what several workers cannot do', async (t) => {
  const file = path.join(folder(t), 'balance.json');
  const balanced = listener('in', [{ filters: [hcm(routes([]))] }], {
    connection_balance_config: { exact_balance: {} },
  });
  writeFileSync(file, JSON.stringify(bootstrap([balanced], [])));
  const [one, two] = await Promise.all(
    ['1', '2'].map((count) => run(t, ['--mode', 'validate', '-l', 'error', '-c', file, '--concurrency', count])),
  );
  assert.equal(one?.code, 0, one?.err ?? '');
  assert.equal(two?.code, 1);
  assert.match(two?.err ?? '', /listener 'in'\.connection_balance_config: is not supported with --concurrency above 1/);
});
