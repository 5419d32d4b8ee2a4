// exec, attach and port-forward over real sockets: WebSocket clients and a small SPDY client against a fake node.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, request, type Server } from 'node:http';
import { type AddressInfo, connect, createServer as createTcpServer, type Socket } from 'node:net';
import { Duplex, type Readable, type Writable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { after, before, test } from 'node:test';
import { createDeflate, constants as zlib } from 'node:zlib';
import { WebSocket } from 'ws';
import { type ExecIo, type ExecRequest, type ExecResult, type NodeBackend, NodeError } from '../../node-backend.ts';
import { createStreaming, type Streaming } from './index.ts';
import { DICTIONARY } from './spdy/headers.ts';

type Program = (io: ExecIo, request: ExecRequest) => Promise<ExecResult>;

function write(stream: Writable | undefined, chunk: string | Buffer): Promise<void> {
  return new Promise((resolve, reject) => stream!.write(chunk, (error) => (error ? reject(error) : resolve())));
}

const seen: { aborted?: Promise<void>; sizes: unknown[] } = { sizes: [] };

const programs: Readonly<Record<string, Program>> = {
  async talk(io) {
    await write(io.stdout, 'to stdout');
    await write(io.stderr, 'to stderr');
    return { kind: 'exited', code: 56 };
  },
  async cat(io) {
    for await (const chunk of io.stdin as Readable) await write(io.stdout, chunk as Buffer);
    return { kind: 'exited', code: 0 };
  },
  missing: async () => ({ kind: 'failed', httpStatus: 500, message: 'no such file' }),
  async unknown() {
    throw new NodeError(404, 'container x not found');
  },
  hang: (io) => {
    seen.aborted = new Promise((resolve) => io.signal.addEventListener('abort', () => resolve()));
    return new Promise(() => {});
  },
  size: (io) =>
    new Promise((resolve) => {
      io.onResize!((size) => {
        seen.sizes.push(size);
        resolve({ kind: 'exited', code: 0 });
      });
    }),
};

let echoPort = 0;
const echo = createTcpServer({ allowHalfOpen: true }, (socket) => {
  socket.on('error', () => {});
  socket.pipe(socket);
});

const backend: NodeBackend = {
  exec: (r, io) => programs[r.command[0]!]!(io, r),
  attach: (r, io) => programs.cat!(io, { ...r, command: [] }),
  logs: async () => {},
  async portForward({ port }) {
    if (port !== echoPort) throw new NodeError(500, 'connection refused');
    const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
    await once(socket, 'connect');
    return socket;
  },
};

let streaming: Streaming;
let server: Server;
let port = 0;

before(async () => {
  streaming = createStreaming(backend);
  server = createServer().on('upgrade', (req, socket, head) => {
    const target = { namespace: 'default', pod: 'p' };
    const path = req.url!.split('?')[0]!;
    if (path === '/exec') streaming.exec(req, socket, head, target);
    else if (path === '/attach') streaming.attach(req, socket, head, target);
    else streaming.portForward(req, socket, head, target);
  });
  server.listen(0, '127.0.0.1');
  echo.listen(0, '127.0.0.1');
  await Promise.all([once(server, 'listening'), once(echo, 'listening')]);
  port = (server.address() as AddressInfo).port;
  echoPort = (echo.address() as AddressInfo).port;
});

after(() => {
  streaming.close();
  server.close();
  echo.close();
});

interface Messages {
  readonly channels: Map<number, Buffer[]>;
  readonly closed: Promise<number>;
}

async function openWebSocket(
  path: string,
  protocols: string[],
): Promise<{ readonly ws: WebSocket; readonly messages: Messages }> {
  const ws = new WebSocket(`ws://127.0.0.1:${port}${path}`, protocols);
  const channels = new Map<number, Buffer[]>();
  ws.on('message', (data: Buffer) => {
    const channel = data[0]!;
    channels.set(channel, [...(channels.get(channel) ?? []), data.subarray(1)]);
  });
  const closed = once(ws, 'close').then(([code]) => code as number);
  await once(ws, 'open');
  return { ws, messages: { channels, closed } };
}

function channel(messages: Messages, number: number): string {
  return Buffer.concat(messages.channels.get(number) ?? []).toString();
}

test('WebSocket exec: output, exit code, normal closure', async () => {
  for (const protocol of ['v5.channel.k8s.io', 'v4.channel.k8s.io']) {
    const { ws, messages } = await openWebSocket('/exec?command=talk&stdout=true&stderr=true', [protocol]);
    assert.equal(await messages.closed, 1000);
    assert.equal(ws.protocol, protocol, 'the server names what it chose');
    assert.equal(channel(messages, 1), 'to stdout');
    assert.equal(channel(messages, 2), 'to stderr');
    const status = JSON.parse(channel(messages, 3)) as { reason: string; details: { causes: unknown[] } };
    assert.equal(status.reason, 'NonZeroExitCode');
    assert.deepEqual(status.details.causes, [{ reason: 'ExitCode', message: '56' }]);
  }
});

test('WebSocket exec: stdin of megabytes comes back whole, and channel 255 ends it', async () => {
  const { ws, messages } = await openWebSocket('/exec?command=cat&stdin=true&stdout=true', ['v5.channel.k8s.io']);
  const chunk = Buffer.alloc(32 * 1024 + 1, 'x');
  chunk[0] = 0;
  for (let i = 0; i < 128; i++) ws.send(chunk);
  ws.send(Buffer.from([255, 0]));
  assert.equal(await messages.closed, 1000);
  assert.equal(channel(messages, 1).length, 128 * 32 * 1024);
  assert.equal((JSON.parse(channel(messages, 3)) as { status: string }).status, 'Success');
});

test('WebSocket exec: what cannot start is told as a failure', async () => {
  for (const [command, message] of [
    ['missing', 'no such file'],
    ['unknown', 'container x not found'],
  ]) {
    const { messages } = await openWebSocket(`/exec?command=${command}&stdout=true`, ['v5.channel.k8s.io']);
    await messages.closed;
    const status = JSON.parse(channel(messages, 3)) as { status: string; message: string };
    assert.deepEqual([status.status, status.message], ['Failure', message]);
  }
});

test('WebSocket exec: a client that leaves aborts the command; a terminal size reaches it', async () => {
  const left = await openWebSocket('/exec?command=hang&stdout=true', ['v5.channel.k8s.io']);
  while (!seen.aborted) await new Promise((resolve) => setImmediate(resolve));
  left.ws.terminate();
  await seen.aborted;
  const sized = await openWebSocket('/exec?command=size&stdout=true&tty=true', ['v5.channel.k8s.io']);
  sized.ws.send(Buffer.from('\x04{"Width":120,"Height":40}'));
  await sized.messages.closed;
  assert.deepEqual(seen.sizes, [{ width: 120, height: 40 }]);
});

test('refusals before the upgrade say why', async () => {
  const refusal = (path: string, headers: Record<string, string>) =>
    new Promise<{ code: number; message: string }>((resolve, reject) => {
      const req = request({ host: '127.0.0.1', port, path, headers: { connection: 'Upgrade', ...headers } });
      req.on('error', reject);
      req.on('response', async (response) => {
        resolve(JSON.parse(await text(response)) as { code: number; message: string });
      });
      req.end();
    });
  const ws = { upgrade: 'websocket', 'sec-websocket-version': '13', 'sec-websocket-key': 'AAAAAAAAAAAAAAAAAAAAAA==' };
  const none = await refusal('/exec?stdout=true', { ...ws, 'sec-websocket-protocol': 'v5.channel.k8s.io' });
  assert.deepEqual([none.code, none.message], [400, 'you must specify at least one command for the container']);
  const odd = await refusal('/exec?command=x&stdout=true', { ...ws, 'sec-websocket-protocol': 'v9.channel.k8s.io' });
  assert.match(odd.message, /subprotocol v9\.channel\.k8s\.io is not supported/);
  const old = await refusal('/exec?command=x&stdout=true', { upgrade: 'SPDY/3.1', 'x-stream-protocol-version': 'v1' });
  assert.deepEqual([old.code, old.message], [403, 'unable to upgrade: only v4.channel.k8s.io is supported over SPDY']);
  const other = await refusal('/portforward', { upgrade: 'h2c' });
  assert.equal(other.code, 400);
});

/** A SPDY client: enough of it to open streams and read frames. */
class SpdyClient {
  readonly ended = new Map<number, () => void>();
  readonly data = new Map<number, Buffer[]>();
  readonly resets: number[] = [];
  readonly pongs: number[] = [];
  readonly #socket: Duplex;
  readonly #deflate = createDeflate({ dictionary: DICTIONARY });
  #buffer = Buffer.alloc(0);
  #next = 1;

  constructor(socket: Duplex, head: Buffer) {
    this.#socket = socket;
    socket.on('error', () => {});
    socket.on('data', (chunk: Buffer) => this.#read(chunk));
    if (head.length > 0) this.#read(head);
  }

  get socket(): Duplex {
    return this.#socket;
  }

  async open(headers: Record<string, string>): Promise<number> {
    const id = this.#next;
    this.#next += 2;
    const counted = (value: string) => {
      const length = Buffer.alloc(4);
      length.writeUInt32BE(value.length);
      return Buffer.concat([length, Buffer.from(value)]);
    };
    const pairs = Object.entries(headers).flatMap(([name, value]) => [counted(name), counted(value)]);
    const count = Buffer.alloc(4);
    count.writeUInt32BE(pairs.length / 2);
    const chunks: Buffer[] = [];
    const collect = (chunk: Buffer) => chunks.push(chunk);
    this.#deflate.on('data', collect);
    this.#deflate.write(Buffer.concat([count, ...pairs]));
    await new Promise<void>((resolve) => this.#deflate.flush(zlib.Z_SYNC_FLUSH, resolve));
    this.#deflate.off('data', collect);
    const start = Buffer.alloc(10);
    start.writeUInt32BE(id);
    this.control(1, Buffer.concat([start, ...chunks]));
    this.data.set(id, []);
    return id;
  }

  control(type: number, body: Buffer): void {
    const header = Buffer.alloc(8);
    header.writeUInt16BE(0x8003);
    header.writeUInt16BE(type, 2);
    header.writeUIntBE(body.length, 5, 3);
    this.#socket.write(Buffer.concat([header, body]));
  }

  send(id: number, payload: string | Buffer, fin = false): void {
    const body = Buffer.from(payload);
    const header = Buffer.alloc(8);
    header.writeUInt32BE(id);
    header[4] = fin ? 1 : 0;
    header.writeUIntBE(body.length, 5, 3);
    this.#socket.write(Buffer.concat([header, body]));
  }

  /** All bytes of a stream, once the server has ended it. */
  async read(id: number): Promise<string> {
    if (!this.#finished.has(id)) await new Promise<void>((resolve) => this.ended.set(id, resolve));
    return Buffer.concat(this.data.get(id)!).toString();
  }

  readonly #finished = new Set<number>();

  #read(chunk: Buffer): void {
    this.#buffer = Buffer.concat([this.#buffer, chunk]);
    while (this.#buffer.length >= 8) {
      const length = this.#buffer.readUIntBE(5, 3);
      if (this.#buffer.length < 8 + length) return;
      const frame = this.#buffer.subarray(0, 8 + length);
      this.#buffer = this.#buffer.subarray(8 + length);
      if ((frame[0]! & 0x80) === 0) {
        const id = frame.readUInt32BE(0);
        this.data.get(id)?.push(Buffer.from(frame.subarray(8)));
        if ((frame[4]! & 1) !== 0) {
          this.#finished.add(id);
          this.ended.get(id)?.();
        }
      } else if (frame.readUInt16BE(2) === 3) this.resets.push(frame.readUInt32BE(8));
      else if (frame.readUInt16BE(2) === 6) this.pongs.push(frame.readUInt32BE(8));
    }
  }
}

async function openSpdy(path: string, protocol: string): Promise<SpdyClient> {
  const headers = { connection: 'Upgrade', upgrade: 'SPDY/3.1', 'x-stream-protocol-version': protocol };
  const req = request({ host: '127.0.0.1', port, path, method: 'POST', headers });
  req.end();
  const [response, socket, head] = (await once(req, 'upgrade')) as [
    { headers: Record<string, string> },
    Socket,
    Buffer,
  ];
  assert.equal(response.headers['x-stream-protocol-version'], protocol);
  return new SpdyClient(socket, head);
}

test('SPDY exec: output, exit code, stdin with its end', async () => {
  const client = await openSpdy('/exec?command=talk&stdout=true&stderr=true', 'v4.channel.k8s.io');
  const error = await client.open({ streamtype: 'error' });
  const stdout = await client.open({ streamtype: 'stdout' });
  const stderr = await client.open({ streamtype: 'stderr' });
  assert.equal(await client.read(stdout), 'to stdout');
  assert.equal(await client.read(stderr), 'to stderr');
  assert.match(await client.read(error), /"causes":\[\{"reason":"ExitCode","message":"56"\}\]/);
  client.socket.destroy();

  const cat = await openSpdy('/attach?stdin=true&stdout=true', 'v4.channel.k8s.io');
  const status = await cat.open({ streamtype: 'error' });
  const stdin = await cat.open({ streamtype: 'stdin' });
  const out = await cat.open({ streamtype: 'stdout' });
  const chunk = Buffer.alloc(32 * 1024, 'y');
  for (let i = 0; i < 64; i++) cat.send(stdin, chunk);
  cat.send(stdin, '', true);
  assert.equal((await cat.read(out)).length, 64 * 32 * 1024);
  assert.match(await cat.read(status), /"status":"Success"/);
  cat.socket.destroy();
});

/** A bare WebSocket client: the library's own refuses the tunnel's name. The mask is zero, so frames are plain to read. */
async function openTunnel(): Promise<Duplex> {
  const headers = {
    connection: 'Upgrade',
    upgrade: 'websocket',
    'sec-websocket-version': '13',
    'sec-websocket-key': 'AAAAAAAAAAAAAAAAAAAAAA==',
    'sec-websocket-protocol': 'SPDY/3.1+portforward.k8s.io',
  };
  const req = request({ host: '127.0.0.1', port, path: '/portforward', headers });
  req.end();
  const [response, socket, head] = (await once(req, 'upgrade')) as [
    { headers: Record<string, string> },
    Socket,
    Buffer,
  ];
  assert.equal(response.headers['sec-websocket-protocol'], 'SPDY/3.1+portforward.k8s.io');
  const duplex = new Duplex({
    read() {},
    write(chunk: Buffer, _encoding, callback) {
      const header = Buffer.alloc(8);
      header[0] = 0x82;
      header[1] = 0xfe;
      header.writeUInt16BE(chunk.length, 2);
      socket.write(Buffer.concat([header, chunk]), callback);
    },
    destroy(error, callback) {
      socket.destroy();
      callback(error);
    },
  });
  let buffer: Buffer = head;
  const read = () => {
    while (buffer.length >= 2) {
      const long = buffer[1] === 126;
      if (buffer.length < (long ? 4 : 2)) return;
      const length = long ? buffer.readUInt16BE(2) : buffer[1]!;
      const start = long ? 4 : 2;
      if (buffer.length < start + length) return;
      duplex.push(Buffer.from(buffer.subarray(start, start + length)));
      buffer = buffer.subarray(start + length);
    }
  };
  socket.on('data', (chunk: Buffer) => {
    buffer = Buffer.concat([buffer, chunk]);
    read();
  });
  read();
  return duplex;
}

async function forwardBoth(client: SpdyClient): Promise<void> {
  const first = await client.open({ streamtype: 'error', port: String(echoPort), requestid: '0' });
  client.send(first, '', true);
  const data = await client.open({ streamtype: 'data', port: String(echoPort), requestid: '0' });
  client.send(data, 'hello ');
  client.send(data, 'there', true);
  assert.equal(await client.read(data), 'hello there');
  assert.equal(await client.read(first), '');
  const error = await client.open({ streamtype: 'error', port: '9', requestid: '1' });
  const refused = await client.open({ streamtype: 'data', port: '9', requestid: '1' });
  assert.equal(await client.read(error), 'error forwarding port 9 to pod p: connection refused');
  assert.equal(await client.read(refused), '');
}

test('port-forward over SPDY and tunnelled in WebSocket messages', async () => {
  const plain = await openSpdy('/portforward', 'portforward.k8s.io');
  await forwardBoth(plain);
  plain.control(6, Buffer.from([0, 0, 0, 7]));
  while (plain.pongs.length === 0) await once(plain.socket, 'data');
  assert.deepEqual(plain.pongs, [7]);
  plain.socket.destroy();

  const tunnel = await openTunnel();
  await forwardBoth(new SpdyClient(tunnel, Buffer.alloc(0)));
  tunnel.destroy();
});

test('hostile SPDY: wrong version, giant frame, damaged headers, repeated ids end the connection and nothing else', async () => {
  const frames = [
    Buffer.from([0x80, 2, 0, 1, 0, 0, 0, 0]),
    Buffer.from([0, 0, 0, 1, 0, 0xff, 0xff, 0xff]),
    Buffer.from([0x80, 3, 0, 1, 0, 0, 0, 14, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4]),
    Buffer.from([0x80, 3, 0, 1, 0, 0, 0, 2, 0, 0]),
  ];
  for (const frame of frames) {
    const client = await openSpdy('/portforward', 'portforward.k8s.io');
    const closed = once(client.socket, 'close');
    client.socket.write(frame);
    await closed;
  }
  const odd = await openSpdy('/portforward', 'portforward.k8s.io');
  const id = await odd.open({ streamtype: 'nonsense', port: '1', requestid: '0' });
  while (odd.resets.length === 0) await once(odd.socket, 'data');
  assert.deepEqual(odd.resets, [id]);
  odd.socket.destroy();
});
