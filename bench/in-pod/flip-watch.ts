// Run in the client pod by bench/policy.ts: asks URL in plaintext on a new connection again and again, and prints
// `<epoch ms> open|closed` whenever the answer changes. Ends with its standard input.
import { get } from 'node:http';

const PAUSE_MS = 2;
const url = process.argv[2]!;
let last = '';

function ask(): void {
  const request = get(url, { agent: false, timeout: 2000 }, (response) => {
    response.resume();
    response.on('end', () => seen(response.statusCode === 200 ? 'open' : 'closed'));
    response.on('error', () => seen('closed'));
  });
  request.on('timeout', () => request.destroy());
  request.on('error', () => seen('closed'));
}

function seen(state: string): void {
  if (state !== last) console.log(`${Date.now()} ${state}`);
  last = state;
  setTimeout(ask, PAUSE_MS);
}

process.stdin.on('end', () => process.exit(0));
process.stdin.resume();
ask();
