// One small HTTP request with a limit on time and size. Used by the agent's parts and its `wait` and `request` commands.
import { request } from 'node:http';

export const MAX_BODY_BYTES = 16 * 1024 * 1024;

export interface SmallRequest {
  readonly method: string;
  /** 127.0.0.1 when absent. */
  readonly host?: string;
  readonly port: number;
  readonly path: string;
  readonly timeoutMs: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
}

export interface SmallAnswer {
  readonly status: number;
  readonly contentType: string | undefined;
  readonly body: string;
}

/** Rejects when there is no whole answer in time, or it is too large. */
export function readText(what: SmallRequest): Promise<SmallAnswer> {
  return new Promise((resolve, reject) => {
    const call = request(
      {
        host: what.host ?? '127.0.0.1',
        port: what.port,
        path: what.path,
        method: what.method,
        headers: what.headers,
        agent: false,
      },
      (answer) => {
        const parts: Buffer[] = [];
        let size = 0;
        answer.on('data', (part: Buffer) => {
          size += part.length;
          if (size > MAX_BODY_BYTES) call.destroy(new Error(`the answer is larger than ${MAX_BODY_BYTES} bytes`));
          else parts.push(part);
        });
        answer.on('error', reject);
        answer.on('end', () =>
          resolve({
            status: answer.statusCode ?? 0,
            contentType: answer.headers['content-type'],
            body: Buffer.concat(parts).toString('utf8'),
          }),
        );
      },
    );
    const timer = setTimeout(() => call.destroy(new Error(`no answer within ${what.timeoutMs} ms`)), what.timeoutMs);
    call.on('error', reject);
    call.on('close', () => clearTimeout(timer));
    call.end(what.body);
  });
}
