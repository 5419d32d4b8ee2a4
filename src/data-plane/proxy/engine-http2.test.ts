// HTTP/2 on the listener: by prior knowledge, both directions of bodies, trailers, flow control, floods and drains.
import assert from 'node:assert/strict';
import { type ClientHttp2Session, connect, constants, type IncomingHttpHeaders } from 'node:http2';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { type TestContext, test } from 'node:test';
import type { JsonObject } from '@bufbuild/protobuf';
import { AT_ONCE } from './listener/drain.ts';
import {
  bootstrap,
  fileLog,
  hcm,
  listen,
  listener,
  raw,
  routes,
  startApp,
  startEngine,
  staticCluster,
  toCluster,
  until,
} from './testing/engine.ts';

function hop(t: TestContext, ports: readonly number[], extra: JsonObject = {}, list?: readonly JsonObject[]) {
  return startEngine(
    t,
    bootstrap(
      [listener('in', [{ filters: [hcm(routes(list ?? [toCluster('app')]), extra)] }])],
      [staticCluster('app', ports)],
    ),
  );
}

function client(t: TestContext, port: number): ClientHttp2Session {
  const session = connect(`http://127.0.0.1:${port}`);
  session.on('error', () => {});
  t.after(() => session.destroy());
  return session;
}

interface H2Answer {
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
  readonly trailers: IncomingHttpHeaders | undefined;
  readonly code: number | undefined;
}

function ask2(
  session: ClientHttp2Session,
  headers: Record<string, string>,
  body?: string | Buffer,
  trailers?: Record<string, string>,
): Promise<H2Answer> {
  return new Promise((resolve) => {
    const stream = session.request(headers, {
      endStream: body === undefined,
      ...(trailers ? { waitForTrailers: true } : {}),
    });
    let head: IncomingHttpHeaders = {};
    let tail: IncomingHttpHeaders | undefined;
    const chunks: Buffer[] = [];
    stream.on('response', (got) => {
      head = got;
    });
    stream.on('trailers', (got: IncomingHttpHeaders) => {
      tail = got;
    });
    stream.on('data', (chunk: Buffer) => chunks.push(chunk));
    stream.on('error', () => {});
    stream.on('wantTrailers', () => stream.sendTrailers(trailers ?? {}));
    stream.on('close', () =>
      resolve({ headers: head, body: Buffer.concat(chunks).toString('latin1'), trailers: tail, code: stream.rstCode }),
    );
    if (body !== undefined) stream.end(body);
  });
}

test('requests of HTTP/2 reach an HTTP/1 upstream with all they carry, many at a time', async (t) => {
  const app = await startApp(t, 'hello', (request) => ({ body: `${request.url} ${request.body.length}` }));
  const proxy = await hop(t, [app.port], {
    access_log: [fileLog('log', '%PROTOCOL% %RESPONSE_CODE% %BYTES_RECEIVED% %BYTES_SENT%\n')],
  });
  const session = client(t, proxy.port('in'));
  const answers = await Promise.all(
    Array.from({ length: 50 }, (_, i) =>
      ask2(
        session,
        { ':path': `/r${i}`, ':method': 'POST', 'x-case': 'kept', cookie: 'a=b' },
        Buffer.alloc(i * 3_000, 97),
      ),
    ),
  );
  for (const [i, answer] of answers.entries()) {
    assert.equal(answer.headers[':status'], 200);
    assert.equal(answer.body, `/r${i} ${i * 3_000}`);
  }
  const seen = app.seen.find((request) => request.url === '/r7')!;
  assert.equal(seen.headers.host, `127.0.0.1:${proxy.port('in')}`);
  assert.equal(seen.headers['transfer-encoding'], 'chunked');
  assert.deepEqual([seen.headers['x-case'], seen.headers.cookie], ['kept', 'a=b']);
  assert.equal(proxy.counter('http.test.downstream_cx_http2_total'), 1);
  assert.equal(proxy.counter('http.test.downstream_rq_http2_total'), 50);
  await until(() => proxy.lines.get('log')?.length === 50, 'log lines');
  assert.ok(proxy.lines.get('log')!.includes('HTTP/2 200 3000 8'));
});

test('the same listener serves HTTP/1, also when its first bytes come one by one', async (t) => {
  const app = await startApp(t, 'hello');
  const proxy = await hop(t, [app.port]);
  const { text } = await raw(proxy.port('in'), 'PRI /x HTTP/1.1\r\n\r\n', (all) => all.includes('\r\n\r\n'));
  assert.match(text, /^HTTP\/1\.1 400 /);
  const ok = await raw(proxy.port('in'), 'GET / HTTP/1.1\r\nhost: a\r\n\r\n', (all) => all.includes('hello'));
  assert.match(ok.text, /^HTTP\/1\.1 200 /);
});

test('a slow reader of one stream holds its upstream back, and other streams go on', async (t) => {
  const size = 32 * 1024 * 1024;
  let left = size;
  const server = createServer((socket: Socket) => {
    const block = Buffer.alloc(65_536, 97);
    const more = () => {
      let room = true;
      while (left > 0 && room) {
        const part = block.subarray(0, Math.min(left, block.length));
        left -= part.length;
        room = socket.write(part);
      }
    };
    socket.on('error', () => {});
    socket.on('data', (chunk: Buffer) => {
      if (chunk.toString('latin1').startsWith('GET /small'))
        return socket.write('HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok');
      socket.on('drain', more);
      socket.write(`HTTP/1.1 200 OK\r\ncontent-length: ${size}\r\n\r\n`);
      return more();
    });
  });
  const port = await listen(t, server as never);
  const proxy = await hop(t, [port], {}, [toCluster('app', { timeout: '0s' })]);
  const session = client(t, proxy.port('in'));
  const slow = session.request({ ':path': '/large' });
  slow.on('error', () => {});
  slow.pause();
  let last = size;
  let still = 0;
  await until(() => {
    still = left < size && left === last ? still + 1 : 0;
    last = left;
    return still > 20;
  }, 'the upstream is held back');
  assert.ok(left > size / 2, 'the response was read ahead of the client');
  assert.equal((await ask2(session, { ':path': '/small' })).body, 'ok');
  let got = 0;
  slow.on('data', (chunk: Buffer) => {
    got += chunk.length;
  });
  slow.resume();
  await until(() => got === size, 'all bytes');
});

test('malformed requests end the connection, or their stream where the configuration says so', async (t) => {
  const app = await startApp(t, 'hello');
  const strict = await hop(t, [app.port]);
  const gone = client(t, strict.port('in'));
  let goaway: number | undefined;
  gone.on('goaway', (code) => {
    goaway = code;
  });
  await ask2(gone, { ':path': '' });
  await until(() => goaway !== undefined, 'GOAWAY');
  assert.equal(goaway, constants.NGHTTP2_PROTOCOL_ERROR);
  assert.equal(strict.counter('http2.rx_messaging_error'), 1);
  assert.equal(strict.counter('http.test.downstream_cx_protocol_error'), 1);
  const lenient = await hop(t, [app.port], {
    http2_protocol_options: { override_stream_error_on_invalid_http_message: true },
  });
  const stays = client(t, lenient.port('in'));
  assert.equal((await ask2(stays, { ':path': '' })).code, constants.NGHTTP2_PROTOCOL_ERROR);
  assert.equal((await ask2(stays, { ':path': '/' })).body, 'hello');
});

test('a drained connection is told, finishes what it has, and ends', async (t) => {
  const waiting: Socket[] = [];
  const server = createServer((socket) => {
    socket.on('error', () => {});
    socket.on('data', () => waiting.push(socket));
  });
  const port = await listen(t, server as never);
  const proxy = await hop(t, [port], { drain_timeout: '0.05s' });
  const session = client(t, proxy.port('in'));
  const lastIds: number[] = [];
  session.on('goaway', (_code, id) => lastIds.push(id));
  let closed = false;
  session.on('close', () => {
    closed = true;
  });
  const answer = ask2(session, { ':path': '/' });
  await until(() => waiting.length === 1, 'the request is with the upstream');
  for (const view of proxy.engine.listeners.views()) view.active?.drainGracefully(AT_ONCE);
  await until(() => lastIds.length === 2, 'both GOAWAY frames');
  assert.deepEqual(lastIds, [2 ** 31 - 1, 1]);
  waiting[0]!.write('HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok');
  assert.equal((await answer).body, 'ok');
  await until(() => closed, 'the connection ends');
});

test('what follows an upgrade never reaches an upstream that has not agreed to it', async (t) => {
  let got = '';
  const sockets: Socket[] = [];
  const app = createServer((socket) => {
    sockets.push(socket);
    socket.on('error', () => {});
    socket.on('data', (chunk: Buffer) => {
      got += chunk.toString();
      // It knows no upgrades, and answers when a later request shows that the proxy has read everything.
      if (!got.includes('GET /later ')) return;
      for (const one of sockets.splice(0)) one.write('HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n');
    });
  });
  await new Promise<void>((resolve) => app.listen(0, '127.0.0.1', resolve));
  t.after(() => {
    app.close();
    for (const socket of sockets) socket.destroy();
  });
  const proxy = await hop(t, [(app.address() as AddressInfo).port], {
    upgrade_configs: [{ upgrade_type: 'websocket' }],
    http2_protocol_options: { allow_connect: true },
  });
  const session = client(t, proxy.port('in'));
  await new Promise((resolve) => session.once('remoteSettings', resolve));
  const stream = session.request({
    ':method': 'CONNECT',
    ':protocol': 'websocket',
    ':path': '/chat',
    ':scheme': 'http',
    ':authority': 'a',
  });
  stream.on('error', () => {});
  let status = 0;
  stream.on('response', (headers) => {
    status = Number(headers[':status']);
  });
  stream.resume();
  stream.write('GET /admin HTTP/1.1\r\nhost: a\r\n\r\n');
  session.request({ ':path': '/later' }).resume();
  await until(() => status === 200, 'the answer');
  assert.match(got, /^GET \/chat /);
  assert.doesNotMatch(got, /admin/);
});
