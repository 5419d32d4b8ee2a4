// The query string of exec, attach and port-forward, and refusals before an upgrade. Called by handlers.ts.
import type { IncomingMessage } from 'node:http';
import { STATUS_CODES } from 'node:http';
import type { Duplex } from 'node:stream';

export const MAX_COMMAND_ARGS = 4096;

export interface ExecQuery {
  readonly container?: string;
  readonly command: readonly string[];
  readonly stdin: boolean;
  readonly stdout: boolean;
  readonly stderr: boolean;
  readonly tty: boolean;
}

export function parseQuery(request: IncomingMessage): URLSearchParams {
  const url = request.url ?? '';
  const at = url.indexOf('?');
  return new URLSearchParams(at === -1 ? '' : url.slice(at + 1));
}

/** A string: why the request is refused (400). */
export function parseExec(query: URLSearchParams, needsCommand: boolean): ExecQuery | string {
  const on = (name: string) => ['true', '1'].includes((query.get(name) ?? '').toLowerCase());
  const command = query.getAll('command');
  if (needsCommand && command.length === 0) return 'you must specify at least one command for the container';
  if (command.length > MAX_COMMAND_ARGS) return `the command has more than ${MAX_COMMAND_ARGS} arguments`;
  const tty = on('tty');
  const wanted = { stdin: on('stdin'), stdout: on('stdout'), stderr: on('stderr') && !tty };
  if (!wanted.stdin && !wanted.stdout && !wanted.stderr) return 'you must specify at least 1 of stdin, stdout, stderr';
  return { ...wanted, tty, command, container: query.get('container') || undefined };
}

const REASONS: Readonly<Record<number, string>> = { 400: 'BadRequest', 403: 'Forbidden', 429: 'TooManyRequests' };

/** Answers with a Status and closes. */
export function refuseUpgrade(socket: Duplex, code: number, message: string): void {
  const reason = REASONS[code] ?? 'InternalError';
  const body = JSON.stringify({
    kind: 'Status',
    apiVersion: 'v1',
    metadata: {},
    status: 'Failure',
    message,
    reason,
    code,
  });
  const head = [
    `HTTP/1.1 ${code} ${STATUS_CODES[code] ?? 'Error'}`,
    'Content-Type: application/json',
    `Content-Length: ${Buffer.byteLength(body)}`,
    'Connection: close',
  ];
  socket.on('error', () => socket.destroy());
  socket.end(`${head.join('\r\n')}\r\n\r\n${body}`);
}
