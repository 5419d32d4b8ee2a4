// The agent's small commands: `wait` (application held until the proxy is ready) and `request` (talk to the local admin port).
// Called by main.ts.
import { type Clock, delay } from '../../base/runtime/clock.ts';
import { errorText } from '../../base/runtime/log.ts';
import { readText } from './http.ts';
import { UsageError } from './options.ts';

export interface CommandIo {
  readonly clock: Clock;
  readonly out: (text: string) => void;
  readonly err: (text: string) => void;
}

const REQUEST_TIMEOUT_MS = 10_000;

/** `wait [--url U] [--timeoutSeconds 60] [--periodMillis 500] [--requestTimeoutMillis 500]`; resolves with the exit status. */
export async function runWait(args: readonly string[], io: CommandIo): Promise<number> {
  const flags = parseFlags('wait', args, ['url', 'timeoutSeconds', 'periodMillis', 'requestTimeoutMillis']);
  const url = new URL(flags.named.get('url') ?? 'http://localhost:15021/healthz/ready');
  const timeoutMs = positive(flags.named, 'timeoutSeconds', 60) * 1000;
  const periodMs = positive(flags.named, 'periodMillis', 500);
  const requestMs = positive(flags.named, 'requestTimeoutMillis', 500);
  const end = io.clock.now() + timeoutMs;
  let last = '';
  io.out(`Waiting for Envoy proxy to be ready (timeout: ${timeoutMs / 1000} seconds)...\n`);
  while (io.clock.now() < end) {
    try {
      const answer = await readText({ ...target(url), method: 'GET', timeoutMs: requestMs });
      if (answer.status === 200) {
        io.out('Envoy is ready!\n');
        return 0;
      }
      last = `HTTP status code ${answer.status}`;
    } catch (error) {
      last = errorText(error);
    }
    io.out(`Not ready yet: ${last}\n`);
    await delay(io.clock, periodMs);
  }
  io.err(`timeout waiting for Envoy proxy to become ready. Last error: ${last}\n`);
  return 1;
}

function target(url: URL): { readonly host: string; readonly port: number; readonly path: string } {
  // Inside a pod only IPv4 is sure to be there; the name localhost may lead to ::1.
  const host = url.hostname === 'localhost' ? '127.0.0.1' : url.hostname;
  return { host, port: Number(url.port || 80), path: url.pathname + url.search };
}

/** `request [--debug-port 15000] METHOD PATH [BODY]`; prints the answer's body. */
export async function runRequest(args: readonly string[], io: CommandIo): Promise<number> {
  const { named, rest } = parseFlags('request', args, ['debug-port']);
  const [method, path, body, ...more] = rest;
  if (method === undefined || path === undefined || more.length > 0)
    throw new UsageError('pilot-agent request: usage: request [--debug-port 15000] METHOD PATH [BODY]');
  const port = positive(named, 'debug-port', 15_000);
  try {
    const answer = await readText({
      method: method.toUpperCase(),
      port,
      path: path.startsWith('/') ? path : `/${path}`,
      timeoutMs: REQUEST_TIMEOUT_MS,
      body,
    });
    io.out(answer.body);
    if (answer.status >= 200 && answer.status < 300) return 0;
    io.err(`Error: received unsuccessful status code ${answer.status}\n`);
  } catch (error) {
    io.err(`Error: failed to ask 127.0.0.1:${port}: ${errorText(error)}\n`);
  }
  return 1;
}

function positive(named: ReadonlyMap<string, string>, name: string, fallback: number): number {
  const text = named.get(name);
  const value = text === undefined ? fallback : Number(text);
  if (!(value > 0) || !Number.isFinite(value)) throw new UsageError(`--${name} ${text} is not a positive number`);
  return value;
}

function parseFlags(
  command: string,
  args: readonly string[],
  known: readonly string[],
): { readonly named: ReadonlyMap<string, string>; readonly rest: readonly string[] } {
  const named = new Map<string, string>();
  const rest: string[] = [];
  for (let i = 0; i < args.length; i += 1) {
    const arg = args[i] ?? '';
    const match = /^--([A-Za-z-]+)(?:=(.*))?$/.exec(arg);
    if (!match) {
      rest.push(arg);
      continue;
    }
    const name = match[1] ?? '';
    const value = match[2] ?? args[++i];
    if (!known.includes(name)) throw new UsageError(`pilot-agent ${command}: unknown flag --${name}`);
    if (value === undefined) throw new UsageError(`pilot-agent ${command}: flag --${name} needs a value`);
    named.set(name, value);
  }
  return { named, rest };
}
