// An httpbin-like echo service: /headers /get /post /anything /ip /status/N /delay/S /bytes/N /stream/N /response-headers /uuid.
// Images kennethreitz/httpbin, mccutchen/go-httpbin; port 80 (go-httpbin: 8080).
import { randomBytes, randomUUID } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { readBody, sendJson, serve } from './serve.ts';

const MAX_DELAY_S = 10;
const MAX_BYTES = 100 * 1024;
const MAX_STREAM_LINES = 100;

/** Header names as httpbin shows them: `X-Forwarded-Proto`. */
function shownHeaders(req: IncomingMessage): Record<string, string> {
  const out: Record<string, string> = {};
  for (const [name, value] of Object.entries(req.headers)) {
    const shown = name.replace(/(^|-)[a-z]/g, (c) => c.toUpperCase());
    out[shown] = Array.isArray(value) ? value.join(',') : (value ?? '');
  }
  return out;
}

function origin(req: IncomingMessage): string {
  return String(req.headers['x-forwarded-for'] ?? (req.socket.remoteAddress ?? '').replace(/^::ffff:/, ''));
}

async function anything(req: IncomingMessage, res: ServerResponse, url: URL): Promise<void> {
  const data = await readBody(req);
  let json: unknown = null;
  try {
    json = data === '' ? null : JSON.parse(data);
  } catch {
    // Not JSON: the field stays null, as in httpbin.
  }
  sendJson(
    res,
    200,
    {
      args: Object.fromEntries(url.searchParams),
      data,
      headers: shownHeaders(req),
      json,
      method: req.method,
      origin: origin(req),
      url: url.href,
    },
    2,
  );
}

function stream(res: ServerResponse, req: IncomingMessage, lines: number): void {
  res.writeHead(200, { 'content-type': 'application/json' });
  for (let id = 0; id < lines; id += 1) res.write(`${JSON.stringify({ id, origin: origin(req) })}\n`);
  res.end();
}

serve(Number(process.env.PORT ?? 80), async (req, res) => {
  const url = new URL(req.url ?? '/', `http://${req.headers.host ?? 'httpbin'}`);
  const [, head = '', arg = ''] = url.pathname.split('/');
  const n = Number(arg);
  switch (head) {
    case '':
      res.writeHead(200, { 'content-type': 'text/html' });
      res.end("<html><head><title>httpbin</title></head><body>A small httpbin of Meltemi's labs.</body></html>\n");
      return;
    case 'headers':
      return sendJson(res, 200, { headers: shownHeaders(req) }, 2);
    case 'ip':
      return sendJson(res, 200, { origin: origin(req) }, 2);
    case 'user-agent':
      return sendJson(res, 200, { 'user-agent': req.headers['user-agent'] ?? '' }, 2);
    case 'uuid':
      return sendJson(res, 200, { uuid: randomUUID() }, 2);
    case 'get':
    case 'post':
    case 'put':
    case 'patch':
    case 'delete':
      if (req.method !== head.toUpperCase()) return sendJson(res, 405, { error: 'method not allowed' });
      return anything(req, res, url);
    case 'anything':
      return anything(req, res, url);
    case 'status':
      if (!Number.isInteger(n) || n < 200 || n > 599) return sendJson(res, 400, { error: 'status must be 200 to 599' });
      if (n === 418) {
        res.writeHead(418);
        res.end("I'm a teapot!\n");
        return;
      }
      res.writeHead(n);
      res.end();
      return;
    case 'delay': {
      const seconds = Math.min(Math.max(Number.isFinite(n) ? n : 0, 0), MAX_DELAY_S);
      await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
      return anything(req, res, url);
    }
    case 'bytes':
      res.writeHead(200, { 'content-type': 'application/octet-stream' });
      res.end(randomBytes(Math.min(Math.max(n || 0, 0), MAX_BYTES)));
      return;
    case 'stream':
      return stream(res, req, Math.min(Math.max(n || 0, 0), MAX_STREAM_LINES));
    case 'response-headers':
      for (const [name, value] of url.searchParams) res.setHeader(name, value);
      return sendJson(res, 200, Object.fromEntries(url.searchParams), 2);
    default:
      return sendJson(res, 404, { error: `no such endpoint: ${url.pathname}` });
  }
});
