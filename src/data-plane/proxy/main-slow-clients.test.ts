// Many clients that trickle or never read (slowloris), against the whole program: what they cost is bounded, others are served,
// and each is sent away in the end.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { type TestContext, test } from 'node:test';
import { ask, bootstrap, hcm, listener, routes, startApp, staticCluster, toCluster } from './testing/engine.ts';
import { eventually, startProgram } from './testing/program.ts';

const CLIENTS = 500;
/** A head may take 60 KiB, and the buffer it grows in twice that; measured 32 KB, most of it code that grew warm. */
const MOST_BYTES_EACH = 192 * 1024;
/** Reading one byte and finding no end of the head: measured 9 µs. */
const MOST_CPU_US_A_BYTE = 300;
const CLOCK_TICK_US = 10_000;

function used(pid: number): { readonly rss: number; readonly cpuUs: number } {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return {
    rss: Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1]) * 1024,
    cpuUs: (Number(fields[11]) + Number(fields[12])) * CLOCK_TICK_US,
  };
}

async function crowd(t: TestContext, port: number, first: string): Promise<Socket[]> {
  const sockets = await Promise.all(
    Array.from(
      { length: CLIENTS },
      () =>
        new Promise<Socket>((resolve, reject) => {
          const socket = connect(port, '127.0.0.1', () => {
            socket.write(first);
            resolve(socket);
          });
          socket.setNoDelay(true);
          socket.once('error', reject);
        }),
    ),
  );
  for (const socket of sockets) socket.on('error', () => {});
  t.after(() => {
    for (const socket of sockets) socket.destroy();
  });
  return sockets;
}

test('heads that trickle cost little, keep nobody waiting, and end with 408', { timeout: 60_000 }, async (t) => {
  const app = await startApp(t, 'hello');
  const program = await startProgram(
    t,
    bootstrap(
      [
        listener('in', [{ filters: [hcm(routes([toCluster('app')]), { request_headers_timeout: '3s' })] }]),
        listener('other', [{ filters: [hcm(routes([toCluster('app')]))] }]),
      ],
      [staticCluster('app', [app.port])],
    ),
    1,
  );
  const port = await program.port('in');
  const other = await program.port('other');
  // Code that runs for the first time takes memory too.
  for (const socket of await crowd(t, port, 'GET / HTTP/1.1\r\nx-first: ')) socket.destroy();
  for (let i = 0; i < 200; i++) await ask(port);
  const before = used(program.pid);
  const sockets = await crowd(t, port, 'GET / HTTP/1.1\r\nx-slow: ');
  let open = CLIENTS;
  const answers: string[] = [];
  for (const socket of sockets) {
    socket.on('data', (chunk: Buffer) => answers.push(chunk.toString()));
    socket.on('close', () => {
      open -= 1;
    });
  }
  let bytes = 0;
  let most = 0;
  await eventually('all are sent away', async () => {
    for (const socket of sockets)
      if (socket.writable) {
        socket.write('a');
        bytes += 1;
      }
    assert.equal((await ask(port)).body, 'hello');
    assert.equal((await ask(other)).body, 'hello');
    most = Math.max(most, used(program.pid).rss);
    return open === 0;
  });
  const after = used(program.pid);
  const seen = answers.filter((answer) => answer.startsWith('HTTP/1.1 408 ')).length;
  // Who writes while he is sent away may get a reset in place of the answer.
  assert.ok(seen > 0, 'they hear 408');
  assert.ok((most - before.rss) / CLIENTS < MOST_BYTES_EACH, `${(most - before.rss) / CLIENTS} bytes a connection`);
  const each = (after.cpuUs - before.cpuUs) / (bytes + CLIENTS);
  assert.ok(each < MOST_CPU_US_A_BYTE, `${each} µs a byte`);
  await eventually('nobody is left', async () => (await program.stat('http.test.downstream_cx_active')) === 0);
});

test('clients that do not read their answers hold a bounded part of them each', { timeout: 60_000 }, async (t) => {
  const large = 'x'.repeat(4 * 1024 * 1024);
  const app = await startApp(t, large);
  const program = await startProgram(
    t,
    bootstrap(
      [
        listener('in', [{ filters: [hcm(routes([toCluster('app')]), { stream_idle_timeout: '2s' })] }]),
        listener('other', [{ filters: [hcm(routes([toCluster('app')]))] }]),
      ],
      [staticCluster('app', [app.port], { circuit_breakers: { thresholds: [{ max_connections: 4 * CLIENTS }] } })],
    ),
    1,
  );
  const port = await program.port('in');
  assert.equal((await ask(await program.port('other'))).body.length, large.length);
  const before = used(program.pid);
  const sockets = await crowd(t, port, 'GET / HTTP/1.1\r\nhost: a\r\n\r\n');
  for (const socket of sockets) socket.pause();
  await eventually('all are answered', async () => (await program.stat('http.test.downstream_rq_active')) > 0);
  let most = 0;
  await eventually('all are sent away', async () => {
    most = Math.max(most, used(program.pid).rss);
    return (await program.stat('http.test.downstream_rq_active')) === 0;
  });
  assert.equal((await ask(await program.port('other'))).body.length, large.length);
  // An answer is 4 MiB; what stands in the proxy is one read and what the arena kept.
  assert.ok((most - before.rss) / CLIENTS < 512 * 1024, `${(most - before.rss) / CLIENTS} bytes a connection`);
});
