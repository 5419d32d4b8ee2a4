// Lab C: a proxy alone, driven as its users do, with the files of examples/envoy-standalone. Runs on the embedded proxy through
// ./meltemi, and on the stock Envoy where MELTEMI_ENVOY names it. Offline, no root: the upstream is a TLS server made here.
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { createPublicKey, randomBytes } from 'node:crypto';
import { mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { certificatePem, issueLeaf, issueRoot } from '../../src/base/x509/certificate.ts';
import { altName } from '../../src/base/x509/extensions.ts';
import { generateKey, writePrivateKey } from '../../src/base/x509/keys.ts';

const root = path.resolve(import.meta.dirname, '..', '..');
const example = path.join(root, 'examples', 'envoy-standalone');
const PAGE = '<title>Envoy proxy - home</title>';
const DEADLINE_MS = 30_000;

interface Engine {
  readonly name: string;
  readonly command: string;
  readonly words: readonly string[];
}

const ENGINES: readonly Engine[] = [
  { name: 'meltemi', command: path.join(root, 'meltemi'), words: ['proxy'] },
  ...(process.env.MELTEMI_ENVOY ? [{ name: 'envoy', command: process.env.MELTEMI_ENVOY, words: [] }] : []),
];

function start(engine: Engine, cwd: string, args: readonly string[], log: string): ChildProcess {
  const out = openSync(log, 'a');
  return spawn(engine.command, [...engine.words, ...args], { cwd, stdio: ['ignore', out, out] });
}

function run(
  engine: Engine,
  cwd: string,
  args: readonly string[],
): Promise<{ code: number | null; stdout: string; stderr: string }> {
  return new Promise((resolve, reject) => {
    const files = [path.join(cwd, `${engine.name}.out`), path.join(cwd, `${engine.name}.err`)];
    for (const file of files) writeFileSync(file, '');
    const child = spawn(engine.command, [...engine.words, ...args], {
      cwd,
      stdio: ['ignore', openSync(files[0]!, 'a'), openSync(files[1]!, 'a')],
    });
    child.on('error', reject);
    child.on('close', (code) =>
      resolve({ code, stdout: readFileSync(files[0]!, 'utf8'), stderr: readFileSync(files[1]!, 'utf8') }),
    );
  });
}

async function until<T>(what: string, attempt: () => Promise<T | undefined> | T | undefined): Promise<T> {
  const end = Date.now() + DEADLINE_MS;
  for (;;) {
    const found = await attempt();
    if (found !== undefined) return found;
    if (Date.now() > end) throw new Error(`did not happen: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** A TLS server that answers like the page of the lab. */
async function startPage(t: TestContext): Promise<{ port: number; hosts: string[]; names: string[] }> {
  const now = Date.now();
  const rootKey = await generateKey('p256');
  const certificate = await issueRoot({
    key: rootKey,
    organization: 'page',
    now,
    ttlMs: 7_200_000,
    random: randomBytes,
  });
  const key = await generateKey('p256');
  const leaf = await issueLeaf(
    { certificate, key: rootKey },
    {
      publicKey: createPublicKey(key),
      names: [altName('https://www.envoyproxy.io')],
      now,
      ttlMs: 3_600_000,
      random: randomBytes,
    },
  );
  const hosts: string[] = [];
  const names: string[] = [];
  const server = createServer(
    {
      cert: certificatePem(leaf),
      key: writePrivateKey(key, 'pkcs8'),
      SNICallback: (name, done) => {
        names.push(name);
        done(null);
      },
    },
    (request, response) => {
      hosts.push(request.headers.host ?? '');
      response.setHeader('content-type', 'text/html');
      response.end(PAGE);
    },
  );
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => server.close());
  t.after(() => server.closeAllConnections());
  return { port: (server.address() as AddressInfo).port, hosts, names };
}

for (const engine of ENGINES)
  test(`lab C on ${engine.name}`, { timeout: 120_000 }, async (t) => {
    const dir = mkdtempSync(path.join(tmpdir(), 'meltemi-lab-c-'));
    t.after(() => rmSync(dir, { recursive: true, force: true }));
    const page = await startPage(t);
    const demo = readFileSync(path.join(example, 'envoy-demo.yaml'), 'utf8');
    // The kernel chooses the ports; the upstream is the page above instead of a site on the Internet.
    writeFileSync(
      path.join(dir, 'envoy-demo.yaml'),
      demo
        .replace('port_value: 10000', 'port_value: 0')
        .replace('{address: www.envoyproxy.io, port_value: 443}', `{address: localhost, port_value: ${page.port}}`),
    );
    const override = readFileSync(path.join(example, 'envoy-override.yaml'), 'utf8').replace('9902', '0');
    assert.ok(demo.includes('port_value: 9901') && demo.includes('port_value: 10000'));

    await t.test('C1: the version is one line', async () => {
      const { code, stdout } = await run(engine, dir, ['--version']);
      assert.equal(code, 0);
      assert.match(stdout.trim(), /^\S*envoy {2}version: [0-9a-f]{40}\/\d+\.\d+\.\d+\/Clean\/RELEASE\/\w+$/);
    });

    await t.test('C6: --mode validate says the file is good, or what is wrong', async () => {
      const good = await run(engine, dir, ['--mode', 'validate', '-c', 'envoy-demo.yaml']);
      assert.equal(good.code, 0, good.stderr);
      assert.match(good.stdout, /configuration 'envoy-demo\.yaml' OK$/m);
      writeFileSync(path.join(dir, 'f.yaml'), demo.replace('lb_endpoints:', 'lb_endpoint:'));
      const bad = await run(engine, dir, ['--mode', 'validate', '-c', 'f.yaml']);
      assert.equal(bad.code, 1);
      assert.equal(bad.stdout, '');
      assert.match(
        bad.stderr.replace(/\s+/g, ' '),
        /\[critical\]\[main\].* error initializing configuration 'f\.yaml': .*envoy\.config\.bootstrap\.v3\.Bootstrap.*static_resources\.clusters\[0\]\.load_assignment\.endpoints\[0\].*no such field: 'lb_endpoint'/,
      );
    });

    const log = path.join(dir, 'serve.log');
    const adminFile = path.join(dir, 'admin.txt');
    const child = start(
      engine,
      dir,
      [
        ...['-c', 'envoy-demo.yaml', '--config-yaml', override, '--admin-address-path', adminFile],
        ...['--disable-hot-restart', '--concurrency', '1', '--file-flush-interval-msec', '20', '-l', 'warning'],
      ],
      log,
    );
    const ended = new Promise<number | null>((resolve) => child.on('exit', resolve));
    t.after(() => child.kill('SIGKILL'));
    const admin = await until('the admin address', () => {
      try {
        return readFileSync(adminFile, 'utf8').trim() || undefined;
      } catch {
        assert.equal(child.exitCode, null, readFileSync(log, 'utf8'));
        return undefined;
      }
    });
    const port = admin.slice(admin.lastIndexOf(':') + 1);
    const get = async (where: string): Promise<{ status: number; body: string; type: string }> => {
      const answer = await fetch(`http://127.0.0.1:${port}${where}`);
      return { status: answer.status, body: await answer.text(), type: answer.headers.get('content-type') ?? '' };
    };
    await until('LIVE', async () => ((await get('/ready')).status === 200 ? true : undefined));
    const listenerPort = /^listener_0::0\.0\.0\.0:(\d+)$/m.exec((await get('/listeners')).body)?.[1];

    await t.test('C5: /listeners names listener and address', () => assert.ok(listenerPort));

    await t.test('C2: the page comes through, with the headers and the log line of Envoy', async () => {
      const answer = await fetch(`http://127.0.0.1:${listenerPort}/`);
      assert.deepEqual([answer.status, await answer.text()], [200, PAGE]);
      assert.equal(answer.headers.get('server'), 'envoy');
      assert.match(answer.headers.get('x-envoy-upstream-service-time') ?? '', /^\d+$/);
      assert.deepEqual([page.hosts, page.names], [['www.envoyproxy.io'], ['www.envoyproxy.io']]);
      const line = await until(
        'the access log line',
        () => /^\[\d{4}-\d\d-\d\dT.*$/m.exec(readFileSync(log, 'utf8'))?.[0],
      );
      assert.match(
        line,
        /^\[\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\] "GET \/ HTTP\/1\.1" 200 - 0 33 \d+ \d+ "-" ".+" "[0-9a-f-]{36}" "[^"]+" "127\.0\.0\.1:\d+"$/,
      );
    });

    await t.test('C3: the admin page is where the override says, and the listener still works', async () => {
      assert.match(admin, /^0\.0\.0\.0:\d+$/);
      const home = await get('/');
      assert.match(home.type, /^text\/html/);
      for (const command of ['clusters', 'config_dump', 'listeners', 'stats', 'quitquitquit'])
        assert.match(home.body, new RegExp(`>\\s*${command}\\s*<`));
    });

    await t.test('C4: /clusters shows hosts, health and limits', async () => {
      const { body } = await get('/clusters');
      for (const line of [
        /^service_envoyproxy_io::127\.0\.0\.1:\d+::cx_total::1$/m,
        /^service_envoyproxy_io::127\.0\.0\.1:\d+::health_flags::healthy$/m,
        /^service_envoyproxy_io::127\.0\.0\.1:\d+::hostname::localhost$/m,
        /^service_envoyproxy_io::default_priority::max_connections::1024$/m,
      ])
        assert.match(body, line);
    });

    const answer = await fetch(`http://127.0.0.1:${port}/quitquitquit`, { method: 'POST' });
    assert.equal(await answer.text(), 'OK\n');
    assert.equal(await ended, 0);
  });
