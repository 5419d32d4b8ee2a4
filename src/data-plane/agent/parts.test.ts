// The agent's pure parts: options, node, readiness, draining arithmetic; and the proxy process with a script in its place.
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { createFakeClock } from '../../../test/fakes/fake-clock.ts';
import type { Clock } from '../../base/runtime/clock.ts';
import { silentLog } from '../../base/runtime/log.ts';
import { runRequest, runWait } from './commands.ts';
import { countActive, type EnvoyOptions, envoyArguments, MAX_RESTARTS, startEnvoy } from './envoy.ts';
import { parseDownward } from './node.ts';
import { type AgentOptions, durationMs, type Env, parseAgentOptions, UsageError } from './options.ts';
import { createReadiness } from './readiness.ts';
import { renewalDelay } from './secret-cache.ts';

const base: Env = { POD_NAMESPACE: 'foo', SERVICE_ACCOUNT: 'bar' };
const parse = (args: readonly string[], env: Env = {}): AgentOptions => parseAgentOptions(args, { ...base, ...env });

test('the injected command line and environment are understood', () => {
  const options = parse(
    ['sidecar', '--domain', 'foo.svc.cluster.local', '--proxyLogLevel=debug', '--log_output_level=default:warn'],
    { CA_ADDR: 'istiod.istio-system.svc:15012', SECRET_TTL: '1m', XDS_HEADER_X_FOO: 'a', ISTIO_CPU_LIMIT: '2' },
  );
  assert.deepEqual(
    [options.role, options.domain, options.proxyLogLevel, options.agentLogLevel, options.concurrency],
    ['sidecar', 'foo.svc.cluster.local', 'debug', 'warn', undefined],
  );
  // The embedded proxy takes more threads only when told so; a stock Envoy takes the limit of its CPUs.
  assert.equal(parse(['sidecar'], { ISTIO_META_ENGINE: 'envoy', ISTIO_CPU_LIMIT: '2' }).concurrency, 2);
  assert.equal(parse(['sidecar'], { PROXY_CONFIG: '{"concurrency":3}', ISTIO_CPU_LIMIT: '2' }).concurrency, 3);
  assert.deepEqual([options.secretTtlSeconds, options.keyKind, options.xdsHeaders], [60, 'p256', { 'x-foo': 'a' }]);
  // None is all: a stock Envoy takes them by itself.
  const none = { PROXY_CONFIG: '{"concurrency":0}', ISTIO_CPU_LIMIT: '2' };
  assert.equal(parse(['router'], none).concurrency, 'cpus');
  assert.equal(parse(['router'], { ...none, ISTIO_META_ENGINE: 'envoy' }).concurrency, undefined);
});

test('the key kind follows the environment', () => {
  for (const [env, kind] of [
    [{ MELTEMI_WORKLOAD_KEY: 'rsa' }, 'rsa-2048'],
    [{ WORKLOAD_RSA_KEY_SIZE: '4096' }, 'rsa-4096'],
    [{ ECC_SIGNATURE_ALGORITHM: 'ECDSA', MELTEMI_WORKLOAD_KEY: 'rsa' }, 'p256'],
    [{ ECC_SIGNATURE_ALGORITHM: 'ECDSA', ECC_CURVE: 'P384' }, 'p384'],
  ] as const)
    assert.equal(parse([], env).keyKind, kind);
  for (const env of [
    { WORKLOAD_RSA_KEY_SIZE: '1024' },
    { MELTEMI_WORKLOAD_KEY: 'dsa' },
    { ECC_SIGNATURE_ALGORITHM: 'ED25519' },
    { CA_PROVIDER: 'GoogleCA' },
    { ISTIO_META_DNS_CAPTURE: 'true' },
    { SECRET_TTL: 'soon' },
    { PROXY_CONFIG: '[]' },
    { SECRET_GRACE_PERIOD_RATIO: '2' },
  ])
    assert.throws(() => parse([], env), UsageError, JSON.stringify(env));
  assert.throws(() => parse(['--templateFile=x']), /--templateFile=x/);
});

test('durations, downward labels, renewal times', () => {
  assert.equal(durationMs('1h30m', 'x', 0), 5_400_000);
  assert.equal(durationMs('1.5s', 'x', 0), 1500);
  for (const bad of ['5', 's', '1x', '1s ', '-1s']) assert.throws(() => durationMs(bad, 'x', 0), UsageError, bad);
  assert.deepEqual(parseDownward('a="b"\nx/y="q\\"\\n"\n\nnoise'), { a: 'b', 'x/y': 'q"\n' });
  const secret = { receivedAt: 0, expiresAt: 1000 };
  const at = (random: number, graceRatio = 0.5) =>
    renewalDelay(secret, { graceRatio, graceJitter: 0.01, random: () => random });
  assert.deepEqual([at(0.5), Math.round(at(0)), Math.round(at(1)), at(0.5, 1)], [500, 510, 490, 0]);
});

test('readiness speaks as Istio does, remembers success, and ends with the pod', async () => {
  let stats = '';
  const readiness = createReadiness({ readStats: async () => stats });
  const says = async (text: string, problem: RegExp | undefined) => {
    stats = text;
    const got = await readiness.check();
    if (problem) assert.match(got ?? 'ready', problem);
    else assert.equal(got, undefined);
  };
  await says('', /^config not received from XDS server \(is Istiod running\?\): cds updates: 0 successful, 0 rejected/);
  await says('cluster_manager.cds.update_rejected: 1', /^config received from XDS server, but was rejected: /);
  await says('cluster_manager.cds.update_success: 1', /^config not fully received from XDS server: /);
  const both = 'cluster_manager.cds.update_success: 1\nlistener_manager.lds.update_success: 2\n';
  await says(`${both}server.state: 2`, /^server is not live, current state is: PRE_INITIALIZING$/);
  await says(`${both}server.state: 0\nlistener_manager.workers_started: 0`, /^workers have not yet started$/);
  await says('server.state: 0\nlistener_manager.workers_started: 1', undefined);
  await says('', undefined);
  readiness.terminating();
  await says('', /terminating/);
});

test('only connections of the application count', () => {
  const page = 'listener.0.0.0.0_15006.downstream_cx_active: 2\nlistener.0.0.0.0_15021.downstream_cx_active: 7\n';
  assert.equal(countActive(`${page}listener.admin.downstream_cx_active: 1\nhttp.x.downstream_cx_active: 4\n`), 2);
});

test("the proxy's command line is Istio's", () => {
  const settings = {
    config: 'etc/istio/proxy/envoy-rev.json',
    drainSeconds: 45,
    logLevel: 'warning',
    componentLogLevel: 'misc:error',
    concurrency: 2,
    configYaml: undefined,
  } as const;
  assert.match(envoyArguments({ ...settings, concurrency: 'cpus' }).join(' '), / --cpuset-threads$/);
  assert.equal(
    envoyArguments(settings).join(' '),
    '-c etc/istio/proxy/envoy-rev.json --drain-time-s 45 --drain-strategy immediate --local-address-ip-version v4 --file-flush-interval-msec 1000 --disable-hot-restart --allow-unknown-static-fields -l warning --component-log-level misc:error --concurrency 2',
  );
});

async function fakeProxy(t: TestContext, script: string) {
  const directory = mkdtempSync(path.join(tmpdir(), 'identity-envoy-'));
  const calls: string[] = [];
  const admin = createServer((request, response) => {
    calls.push(`${request.method} ${request.url}`);
    response.end('OK');
  });
  await new Promise<void>((resolve) => admin.listen(0, '127.0.0.1', resolve));
  t.after(() => {
    admin.close();
    rmSync(directory, { recursive: true });
  });
  const file = path.join(directory, 'envoy');
  writeFileSync(file, `#!/bin/sh\necho run >> ${directory}/runs\n${script}\n`, { mode: 0o755 });
  const clock = createFakeClock(0);
  const exited = Promise.withResolvers<number>();
  const options: EnvoyOptions = {
    command: file,
    args: [],
    env: process.env,
    adminPort: (admin.address() as AddressInfo).port,
    role: 'sidecar',
    terminationDrainMs: 5000,
    exitOnZeroConnections: false,
    minimumDrainMs: 5000,
    clock,
    random: () => 0.5,
    log: silentLog,
    onExit: (code) => exited.resolve(code),
  };
  const runs = () => {
    try {
      return readFileSync(path.join(directory, 'runs'), 'utf8').split('\n').length - 1;
    } catch {
      return 0;
    }
  };
  return { options, clock, calls, exited: exited.promise, runs };
}

const turn = () => new Promise((resolve) => setTimeout(resolve, 1));

test('a crashing proxy is started again, a limited number of times', async (t) => {
  const { options, clock, exited, runs } = await fakeProxy(t, 'exit 3');
  startEnvoy(options);
  let code: number | undefined;
  exited.then((value) => {
    code = value;
  });
  while (code === undefined) {
    await turn();
    await clock.advance(clock.nextIn() ?? 0);
  }
  assert.equal(code, 1);
  assert.equal(runs(), MAX_RESTARTS + 1);
});

test('a proxy told to quit ends the agent with success', async (t) => {
  const { options, exited } = await fakeProxy(t, 'exit 0');
  startEnvoy(options);
  assert.equal(await exited, 0);
});

test('the end: drain inbound listeners, wait, then end the proxy; after preStop at once', async (t) => {
  const first = await fakeProxy(t, 'exec sleep 60');
  const envoy = startEnvoy(first.options);
  while (first.runs() === 0) await turn();
  let ended = false;
  const end = envoy.terminate().then(() => {
    ended = true;
  });
  while (first.clock.nextIn() === undefined) await turn();
  await first.clock.advance(4999);
  assert.equal(ended, false);
  await first.clock.advance(1);
  await end;
  assert.deepEqual(first.calls, ['POST /drain_listeners?inboundonly&graceful']);

  const second = await fakeProxy(t, 'exec sleep 60');
  const gateway = startEnvoy({ ...second.options, role: 'router' });
  while (second.runs() === 0) await turn();
  await gateway.drain();
  await gateway.terminate();
  assert.deepEqual(second.calls, ['POST /drain_listeners?graceful&skip_exit']);
});

test('with EXIT_ON_ZERO_ACTIVE_CONNECTIONS the proxy ends when its last connection is gone', async (t) => {
  const { options, clock, runs } = await fakeProxy(t, 'exec sleep 60');
  let active = 2;
  const admin = createServer((_, response) =>
    response.end(`listener.0.0.0.0_15006.downstream_cx_active: ${active--}\n`),
  );
  await new Promise<void>((resolve) => admin.listen(0, '127.0.0.1', resolve));
  t.after(() => admin.close());
  const { port } = admin.address() as AddressInfo;
  const envoy = startEnvoy({ ...options, adminPort: port, exitOnZeroConnections: true, minimumDrainMs: 0 });
  while (runs() === 0) await turn();
  let ended = false;
  envoy.terminate().then(() => {
    ended = true;
  });
  // Killing after a grace is a timer too: advance only while waiting for connections.
  while (!ended) {
    await turn();
    if ((clock.nextIn() ?? 5000) <= 1000) await clock.advance(1000);
  }
  // One answer went to the drain request, two said that connections were left.
  assert.equal(active, -1);
});

test('wait ends when the proxy is ready, or with status 1 after its time', async (t) => {
  let answers = 0;
  const server = createServer((_, response) => {
    answers += 1;
    response.statusCode = answers > 2 ? 200 : 503;
    response.end('body');
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => server.close());
  const { port } = server.address() as AddressInfo;
  let text = '';
  let now = 0;
  const clock: Clock = {
    now: () => now,
    after(ms, run) {
      now += ms;
      setImmediate(run);
      return () => {};
    },
  };
  const io = { clock, out: (part: string) => (text += part), err: (part: string) => (text += part) };
  assert.equal(await runWait(['--url', `http://localhost:${port}/healthz/ready`, '--periodMillis=10'], io), 0);
  assert.equal(answers, 3);
  server.close();
  server.closeAllConnections();
  assert.equal(await runWait(['--url', `http://localhost:${port}/`, '--timeoutSeconds', '2'], io), 1);
  assert.match(text, /timeout waiting for Envoy proxy to become ready\. Last error: connect ECONNREFUSED/);
  assert.equal(await runRequest(['--debug-port', String(port), 'POST', 'drain'], io), 1);
  await assert.rejects(runRequest(['POST'], io), UsageError);
});
