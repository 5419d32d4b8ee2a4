// HTTP/2 clients that mean harm: every limit ends the connection early, by name, and the proxy goes on serving others.
import assert from 'node:assert/strict';
import { connect, createServer, type Socket } from 'node:net';
import { type TestContext, test } from 'node:test';
import type { JsonObject } from '@bufbuild/protobuf';
import { AT_ONCE } from './listener/drain.ts';
import {
  ask,
  bootstrap,
  hcm,
  listen,
  listener,
  routes,
  startApp,
  startEngine,
  staticCluster,
  type TestEngine,
  toCluster,
  until,
} from './testing/engine.ts';

const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
/** GET / of `a`. */
const GET = Buffer.from('828684410161', 'hex');
const POST = Buffer.from('838684410161', 'hex');

function frame(type: number, flags: number, id: number, payload: Buffer = Buffer.alloc(0)): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(id, 5);
  return Buffer.concat([head, payload]);
}
const number = (value: number): Buffer => Buffer.from([value >>> 24, value >>> 16, value >>> 8, value]);
const many = (count: number, make: (i: number) => Buffer): Buffer =>
  Buffer.concat(Array.from({ length: count }, (_, i) => make(i)));
const SETTINGS = frame(4, 0, 0);

/** Sends `bytes` after the preface; resolves with what came once the proxy closed the connection. */
function attack(port: number, bytes: Buffer, read = true): Promise<Buffer> {
  return new Promise((resolve) => {
    const chunks: Buffer[] = [];
    const socket = connect(port, '127.0.0.1', () => socket.write(Buffer.concat([PREFACE, SETTINGS, bytes])));
    if (read) socket.on('data', (chunk: Buffer) => chunks.push(chunk));
    else socket.pause();
    socket.on('error', () => {});
    socket.on('end', () => socket.destroy());
    socket.on('close', () => resolve(Buffer.concat(chunks)));
  });
}

/** The error code of the GOAWAY in what came. */
function goawayCode(bytes: Buffer): number | undefined {
  for (let at = 0; at + 9 <= bytes.length; at += 9 + bytes.readUIntBE(at, 3))
    if (bytes[at + 3] === 7) return bytes.readUInt32BE(at + 13);
  return undefined;
}

async function proxy(t: TestContext, extra: JsonObject = {}): Promise<TestEngine> {
  const app = await startApp(t, 'hello');
  return await startEngine(
    t,
    bootstrap(
      [listener('in', [{ filters: [hcm(routes([toCluster('app')]), extra)] }])],
      [staticCluster('app', [app.port])],
    ),
  );
}

const CALM = 11;
const FLOODS: readonly (readonly [string, string, Buffer])[] = [
  [
    'empty DATA frames',
    'http2.inbound_empty_frames_flood',
    Buffer.concat([frame(1, 4, 1, POST), many(1_000, () => frame(0, 0, 1))]),
  ],
  [
    'empty CONTINUATION frames',
    'http2.inbound_empty_frames_flood',
    Buffer.concat([frame(1, 0, 1, GET), many(1_000, () => frame(9, 0, 1))]),
  ],
  [
    'CONTINUATION frames without an end',
    'http2.header_overflow',
    Buffer.concat([
      frame(1, 0, 1, GET),
      many(40, () => frame(9, 0, 1, Buffer.concat([Buffer.from('0001787fff7d', 'hex'), Buffer.alloc(16_000, 97)]))),
    ]),
  ],
  [
    'PRIORITY frames',
    'http2.inbound_priority_frames_flood',
    many(1_000, () => frame(2, 0, 1, Buffer.from([0, 0, 0, 0, 16]))),
  ],
  ['WINDOW_UPDATE frames', 'http2.inbound_window_update_frames_flood', many(1_000, () => frame(8, 0, 0, number(1)))],
  ['SETTINGS frames', 'http2.inbound_control_frames_flood', many(25_000, () => frame(4, 0, 0))],
  ['unknown frames', 'http2.inbound_control_frames_flood', many(25_000, () => frame(77, 0, 0))],
];
for (const [what, counter, bytes] of FLOODS)
  test(`a flood of ${what} ends the connection`, async (t) => {
    const engine = await proxy(t);
    const got = await attack(engine.port('in'), bytes);
    assert.equal(goawayCode(got), CALM);
    assert.equal(engine.counter(counter), 1);
    assert.equal((await ask(engine.port('in'), '/')).body, 'hello');
  });

test('a client that does not read its acknowledgements is cut off (PING flood)', async (t) => {
  const engine = await proxy(t);
  // Enough for every buffer on the way to be full of answers.
  void attack(
    engine.port('in'),
    many(600_000, () => frame(6, 0, 0, Buffer.alloc(8))),
    false,
  );
  await until(
    () => engine.counter('http2.outbound_control_flood') + engine.counter('http2.inbound_control_frames_flood') === 1,
    'the flood is noticed',
  );
  assert.equal((await ask(engine.port('in'), '/')).body, 'hello');
});

/** What gives a stream up: the client, or we, because the client broke a rule on it (MadeYouReset). */
const GIVE_UP: readonly (readonly [string, (id: number) => Buffer])[] = [
  ['RST_STREAM', (id) => frame(3, 0, id, number(8))],
  ['a window that grows by nothing', (id) => frame(8, 0, id, number(0))],
  ['a window that grows too large', (id) => frame(8, 0, id, number(0x7fffffff))],
  ['DATA after the end', (id) => frame(0, 0, id, Buffer.from('x'))],
  ['HEADERS after the end', (id) => frame(1, 5, id, GET)],
  ['a stream that depends on itself', (id) => frame(2, 0, id, Buffer.concat([number(id), Buffer.from([1])]))],
];

for (const [what, giveUp] of GIVE_UP)
  test(`rapid reset by ${what}: streams given up before their answer end the connection`, async (t) => {
    const silent = createServer((socket: Socket) => void socket.on('error', () => {}));
    const port = await listen(t, silent as never);
    const engine = await startEngine(
      t,
      bootstrap([listener('in', [{ filters: [hcm(routes([toCluster('app')]))] }])], [staticCluster('app', [port])]),
    );
    const got = await attack(
      engine.port('in'),
      many(2_000, (i) => Buffer.concat([frame(1, 5, 2 * i + 1, GET), giveUp(2 * i + 1)])),
    );
    assert.equal(goawayCode(got), CALM);
    assert.equal(engine.counter('http.test.downstream_rq_too_many_premature_resets'), 1);
    assert.ok(engine.counter('http.test.downstream_rq_total') <= 251);
  });

test('more streams than allowed are refused, and a header list that is too large resets its stream', async (t) => {
  const silent = createServer((socket: Socket) => void socket.on('error', () => {}));
  const port = await listen(t, silent as never);
  const engine = await startEngine(
    t,
    bootstrap(
      [
        listener('in', [
          { filters: [hcm(routes([toCluster('app')]), { http2_protocol_options: { max_concurrent_streams: 5 } })] },
        ]),
      ],
      [staticCluster('app', [port])],
    ),
  );
  const socket = connect(engine.port('in'), '127.0.0.1');
  t.after(() => socket.destroy());
  socket.on('error', () => {});
  socket.write(Buffer.concat([PREFACE, SETTINGS, many(20, (i) => frame(1, 5, 2 * i + 1, GET))]));
  await until(() => engine.counter('http2.stream_refused_errors') === 15, 'fifteen are refused');
  assert.equal(engine.counter('http2.streams_active'), 5);
  // One entry of the table, named two thousand times: little on the wire, much when read.
  const bomb = Buffer.concat([
    GET,
    Buffer.from('4001787f8101', 'hex'),
    Buffer.alloc(256, 97),
    Buffer.alloc(2_000, 0xbe),
  ]);
  const other = connect(engine.port('in'), '127.0.0.1');
  t.after(() => other.destroy());
  other.on('error', () => {});
  other.write(Buffer.concat([PREFACE, SETTINGS, frame(1, 5, 1, bomb)]));
  await until(() => engine.counter('http2.header_overflow') === 1, 'the bomb is refused');
  assert.equal(engine.counter('http.test.downstream_cx_active'), 2);
});

test('a request that crosses the final GOAWAY is ignored with its body, and open ones are answered', async (t) => {
  const waiting: Socket[] = [];
  const server = createServer((socket: Socket) => {
    socket.on('error', () => {});
    socket.on('data', () => waiting.push(socket));
  });
  const port = await listen(t, server as never);
  const engine = await startEngine(
    t,
    bootstrap(
      [listener('in', [{ filters: [hcm(routes([toCluster('app')]), { drain_timeout: '0.02s' })] }])],
      [staticCluster('app', [port])],
    ),
  );
  const socket = connect(engine.port('in'), '127.0.0.1');
  t.after(() => socket.destroy());
  let got = Buffer.alloc(0);
  socket.on('error', () => {});
  socket.on('data', (chunk: Buffer) => {
    got = Buffer.concat([got, chunk]);
  });
  socket.write(Buffer.concat([PREFACE, SETTINGS, frame(1, 5, 1, GET)]));
  await until(() => waiting.length === 1, 'the request is with the upstream');
  for (const view of engine.engine.listeners.views()) view.active?.drainGracefully(AT_ONCE);
  await until(() => engine.counter('http2.goaway_sent') === 2, 'both GOAWAY frames');
  socket.write(Buffer.concat([frame(1, 4, 3, POST), frame(0, 1, 3, Buffer.from('late'))]));
  // The answer to PING says that the frames before it were read.
  socket.write(frame(6, 0, 0, Buffer.from('12345678')));
  await until(() => got.includes('12345678'), 'the PING is answered');
  waiting[0]!.write('HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok');
  await until(() => got.includes('ok'), 'the open request is answered');
  assert.equal(engine.counter('http.test.downstream_rq_total'), 1);
  assert.equal(engine.counter('http.test.downstream_cx_protocol_error'), 0);
});

test('PING frames keep no connection open that has no requests', async (t) => {
  const engine = await proxy(t, { common_http_protocol_options: { idle_timeout: '0.3s' } });
  const socket = connect(engine.port('in'), '127.0.0.1');
  t.after(() => socket.destroy());
  socket.on('error', () => {}).resume();
  socket.write(Buffer.concat([PREFACE, SETTINGS]));
  let closed = false;
  socket.on('end', () => {
    closed = true;
  });
  await until(() => {
    if (socket.writable) socket.write(frame(6, 0, 0, Buffer.alloc(8)));
    return closed;
  }, 'it is closed all the same');
  assert.equal(engine.counter('http.test.downstream_cx_idle_timeout'), 1);
});
