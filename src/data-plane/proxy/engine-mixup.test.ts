// Header maps serve many messages, one after the other: no value of one request may ever be seen in another's request, answer,
// copy or log line, however requests of both protocols are mixed, tried again, redirected, mirrored or broken off.
import assert from 'node:assert/strict';
import { Agent, createServer, request as httpRequest } from 'node:http';
import { type ClientHttp2Session, connect, createServer as createHttp2, type ServerHttp2Stream } from 'node:http2';
import { type TestContext, test } from 'node:test';
import type { JsonObject } from '@bufbuild/protobuf';
import {
  bootstrap,
  fileLog,
  hcm,
  listen,
  listener,
  routes,
  startEngine,
  staticCluster,
  typed,
  until,
} from './testing/engine.ts';

const KEY = 'envoy.extensions.upstreams.http.v3.HttpProtocolOptions';
const REQUESTS = 1_200;
const AT_A_TIME = 40;
const KINDS = [
  'ok',
  'retry',
  'redirect',
  'early',
  'break',
  'late',
  'hints',
  'direct',
  'missing',
  'big',
  'gone',
] as const;
type Kind = (typeof KINDS)[number];

/** Numbers that are the same in every run. */
function numbers(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

const random = numbers(7);
const mark = (id: number): string => `<${id}>`;

/** All marks in a text are of one request. */
function pure(text: string, where: string, id?: string): void {
  const marks = new Set(text.match(/<\d+>/g));
  if (id !== undefined) marks.add(id);
  assert.ok(marks.size <= 1, `${where} has values of ${[...marks].join(' and ')}: ${text.slice(0, 1_000)}`);
}

function headersOf(id: number): Record<string, string> {
  const out: Record<string, string> = { 'x-id': mark(id), authorization: `secret ${mark(id)}` };
  for (let i = random(12); i > 0; i--) out[`x-${random(30)}`] = `${mark(id)}${'y'.repeat(random(200))}`;
  return out;
}

const pathOf = (kind: Kind, id: number): string => `/${kind}/${id}?${mark(id)}`.replace('<', '%3C').replace('>', '%3E');
const plain = (text: string): string => text.replaceAll('%3C', '<').replaceAll('%3E', '>');

interface Reply {
  readonly status: number;
  readonly headers: Record<string, string>;
  readonly body: string;
  readonly trailer: string;
}

/** What an application says; undefined = it breaks the connection off, null = nothing. */
class Application {
  readonly problems: string[] = [];
  seen = 0;
  readonly #failed = new Set<string>();

  check(text: string, where: string): void {
    try {
      pure(plain(text), where);
    } catch (error) {
      this.problems.push(String(error));
    }
  }

  answer(path: string): Reply | undefined | null {
    const [, kind, rest] = path.split('/');
    const id = mark(Number.parseInt(rest!, 10));
    this.seen += 1;
    const reply = {
      status: 200,
      headers: { 'x-id': id, 'x-more': `${id} more` },
      body: `body ${id}`,
      trailer: `end ${id}`,
    };
    const first = !this.#failed.has(path);
    this.#failed.add(path);
    if (kind === 'retry' && first) return { ...reply, status: 503 };
    if (kind === 'redirect')
      return { ...reply, status: 302, headers: { ...reply.headers, location: `http://a/ok/${rest}` } };
    if (kind === 'break' && first) return undefined;
    if (kind === 'late') return null;
    if (kind === 'big') return { ...reply, body: `${id} ${'z'.repeat(200_000)}` };
    return reply;
  }
}

async function http1App(t: TestContext, app: Application): Promise<number> {
  const server = createServer({ keepAliveTimeout: 60_000 }, (request, response) => {
    const path = request.url ?? '';
    app.check(`${path} ${JSON.stringify(request.headers)}`, 'request of HTTP/1');
    const send = (): void => {
      const reply = app.answer(path);
      if (reply === null) return;
      if (!reply) {
        request.socket.destroy();
        return;
      }
      if (path.startsWith('/hints')) response.writeEarlyHints({ link: '</x>', 'x-hint': reply.headers['x-id']! });
      response.writeHead(reply.status, { ...reply.headers, trailer: 'x-tail' });
      response.write(reply.body);
      response.addTrailers({ 'x-tail': reply.trailer });
      response.end();
    };
    let body = '';
    request.on('error', () => {});
    request.on('data', (chunk) => {
      body += chunk;
    });
    if (path.startsWith('/early')) send();
    else
      request.on('end', () => {
        app.check(`${path} ${body} ${JSON.stringify(request.trailers)}`, 'body of HTTP/1');
        send();
      });
  });
  return listen(t, server);
}

async function http2App(t: TestContext, app: Application): Promise<number> {
  const server = createHttp2();
  server.on('sessionError', () => {});
  server.on('session', (session) => {
    session.on('error', () => {});
    t.after(() => session.destroy());
  });
  server.on('stream', (stream: ServerHttp2Stream, headers) => {
    const path = String(headers[':path']);
    app.check(JSON.stringify(headers), 'request of HTTP/2');
    const send = (): void => {
      const reply = app.answer(path);
      if (reply === null || stream.destroyed) return;
      if (!reply) {
        stream.close(2);
        return;
      }
      if (path.startsWith('/hints'))
        stream.additionalHeaders({ ':status': 103, link: '</x>', 'x-hint': reply.headers['x-id']! });
      stream.respond({ ':status': reply.status, ...reply.headers }, { waitForTrailers: true });
      stream.on('wantTrailers', () => stream.sendTrailers({ 'x-tail': reply.trailer }));
      stream.end(reply.body);
    };
    let body = '';
    stream.on('error', () => {});
    stream.on('trailers', (got) => app.check(`${path} ${JSON.stringify(got)}`, 'trailers of HTTP/2'));
    stream.on('data', (chunk) => {
      body += chunk;
    });
    if (path.startsWith('/early')) send();
    else
      stream.on('end', () => {
        app.check(`${path} ${body}`, 'body of HTTP/2');
        send();
      });
  });
  return listen(t, server as never);
}

function options(http: JsonObject): JsonObject {
  return { typed_extension_protocol_options: { [KEY]: typed('', KEY, { explicit_http_config: http }).typed_config! } };
}

function configuration(ports: readonly [number, number, number, number]): JsonObject {
  const http1 = options({ http_protocol_options: { enable_trailers: true } });
  const http2 = options({ http2_protocol_options: {} });
  const forward: JsonObject = {
    timeout: '10s',
    weighted_clusters: {
      clusters: [
        { name: 'one', weight: 50 },
        { name: 'two', weight: 50 },
      ],
    },
    retry_policy: {
      retry_on: '5xx,reset',
      num_retries: 2,
      per_try_timeout: '0.2s',
      retry_back_off: { base_interval: '0.001s' },
    },
    internal_redirect_policy: { max_internal_redirects: 2 },
    request_mirror_policies: [{ cluster: 'copy-one' }, { cluster: 'copy-two' }],
  };
  const format = '%REQ(x-id)% %REQ(authorization)% %RESP(x-id)% %RESP(x-more)% %PATH% %TRAILER(x-tail)%\n';
  return bootstrap(
    [
      listener('in', [
        {
          filters: [
            hcm(
              routes([
                {
                  match: { prefix: '/direct' },
                  direct_response: { status: 200, body: { inline_string: 'direct' } },
                  response_headers_to_add: [{ header: { key: 'x-id', value: '%REQ(x-id)%' } }],
                },
                { match: { prefix: '/missing' }, route: { cluster: 'none' } },
                { match: { prefix: '/' }, route: forward },
              ]),
              {
                access_log: [fileLog('log', format)],
                http_protocol_options: { enable_trailers: true },
                proxy_100_continue: true,
                via: 'me',
                local_reply_config: {
                  body_format: {
                    text_format_source: { inline_string: '%LOCAL_REPLY_BODY% %REQ(x-id)% %REQ(authorization)%' },
                  },
                },
              },
            ),
          ],
        },
      ]),
    ],
    [
      staticCluster('one', [ports[0]], http1),
      staticCluster('two', [ports[1]], http2),
      staticCluster('copy-one', [ports[2]], http1),
      staticCluster('copy-two', [ports[3]], http2),
    ],
  );
}

/** One request of HTTP/1; resolves with all that came. */
function ask1(port: number, agent: Agent, kind: Kind, id: number): Promise<string> {
  return new Promise((resolve) => {
    let text = '';
    const sent = httpRequest(
      {
        host: '127.0.0.1',
        port,
        agent,
        path: pathOf(kind, id),
        method: random(2) ? 'POST' : 'PUT',
        headers: headersOf(id),
      },
      (response) => {
        text += JSON.stringify(response.headers);
        response.on('data', (chunk) => {
          text += chunk;
          if (kind === 'gone') sent.destroy();
        });
        response.on('error', () => {});
        response.on('close', () => resolve(text + JSON.stringify(response.trailers)));
      },
    );
    sent.on('information', (info) => {
      text += JSON.stringify(info.headers);
    });
    sent.on('error', () => resolve(text));
    sent.on('close', () => resolve(text));
    if (kind === 'gone') setTimeout(() => sent.destroy(), random(6));
    sent.setHeader('trailer', 'x-end');
    sent.write(`part ${mark(id)}`);
    sent.addTrailers({ 'x-end': mark(id) });
    if (random(2)) sent.end();
    else setTimeout(() => sent.end(`last ${mark(id)}`), random(5));
  });
}

function ask2(session: ClientHttp2Session, kind: Kind, id: number): Promise<string> {
  return new Promise((resolve) => {
    let text = '';
    const stream = session.request(
      { ':path': pathOf(kind, id), ':method': 'POST', ...headersOf(id) },
      { waitForTrailers: true },
    );
    for (const name of ['headers', 'response', 'trailers'])
      stream.on(name, (got) => {
        text += JSON.stringify(got);
      });
    // A client that is slow for a while: the end and its trailers have to wait.
    if (kind === 'big')
      setTimeout(() => stream.on('data', (chunk) => (text += String(chunk).slice(0, 20))), random(20));
    else stream.on('data', (chunk) => (text += chunk));
    stream.on('error', () => {});
    stream.on('close', () => resolve(text));
    stream.on('wantTrailers', () => stream.sendTrailers({ 'x-end': mark(id) }));
    if (kind === 'gone') setTimeout(() => stream.close(8), random(6));
    stream.end(`part ${mark(id)}`);
  });
}

test('no value of a request is ever seen in another', async (t) => {
  const apps = [new Application(), new Application(), new Application(), new Application()] as const;
  const proxy = await startEngine(
    t,
    configuration([
      await http1App(t, apps[0]),
      await http2App(t, apps[1]),
      await http1App(t, apps[2]),
      await http2App(t, apps[3]),
    ]),
  );
  const port = proxy.port('in');
  const agent = new Agent({ keepAlive: true, maxSockets: 16 });
  t.after(() => agent.destroy());
  const session = connect(`http://127.0.0.1:${port}`);
  t.after(() => session.destroy());
  let next = 1;
  let answered = 0;
  const walk = async (): Promise<void> => {
    while (next <= REQUESTS) {
      const id = next;
      next += 1;
      // Those that wait for a time-out are few: the others shall go on meanwhile.
      const kind = id % 40 === 0 ? 'late' : KINDS.filter((each) => each !== 'late')[random(KINDS.length - 1)]!;
      const text = await (random(2) ? ask1(port, agent, kind, id) : ask2(session, kind, id));
      pure(plain(text), `answer to ${kind}`, mark(id));
      if (text.includes(mark(id))) answered += 1;
    }
  };
  await Promise.all(Array.from({ length: AT_A_TIME }, walk));
  await until(() => proxy.counter('http.test.downstream_rq_active') === 0, 'the end of all requests');
  await proxy.engine.stop();
  const lines = proxy.lines.get('log') ?? [];
  for (const line of lines) pure(plain(line), 'line');
  for (const app of apps) assert.deepEqual(app.problems, []);
  // Something was looked at: answers, lines, and requests of each application.
  assert.ok(answered > REQUESTS / 2, `${answered} answers`);
  assert.ok(lines.length >= REQUESTS && lines.filter((line) => line.includes('>')).length > REQUESTS * 0.9);
  for (const app of apps) assert.ok(app.seen > REQUESTS / 8, `${app.seen} requests`);
});
