// An nginx-like web server: the welcome page on /, files below NGINX_ROOT when set, 404 otherwise, and an access log in
// nginx's `main` format on standard output. Image nginx, port 80.
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { serve } from './serve.ts';

const WELCOME = `<!DOCTYPE html>
<html>
<head>
<title>Welcome to nginx!</title>
</head>
<body>
<h1>Welcome to nginx!</h1>
<p>This page is served by Meltemi's stand-in for the nginx image.</p>
</body>
</html>
`;
const root = process.env.NGINX_ROOT ?? '/usr/share/nginx/html';

function page(url: string): string | undefined {
  const wanted = path.normalize(decodeURIComponent(url.split('?')[0]!));
  const file = path.join(root, wanted.endsWith('/') ? `${wanted}index.html` : wanted);
  if (!file.startsWith(`${path.normalize(root)}/`)) return undefined;
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return wanted === '/' || wanted === '/index.html' ? WELCOME : undefined;
  }
}

serve(Number(process.env.PORT ?? 80), (req, res) => {
  let body: string | undefined;
  try {
    body = page(req.url ?? '/');
  } catch {
    body = undefined;
  }
  const status = body === undefined ? 404 : 200;
  const text =
    body ?? '<html>\n<head><title>404 Not Found</title></head>\n<body>\n<h1>404 Not Found</h1>\n</body>\n</html>\n';
  res.writeHead(status, {
    server: 'nginx',
    'content-type': 'text/html',
    'content-length': Buffer.byteLength(text),
  });
  res.end(req.method === 'HEAD' ? undefined : text);
  const client = (req.socket.remoteAddress ?? '-').replace(/^::ffff:/, '');
  const quote = (value: string | string[] | undefined): string => `"${String(value ?? '-').replaceAll('"', '\\x22')}"`;
  console.log(
    `${client} - - [${new Date().toISOString()}] "${req.method} ${req.url} HTTP/${req.httpVersion}" ${status} ${Buffer.byteLength(text)} ` +
      `${quote(req.headers.referer)} ${quote(req.headers['user-agent'])} ${quote(req.headers['x-forwarded-for'])}`,
  );
});
