// The lab's webapp: /api/catalog asks the catalog service and hands its list on. Image istioinaction/webapp, port 8080.
// It passes the trace headers of the incoming request along, as every application in a mesh must.
import { Agent, type IncomingMessage, request, type ServerResponse } from 'node:http';
import { MAX_BODY_BYTES, sendJson, serve } from './serve.ts';

const namespace = process.env.KUBERNETES_NAMESPACE ?? 'istioinaction';
const catalogHost = process.env.CATALOG_HOST ?? `catalog.${namespace}`;
const catalogPort = Number(process.env.CATALOG_PORT ?? 80);
const agent = new Agent({ keepAlive: true, maxSockets: 256 });
const PASSED_ON = [
  'x-request-id',
  'traceparent',
  'tracestate',
  'b3',
  'x-b3-traceid',
  'x-b3-spanid',
  'x-b3-parentspanid',
  'x-b3-sampled',
  'x-b3-flags',
];

serve(Number(process.env.PORT ?? 8080), (req, res) => {
  const path = (req.url ?? '/').split('?')[0]!;
  if (path === '/api/catalog') return ask(req, res, '/items');
  const item = /^\/api\/catalog\/items\/(\d+)$/.exec(path);
  if (item) return ask(req, res, `/items/${item[1]}`);
  if (path === '/') return sendJson(res, 200, { service: 'webapp', try: '/api/catalog' });
  sendJson(res, 404, { error: 'not found' });
});

function ask(req: IncomingMessage, res: ServerResponse, path: string): void {
  const headers: Record<string, string> = {};
  for (const name of PASSED_ON) {
    const value = req.headers[name];
    if (typeof value === 'string') headers[name] = value;
  }
  const failed = (why: string): void => {
    if (!res.headersSent) sendJson(res, 500, { error: `error calling catalog service: ${why}` });
  };
  const upstream = request(
    { host: catalogHost, port: catalogPort, path, headers, agent, timeout: 10_000 },
    (answer) => {
      const chunks: Buffer[] = [];
      let size = 0;
      answer.on('data', (chunk: Buffer) => {
        size += chunk.length;
        if (size > MAX_BODY_BYTES) answer.destroy(new Error('answer too large'));
        else chunks.push(chunk);
      });
      answer.on('error', (error) => failed(error.message));
      answer.on('end', () => {
        if (answer.statusCode !== 200) return failed(`status ${answer.statusCode}`);
        const body = Buffer.concat(chunks);
        res.writeHead(200, { 'content-type': 'application/json; charset=utf-8', 'content-length': body.length });
        res.end(body);
      });
    },
  );
  upstream.on('timeout', () => upstream.destroy(new Error('no answer within 10 s')));
  upstream.on('error', (error) => failed(error.message));
  upstream.end();
}
