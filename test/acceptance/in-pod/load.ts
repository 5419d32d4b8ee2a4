// Run inside an application container by the fault tests: keeps N requests in flight until standard input closes, at least
// `--least` of them, then prints {"ok":…,"failed":…,"errors":{…}} on one line.
// Usage: load.ts --url URL [--concurrency N] [--least N]
import { Agent, get } from 'node:http';
import { parseArgs } from 'node:util';

const { values } = parseArgs({
  options: {
    url: { type: 'string' },
    concurrency: { type: 'string', default: '100' },
    least: { type: 'string', default: '2000' },
  },
});
const agent = new Agent({ keepAlive: true, maxSockets: Number(values.concurrency) });
const errors: Record<string, number> = {};
let ok = 0;
let failed = 0;
let stopping = false;

function count(error: string): void {
  failed += 1;
  errors[error] = (errors[error] ?? 0) + 1;
}

function one(): Promise<void> {
  return new Promise((resolve) => {
    const request = get(values.url!, { agent, timeout: 20_000 }, (response) => {
      let body = '';
      response.setEncoding('utf8');
      response.on('data', (chunk: string) => {
        body += chunk;
      });
      response.on('end', () => {
        if (response.statusCode === 200) ok += 1;
        else count(`${response.statusCode} ${body.slice(0, 200)}`);
        resolve();
      });
      response.on('error', (error) => {
        count(error.message);
        resolve();
      });
    });
    request.on('timeout', () => request.destroy(new Error('no answer within 20 s')));
    request.on('error', (error) => {
      count(error.message);
      resolve();
    });
  });
}

process.stdin.on('end', () => {
  stopping = true;
});
process.stdin.resume();
const least = Number(values.least);
console.log('started');
await Promise.all(
  Array.from({ length: Number(values.concurrency) }, async () => {
    while (!stopping || ok + failed < least) await one();
  }),
);
console.log(JSON.stringify({ ok, failed, errors }));
process.exit(0);
