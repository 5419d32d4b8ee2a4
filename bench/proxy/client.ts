// Load that no tool in Debian makes: TLS connections (full and resumed), paced requests with latencies, idle connections.
// Run by scenarios.ts as a process of its own on the load core: client.ts JOB PORT ARGS…; prints JSON.
import { readFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { connect as connectTls, createSecureContext, type TLSSocket } from 'node:tls';

const REQUEST = 'GET / HTTP/1.1\r\nhost: bench\r\n\r\n';
const BURST = 4;

interface TlsFiles {
  readonly ca: string;
  readonly clientCertificate: string;
  readonly clientKey: string;
}

function context(file: string) {
  const files = JSON.parse(readFileSync(file, 'utf8')) as TlsFiles;
  return createSecureContext({
    ca: readFileSync(files.ca),
    cert: readFileSync(files.clientCertificate),
    key: readFileSync(files.clientKey),
    ecdhCurve: 'X25519',
  });
}

/** Opens connections one after another on `lanes` lanes for `seconds`; each makes one request and closes. */
async function connections(port: number, seconds: number, tlsFile: string, resume: boolean, lanes = 8) {
  const secureContext = tlsFile === '-' ? undefined : context(tlsFile);
  const deadline = performance.now() + seconds * 1000;
  let made = 0;
  let resumed = 0;
  const lane = async (): Promise<void> => {
    let session: Buffer | undefined;
    while (performance.now() < deadline) {
      await new Promise<void>((resolve, reject) => {
        const socket: Socket = secureContext
          ? connectTls({
              port,
              host: '127.0.0.1',
              secureContext,
              rejectUnauthorized: false,
              servername: 'server.bench',
              ...(resume && session ? { session } : {}),
            })
          : connect(port, '127.0.0.1');
        socket.setNoDelay(true);
        socket.once('error', reject);
        if (secureContext) (socket as TLSSocket).on('session', (ticket: Buffer) => (session = ticket));
        socket.once(secureContext ? 'secureConnect' : 'connect', () => {
          if (secureContext && (socket as TLSSocket).isSessionReused()) resumed += 1;
          socket.write(REQUEST);
        });
        socket.once('data', () => {
          made += 1;
          // The ticket of TLS 1.3 comes with or before the answer.
          socket.destroy();
          resolve();
        });
      });
    }
  };
  await Promise.all(Array.from({ length: lanes }, lane));
  return { made, resumed };
}

/** `perSecond` requests in small bursts over kept connections; latencies in ms. */
async function paced(port: number, seconds: number, perSecond: number) {
  const sockets = await Promise.all(
    Array.from(
      { length: BURST },
      () =>
        new Promise<Socket>((resolve, reject) => {
          const socket = connect(port, '127.0.0.1', () => resolve(socket));
          socket.setNoDelay(true);
          socket.once('error', reject);
        }),
    ),
  );
  const latencies: number[] = [];
  const total = seconds * perSecond;
  const gapMs = (BURST / perSecond) * 1000;
  const started = performance.now();
  for (let sent = 0; sent < total; sent += BURST) {
    const due = started + (sent / BURST) * gapMs;
    const wait = due - performance.now();
    if (wait > 0) await new Promise((resolve) => setTimeout(resolve, wait));
    await Promise.all(
      sockets.map(
        (socket) =>
          new Promise<void>((resolve) => {
            const from = performance.now();
            let bytes = 0;
            const onData = (chunk: Buffer): void => {
              bytes += chunk.length;
              if (bytes < 1024) return;
              socket.off('data', onData);
              latencies.push(performance.now() - from);
              resolve();
            };
            socket.on('data', onData);
            socket.write(REQUEST);
          }),
      ),
    );
  }
  for (const socket of sockets) socket.destroy();
  latencies.sort((a, b) => a - b);
  const at = (q: number): number =>
    latencies[Math.min(latencies.length - 1, Math.floor(q * latencies.length))] ?? Number.NaN;
  return { p50: at(0.5), p99: at(0.99), n: latencies.length };
}

/** Holds `count` connections that made one request each; prints when they stand and waits for the end of input. */
async function idle(port: number, count: number, tlsFile: string): Promise<void> {
  const secureContext = tlsFile === '-' ? undefined : context(tlsFile);
  const open = (): Promise<Socket> =>
    new Promise((resolve, reject) => {
      const socket: Socket = secureContext
        ? connectTls({ port, host: '127.0.0.1', secureContext, rejectUnauthorized: false, servername: 'server.bench' })
        : connect(port, '127.0.0.1');
      socket.once('error', reject);
      socket.once(secureContext ? 'secureConnect' : 'connect', () => socket.write(REQUEST));
      socket.once('data', () => resolve(socket));
    });
  const held: Socket[] = [];
  while (held.length < count) held.push(...(await Promise.all(Array.from({ length: 20 }, open))));
  process.stdout.write('standing\n');
  await new Promise((resolve) => process.stdin.on('end', resolve).resume());
  for (const socket of held) socket.destroy();
}

const [job, port, ...args] = process.argv.slice(2);
const number = (i: number): number => Number(args[i]);
if (job === 'connections') {
  const result = await connections(Number(port), number(0), args[1] ?? '-', args[2] === 'resume');
  process.stdout.write(`${JSON.stringify(result)}\n`);
} else if (job === 'paced')
  process.stdout.write(`${JSON.stringify(await paced(Number(port), number(0), number(1)))}\n`);
else if (job === 'idle') await idle(Number(port), number(0), args[1] ?? '-');
else throw new Error(`unknown job ${job}`);
process.exit(0);
