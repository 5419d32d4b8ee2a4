// What the lab services share: a small HTTP server that stops on SIGTERM. Called by every file in this folder.
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';

/** A request body is never read beyond this. */
export const MAX_BODY_BYTES = 1 << 20;

/** Answers on every address at `port` until SIGTERM; then finishes what is in flight. */
export function serve(port: number, handle: (req: IncomingMessage, res: ServerResponse) => Promise<void> | void): void {
  const server = createServer({ keepAliveTimeout: 300_000 }, (req, res) => {
    Promise.resolve(handle(req, res)).catch((error: unknown) => {
      console.error(error instanceof Error ? error.message : error);
      if (!res.headersSent) res.writeHead(500, { 'content-type': 'text/plain' });
      res.end('internal error\n');
    });
  });
  server.listen(port, '::', () => console.log(`listening on ${port}`));
  process.on('SIGTERM', () => {
    server.close(() => process.exit(0));
    server.closeIdleConnections();
  });
  process.on('SIGINT', () => process.exit(0));
}

export function sendJson(res: ServerResponse, status: number, value: unknown, space?: number): void {
  const body = JSON.stringify(value, null, space);
  res.writeHead(status, {
    'content-type': 'application/json; charset=utf-8',
    'content-length': Buffer.byteLength(body),
  });
  res.end(body);
}

/** The whole body as text; rejects beyond {@link MAX_BODY_BYTES}. */
export async function readBody(req: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of req as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > MAX_BODY_BYTES) throw new Error(`request body over ${MAX_BODY_BYTES} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}
