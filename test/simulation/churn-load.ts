// Full load for the churn test, in a process of its own: kept-alive connections, plain and TLS, one request after another on
// each; counts what was wrong. churn-load.ts PLAIN TLS CA-FILE CONNECTIONS; ends when its input ends and prints JSON.
import { readFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';

const [plain, secure, caFile, count] = process.argv.slice(2);
const ca = readFileSync(caFile!);
const totals = { requests: 0, reconnects: 0, failed: 0, wrong: 0, examples: [] as string[] };
let stopping = false;

/** A TLS connection is made anew after so many requests, so that handshakes meet fresh secrets. */
const TLS_REQUESTS = 40;

function open(tls: boolean): Socket {
  return tls
    ? connectTls({ port: Number(secure), host: '127.0.0.1', ca, checkServerIdentity: () => undefined })
    : connect(Number(plain), '127.0.0.1');
}

function lane(number: number, tls: boolean): Promise<void> {
  const target = number % 2 === 0 ? 'a' : 'b';
  const request = `GET /${target} HTTP/1.1\r\nhost: churn\r\n\r\n`;
  return new Promise((done) => {
    let text = '';
    let served = 0;
    let waiting = false;
    let closing = false;
    let socket: Socket;
    const fail = (kind: 'failed' | 'wrong', what: string): void => {
      totals[kind] += 1;
      if (totals.examples.length < 5) totals.examples.push(`${tls ? 'tls' : 'plain'} /${target}: ${what}`);
    };
    const next = (): void => {
      if (stopping) {
        socket.destroy();
        done();
        return;
      }
      if (closing || (tls && served >= TLS_REQUESTS)) {
        socket.destroy();
        begin();
        return;
      }
      waiting = true;
      text = '';
      socket.write(request);
    };
    const begin = (): void => {
      totals.reconnects += 1;
      served = 0;
      closing = false;
      waiting = false;
      const mine = open(tls);
      socket = mine;
      mine.setNoDelay(true);
      mine.once(tls ? 'secureConnect' : 'connect', next);
      mine.on('data', (chunk: Buffer) => {
        text += chunk.toString('latin1');
        const head = text.indexOf('\r\n\r\n');
        if (head < 0) return;
        const length = Number(/content-length: (\d+)/i.exec(text)?.[1] ?? Number.NaN);
        if (Number.isNaN(length)) {
          fail('wrong', text.slice(0, 200));
          mine.destroy();
          return;
        }
        if (text.length < head + 4 + length) return;
        const body = text.slice(head + 4);
        waiting = false;
        served += 1;
        totals.requests += 1;
        closing = /^connection: close/im.test(text.slice(0, head));
        if (!text.startsWith('HTTP/1.1 200 ') || body !== target) fail('wrong', text.slice(0, 200));
        next();
      });
      let broken = '';
      mine.on('error', (error: NodeJS.ErrnoException) => {
        broken = error.code ?? error.message;
      });
      mine.on('close', () => {
        if (socket !== mine || stopping) {
          if (stopping) done();
          return;
        }
        if (waiting || broken !== '' || served === 0) fail('failed', broken || 'closed before the answer');
        begin();
      });
    };
    begin();
  });
}

const lanes = Array.from({ length: Number(count) }, (_, i) => lane(i, i % 4 === 3));
process.stdin.on('end', () => {
  stopping = true;
});
process.stdin.resume();
process.stdout.write('running\n');
await Promise.all(lanes);
process.stdout.write(`${JSON.stringify(totals)}\n`);
process.exit(0);
