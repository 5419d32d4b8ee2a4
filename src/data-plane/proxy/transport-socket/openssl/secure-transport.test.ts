// What can go wrong on an established connection, the same for every TLS transport: half-closes, truncation, key updates,
// slow readers, garbage, and that nothing is left behind.
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { type AddressInfo, connect, createServer } from 'node:net';
import { before, type TestContext, test } from 'node:test';
import { type TLSSocket, connect as tlsConnect } from 'node:tls';
import { until } from '../../testing/engine.ts';
import { createRoot, type Entity } from '../../testing/pki.ts';
import {
  certificateJson,
  createTlsClient,
  startTlsServer,
  type TlsServer,
  type TransportName,
  visit,
} from '../../testing/tls.ts';
import type { Transport } from '../transport.ts';
import { sharedRecordBytes } from './secure-transport.ts';

let root: Entity;
let server: Entity;
let client: Entity;
before(async () => {
  root = await createRoot();
  server = await root.issue({ commonName: 'server', names: ['spiffe://a/server'] });
  client = await root.issue({ commonName: 'client', names: ['spiffe://a/client'] });
});

const serving = () => ({
  require_client_certificate: true,
  common_tls_context: {
    tls_certificates: [certificateJson(server)],
    validation_context: { trusted_ca: { inline_string: root.pem } },
  },
});
const calling = () => ({
  common_tls_context: {
    tls_certificates: [certificateJson(client)],
    validation_context: { trusted_ca: { inline_string: root.pem } },
  },
});
const own = () => ({ cert: client.chainPem, key: client.keyPem });

for (const transport of ['tlssocket', 'openssl'] as const) suite(transport);

function suite(transport: TransportName): void {
  const named = (name: string, run: (t: TestContext) => Promise<void>) => test(`${transport}: ${name}`, run);

  /** A client by Node, connected and echoed once. */
  async function connected(t: TestContext, running: TlsServer, options = {}): Promise<TLSSocket> {
    const socket = tlsConnect({
      port: running.port,
      host: '127.0.0.1',
      rejectUnauthorized: false,
      ...own(),
      ...options,
    });
    t.after(() => socket.destroy());
    socket.on('error', () => {});
    await new Promise<void>((resolve) => {
      socket.once('data', () => resolve());
      socket.once('secureConnect', () => socket.write('!'));
    });
    return socket;
  }

  for (const version of ['TLSv1.2', 'TLSv1.3'] as const)
    named(`${version}: large amounts pass both ways, whole and in order`, async (t) => {
      const running = await startTlsServer(t, serving(), { transport });
      const socket = await connected(t, running, { maxVersion: version });
      const data = randomBytes(5_000_000);
      const hash = createHash('sha256');
      let got = 0;
      socket.on('data', (chunk: Buffer) => {
        hash.update(chunk);
        got += chunk.length;
      });
      socket.write(data);
      await until(() => got === data.length, 'the echo');
      assert.equal(hash.digest('hex'), createHash('sha256').update(data).digest('hex'));
    });

  named('a half-close is an end of input, and the answer still goes out', async (t) => {
    const running = await startTlsServer(t, serving(), { transport });
    const socket = await connected(t, running);
    let text = '';
    let ended = false;
    socket.on('data', (chunk: Buffer) => {
      text += chunk.toString();
    });
    socket.on('end', () => {
      ended = true;
    });
    socket.end('last words');
    await until(() => ended, 'the end of the server');
    assert.equal(text, 'last words');
    await until(() => running.closes.length === 1, 'the close');
    assert.equal(running.closes[0], undefined);
  });

  named('a connection that ends without close_notify ends here too', async (t) => {
    const running = await startTlsServer(t, serving(), { transport });
    const raw = connect(running.port, '127.0.0.1');
    const socket = tlsConnect({ socket: raw, rejectUnauthorized: false, ...own() });
    socket.on('error', () => {});
    await new Promise<void>((resolve) => {
      socket.once('data', () => resolve());
      socket.once('secureConnect', () => socket.write('!'));
    });
    raw.destroy();
    await until(() => running.closes.length === 1, 'the close');
  });

  named('no record of a connection stands in the shared BIOs while the layers above run', async (t) => {
    const running = await startTlsServer(t, serving(), { transport });
    const caller = createTlsClient(t, calling(), { transport });
    const opened = await caller.open(running.port);
    assert.ok(opened.kind === 'connected');
    const up: Transport = opened.transport;
    const size = 8_000_000;
    let got = 0;
    let most = 0;
    up.start({
      onData(_bytes, start, end) {
        got += end - start;
        most = Math.max(most, sharedRecordBytes());
      },
      onEnd() {},
      onBacklog() {},
      onClose() {},
    });
    up.bulk = true;
    await until(() => running.transports.length === 1, 'the connection');
    // What waits in the kernel by the time we read again comes in one read.
    up.pause();
    const server = running.transports[0]!;
    server.write(randomBytes(size), 0, size);
    await until(() => server.backlogBytes > 0, 'a full socket');
    up.resume();
    await until(() => got === size, 'all of it');
    assert.equal(most, 0);
    up.destroy();
  });

  named('a slow reader holds us back: the backlog is bounded and nothing is lost', async (t) => {
    const running = await startTlsServer(t, serving(), { transport });
    const caller = createTlsClient(t, calling(), { transport });
    const opened = await caller.open(running.port);
    assert.ok(opened.kind === 'connected');
    const up: Transport = opened.transport;
    let full = 0;
    let got = 0;
    const heard = createHash('sha256');
    up.start({
      onData(bytes, start, end) {
        got += end - start;
        heard.update(bytes.subarray(start, end));
      },
      onEnd() {},
      onBacklog: (on) => {
        full += on ? 1 : 0;
        if (!on) pour();
        else held = true;
      },
      onClose() {},
    });
    up.pause();
    const block = randomBytes(65_536);
    const total = 400;
    let sent = 0;
    let held = false;
    const pour = (): void => {
      held = false;
      while (!held && sent < total) {
        sent += 1;
        up.write(block, 0, block.length);
      }
    };
    pour();
    await until(() => full > 0, 'the first stop');
    assert.ok(up.backlogBytes < 2_000_000);
    up.resume();
    await until(() => got === total * block.length, 'everything', 20_000);
    const said = createHash('sha256');
    for (let i = 0; i < total; i++) said.update(block);
    assert.equal(heard.digest('hex'), said.digest('hex'));
    up.destroy();
  });

  named('pausing in the middle of what has arrived keeps the rest for later', async (t) => {
    const running = await startTlsServer(t, serving(), { transport });
    const caller = createTlsClient(t, calling(), { transport });
    const opened = await caller.open(running.port);
    assert.ok(opened.kind === 'connected');
    const up = opened.transport;
    let got = 0;
    let calls = 0;
    up.start({
      onData(_bytes, start, end) {
        got += end - start;
        calls += 1;
        up.pause();
        setImmediate(() => up.resume());
      },
      onEnd() {},
      onBacklog() {},
      onClose() {},
    });
    const data = randomBytes(1_000_000);
    for (let at = 0; at < data.length; at += 50_000) up.write(data, at, at + 50_000);
    await until(() => got === data.length, 'all bytes in spite of the pauses');
    assert.ok(calls > 1);
    up.destroy();
  });

  named('bytes that are no TLS after the handshake end the connection', async (t) => {
    const running = await startTlsServer(t, serving(), { transport });
    const raw = connect(running.port, '127.0.0.1');
    t.after(() => raw.destroy());
    raw.on('error', () => {});
    const socket = tlsConnect({ socket: raw, rejectUnauthorized: false, ...own() });
    socket.on('error', () => {});
    await new Promise<void>((resolve) => {
      socket.once('data', () => resolve());
      socket.once('secureConnect', () => socket.write('!'));
    });
    raw.write(randomBytes(400));
    await until(() => running.closes.length === 1, 'the close');
    assert.equal(running.closes[0]?.kind, 'tls');
    // Others are not disturbed.
    assert.equal((await visit(running.port, own())).outcome, 'ok');
  });

  named('a client cannot renegotiate', async (t) => {
    const running = await startTlsServer(t, serving(), { transport });
    const socket = await connected(t, running, { maxVersion: 'TLSv1.2' });
    const outcome = await new Promise<string>((resolve) => {
      socket.on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
      socket.on('close', () => resolve('closed'));
      socket.renegotiate({}, (error) => resolve(error ? 'refused' : 'renegotiated'));
    });
    assert.notEqual(outcome, 'renegotiated');
  });

  named(
    'broken, cut and random hellos are refused one by one, and good clients are served all the while',
    async (t) => {
      const running = await startTlsServer(t, serving(), { transport });
      const hello = await captureHello();
      let seed = 7;
      const random = (below: number): number => {
        seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0;
        return (seed >>> 8) % below;
      };
      const knocks: Promise<void>[] = [];
      for (let i = 0; i < 150; i++) {
        const bytes = Buffer.from(hello);
        if (i % 3 === 0) bytes.writeUInt8(random(256), random(bytes.length));
        if (i % 3 === 1) for (let k = 0; k < 8; k++) bytes.writeUInt8(random(256), 9 + random(bytes.length - 9));
        knocks.push(knock(running.port, i % 3 === 2 ? bytes.subarray(0, random(bytes.length)) : bytes));
      }
      for (let i = 0; i < 30; i++) {
        const noise = randomBytes(1 + random(3_000));
        // Looks like a handshake record, so that it gets as far as OpenSSL.
        noise[0] = 22;
        knocks.push(knock(running.port, noise));
      }
      assert.equal((await visit(running.port, own())).outcome, 'ok');
      assert.equal(running.accepted.length, 1);
    },
  );
}

function captureHello(): Promise<Buffer> {
  return new Promise((resolve) => {
    const trap = createServer((socket) => {
      socket.once('data', (bytes: Buffer) => {
        socket.destroy();
        trap.close();
        resolve(bytes);
      });
    });
    trap.listen(0, '127.0.0.1', () => {
      const { port } = trap.address() as AddressInfo;
      tlsConnect({ port, host: '127.0.0.1', rejectUnauthorized: false, servername: 'a.example' }).on('error', () => {});
    });
  });
}

/** Sends bytes, ends, and waits until the server has closed. */
function knock(port: number, bytes: Buffer): Promise<void> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => socket.end(bytes));
    socket.on('error', () => {});
    socket.on('close', () => resolve());
    socket.resume();
  });
}

function residentMb(): number {
  return Number(/VmRSS:\s+(\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]) / 1024;
}

test('openssl: connections that come and go leave no memory behind', async (t) => {
  const running = await startTlsServer(t, serving(), { transport: 'openssl' });
  const caller = createTlsClient(t, calling(), { transport: 'openssl' });
  const round = async (count: number): Promise<void> => {
    for (let i = 0; i < count; i++) {
      assert.equal(typeof (await caller.call(running.port)), 'object');
      if (i % 4 === 0) await knock(running.port, Buffer.from('16030100050100000103', 'hex'));
      running.transports.length = 0;
      running.accepted.length = 0;
      running.closes.length = 0;
      running.refused.length = 0;
    }
  };
  // The heaps of V8 and C grow to what such traffic needs: most of it is over by then.
  await round(2_400);
  const first = residentMb();
  await round(1_200);
  const grown = residentMb() - first;
  // One leaked connection is 20 to 40 KB on either side: 1,200 of them would be 48 MB and more.
  assert.ok(grown < 24, `resident memory grew by ${grown.toFixed(1)} MB`);
});
