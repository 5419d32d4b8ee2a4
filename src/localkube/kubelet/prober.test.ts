import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { createServer as createHttp2, type ServerHttp2Stream } from 'node:http2';
import { type AddressInfo, connect, createServer as createTcp, type Server, type Socket } from 'node:net';
import { after, test } from 'node:test';
import type { Probe, ProbeHandler } from '../../api/kubernetes/container.ts';
import type { Clock } from '../../base/runtime/clock.ts';
import type { Execution } from './exec.ts';
import { healthRequest, type ProbeResult, parseHealth, runProbe } from './probe-run.ts';
import { startProber } from './prober.ts';

/** Time that moves only when told; waits for promises between timers. */
function manualClock(): Clock & { run(ms: number): Promise<void> } {
  let now = 0;
  let timers: { at: number; run: () => void }[] = [];
  return {
    now: () => now,
    after(delayMs, run) {
      const timer = { at: now + delayMs, run };
      timers.push(timer);
      return () => {
        timers = timers.filter((t) => t !== timer);
      };
    },
    async run(ms) {
      const end = now + ms;
      for (;;) {
        await new Promise((resolve) => setImmediate(resolve));
        const next = timers.filter((t) => t.at <= end).sort((a, b) => a.at - b.at)[0];
        if (!next) break;
        now = next.at;
        timers = timers.filter((t) => t !== next);
        next.run();
      }
      now = end;
    },
  };
}

function probing(
  container: { readinessProbe?: Probe; livenessProbe?: Probe; startupProbe?: Probe },
  answer: (kind: Probe, now: number) => boolean,
) {
  const clock = manualClock();
  const seen: string[] = [];
  const prober = startProber({
    container: { name: 'c', ...container },
    clock,
    startedAt: 0,
    startupPassed: !container.startupProbe,
    ready: false,
    run: async (probe): Promise<ProbeResult> =>
      answer(probe, clock.now()) ? { ok: true } : { ok: false, message: 'no' },
    listener: {
      onStarted: () => seen.push(`${clock.now()} started`),
      onReady: (ready) => seen.push(`${clock.now()} ready=${ready}`),
      onFailure: (kind) => seen.push(`${clock.now()} ${kind} failed`),
      onUnhealthy: (kind) => seen.push(`${clock.now()} kill by ${kind}`),
    },
  });
  return { clock, seen, prober };
}
const http = { httpGet: { port: 80 } };
const command = { exec: { command: ['x'] } };

test('a container that listens after 300 ms is ready soon after, and early looks count for nothing', async () => {
  const { clock, seen } = probing({ readinessProbe: { ...http, periodSeconds: 10 } }, (_, now) => now >= 300);
  await clock.run(2000);
  assert.equal(seen.length, 1);
  assert.match(seen[0]!, /^(3|4)\d\d ready=true$/);
});

test('liveness kills at its threshold, and starts only after startup has passed', async () => {
  const { clock, seen } = probing(
    {
      startupProbe: { ...command, periodSeconds: 1, failureThreshold: 5 },
      livenessProbe: { ...command, periodSeconds: 2, failureThreshold: 2, timeoutSeconds: 7 },
    },
    (probe, now) => probe.timeoutSeconds !== 7 && now >= 2000,
  );
  await clock.run(4000);
  assert.deepEqual(seen, [
    '0 startup failed',
    '1000 startup failed',
    '2000 started',
    '2000 liveness failed',
    '4000 liveness failed',
    '4000 kill by liveness',
  ]);
});

test('readiness changes only after its thresholds', async () => {
  const { clock, seen, prober } = probing(
    { readinessProbe: { ...command, periodSeconds: 1, successThreshold: 2, failureThreshold: 2 } },
    (_, now) => now < 3000 || now >= 6000,
  );
  await clock.run(8000);
  prober.stop();
  await clock.run(8000);
  assert.deepEqual(seen, [
    '1000 ready=true',
    '3000 readiness failed',
    '4000 readiness failed',
    '4000 ready=false',
    '5000 readiness failed',
    '7000 ready=true',
  ]);
});

const servers: { close(): void }[] = [];
after(() => {
  for (const server of servers) server.close();
});
async function listen(server: Server): Promise<number> {
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return (server.address() as AddressInfo).port;
}
const network = {
  dial: (ip: string, port: number): Promise<Socket> =>
    new Promise((resolve, reject) => {
      const socket = connect(port, ip, () => resolve(socket));
      socket.on('error', reject);
    }),
};
const execution: Execution = {
  run: async () => ({ kind: 'exited', code: 0 }),
  capture: async (_, words) => ({ code: words[0] === 'good' ? 0 : 1, output: 'sick' }),
};
const probe = (handler: ProbeHandler, timeoutMs = 2000) =>
  runProbe(handler, { podIp: '127.0.0.1', containerId: 'x', container: { name: 'c' } }, timeoutMs, {
    network,
    execution,
  });

test('HTTP probes: status, redirect, refusal, silence', async () => {
  const port = await listen(
    createServer((request, response) => {
      if (request.url === '/slow') return;
      response.writeHead(request.url === '/moved' ? 302 : request.headers.host === 'h' ? 200 : 503).end();
    }),
  );
  const get = (path: string, host?: string) => ({
    httpGet: { port, path, httpHeaders: host ? [{ name: 'Host', value: host }] : [] },
  });
  assert.deepEqual(await probe(get('/')), { ok: false, message: 'HTTP probe failed with statuscode: 503' });
  assert.deepEqual(await probe(get('/', 'h')), { ok: true });
  assert.deepEqual(await probe(get('/moved')), { ok: true });
  assert.deepEqual(await probe(get('/slow'), 50), {
    ok: false,
    message: `Get "http://127.0.0.1:${port}/slow": context deadline exceeded (Client.Timeout exceeded while awaiting headers)`,
  });
  const closed = await listen(createTcp());
  servers.at(-1)?.close();
  assert.deepEqual(await probe({ httpGet: { port: closed } }), {
    ok: false,
    message: `Get "http://127.0.0.1:${closed}/": dial tcp 127.0.0.1:${closed}: connect: connection refused`,
  });
  assert.deepEqual(await probe({ tcpSocket: { port } }), { ok: true });
  assert.deepEqual(await probe({ tcpSocket: { port: 'none' } }), { ok: false, message: `couldn't find port: "none"` });
});

test('command probes', async () => {
  assert.deepEqual(await probe({ exec: { command: ['good'] } }), { ok: true });
  assert.deepEqual(await probe({ exec: { command: ['bad'] } }), { ok: false, message: 'sick' });
});

test('gRPC health', async () => {
  const states: Readonly<Record<string, number>> = { '': 1, down: 2 };
  const server = createHttp2();
  server.on('stream', (stream: ServerHttp2Stream) => {
    const chunks: Buffer[] = [];
    stream.on('data', (chunk: Buffer) => chunks.push(chunk));
    stream.on('end', () => {
      const service = Buffer.concat(chunks).subarray(7).toString();
      const state = states[service];
      stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
      stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': state === undefined ? '5' : '0' }));
      stream.end(state === undefined ? undefined : Buffer.from([0, 0, 0, 0, 2, 0x08, state]));
    });
  });
  const port = await listen(server);
  assert.deepEqual(await probe({ grpc: { port } }), { ok: true });
  assert.deepEqual(await probe({ grpc: { port, service: 'down' } }), {
    ok: false,
    message: 'service unhealthy (responded with "NOT_SERVING")',
  });
  assert.deepEqual(await probe({ grpc: { port, service: 'what' } }), {
    ok: false,
    message: 'error: health rpc probe failed: rpc error: code = 5',
  });
  assert.equal(healthRequest('x'.repeat(200)).length, 5 + 3 + 200);
  assert.equal(parseHealth(Buffer.alloc(5)), 0);
});
