// What must not depend on when and for whom: an end that comes before anybody reads, and answers to key updates of one
// connection while another writes.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { type AddressInfo, connect, createServer } from 'node:net';
import { before, type TestContext, test } from 'node:test';
import { createServer as createTlsServer } from 'node:tls';
import { until } from '../../testing/engine.ts';
import { watchKeyUpdates } from '../../testing/key-update.ts';
import { createRoot, type Entity } from '../../testing/pki.ts';
import { certificateJson, createTlsClient, startTlsServer, type TlsServer, visit } from '../../testing/tls.ts';
import type { Transport, TransportFailure, TransportSink } from '../transport.ts';
import type { Pointer } from './library.ts';

let root: Entity;
let server: Entity;
let client: Entity;
before(async () => {
  root = await createRoot();
  server = await root.issue({ commonName: 'server', names: ['spiffe://a/server'] });
  client = await root.issue({ commonName: 'client', names: ['spiffe://a/client'] });
});

const tls = (own: Entity) => ({
  common_tls_context: {
    tls_certificates: [certificateJson(own)],
    validation_context: { trusted_ca: { inline_string: root.pem } },
  },
});

/** Everything a connection said to a sink, in order. */
class Heard implements TransportSink {
  readonly events: string[] = [];
  bytes: Buffer = Buffer.alloc(0);
  failure: TransportFailure | undefined;
  onData(bytes: Buffer, start: number, end: number): void {
    this.bytes = Buffer.concat([this.bytes, bytes.subarray(start, end)]);
    if (this.events.at(-1) !== 'data') this.events.push('data');
  }
  onEnd(): void {
    this.events.push('end');
  }
  onBacklog(): void {}
  onClose(failure: TransportFailure | undefined): void {
    this.failure = failure;
    this.events.push('close');
  }
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** A wire that keeps what the server says after the client's second word, and brings it in one piece with the server's end. */
async function startWire(t: TestContext, target: number): Promise<number> {
  const wire = createServer({ allowHalfOpen: true }, (near) => {
    const far = connect({ port: target, host: '127.0.0.1', allowHalfOpen: true });
    let words = 0;
    const kept: Buffer[] = [];
    near.on('data', (bytes: Buffer) => {
      words += 1;
      far.write(bytes);
    });
    far.on('data', (bytes: Buffer) => {
      if (words < 2) near.write(bytes);
      else kept.push(bytes);
    });
    far.on('end', () => near.end(Buffer.concat(kept)));
    near.on('end', () => far.end());
    for (const socket of [near, far]) socket.on('error', () => {});
    t.after(() => {
      near.destroy();
      far.destroy();
    });
  });
  await new Promise<void>((resolve) => wire.listen(0, '127.0.0.1', resolve));
  t.after(() => wire.close());
  return (wire.address() as AddressInfo).port;
}

for (const transport of ['tlssocket', 'openssl'] as const)
  for (const words of ['', 'last words', 'x'.repeat(30_000)])
    for (const together of [false, true])
      test(`${transport}: ${words.length} bytes and the end that come before anybody reads ${together ? '(with the handshake)' : ''}`, async (t) => {
        let said = false;
        const peer = createTlsServer({ cert: server.chainPem, key: server.keyPem, maxVersion: 'TLSv1.2' }, (socket) => {
          socket.on('error', () => {});
          t.after(() => socket.destroy());
          socket.end(words, () => {
            said = true;
          });
        });
        await new Promise<void>((resolve) => peer.listen(0, '127.0.0.1', resolve));
        t.after(() => peer.close());
        const { port } = peer.address() as AddressInfo;
        const client = createTlsClient(t, tls(server), { transport });
        const opened = await client.open(together ? await startWire(t, port) : port);
        assert.ok(opened.kind === 'connected');
        t.after(() => opened.transport.destroy());
        await until(() => said, 'the end on its way');
        // It is in the kernel now: give the socket turns to find it.
        for (let i = 0; i < 20; i++) await turn();
        const heard = new Heard();
        opened.transport.start(heard);
        await until(() => heard.events.includes('end'), 'the end');
        assert.deepEqual(heard.events, words === '' ? ['end'] : ['data', 'end']);
        assert.equal(heard.bytes.toString(), words);
      });

interface Joined {
  readonly up: Transport;
  readonly heard: Heard;
  readonly down: Transport;
  readonly serverSsl: Pointer;
  readonly clientSsl: Pointer;
}

async function join(t: TestContext, running: TlsServer, keys: ReturnType<typeof watchKeyUpdates>): Promise<Joined> {
  const before = keys.live();
  const count = running.transports.length;
  const opened = await createTlsClient(t, tls(client), { transport: 'openssl' }).open(running.port);
  assert.ok(opened.kind === 'connected');
  const { transport: up } = opened;
  const heard = new Heard();
  up.start(heard);
  await until(() => running.transports.length > count, 'the server side');
  const [clientSsl, serverSsl] = keys.live().filter((ssl) => !before.includes(ssl));
  t.after(() => up.destroy());
  return { up, heard, down: running.transports.at(-1)!, clientSsl: clientSsl!, serverSsl: serverSsl! };
}

test('answers to key updates of one connection never leave on another that is written to meanwhile', async (t) => {
  const keys = watchKeyUpdates(t);
  const running = await startTlsServer(
    t,
    { require_client_certificate: true, ...tls(server) },
    { transport: 'openssl' },
  );
  const one = await join(t, running, keys);
  const other = await join(t, running, keys);
  // What the first says goes to the second client, in pieces large enough to be sealed at once.
  let passed = 0;
  one.down.redirect({
    onData(bytes, start, end) {
      passed += end - start;
      other.down.forward(Buffer.from(bytes.subarray(start, end)), 0, end - start);
    },
    onEnd() {},
    onBacklog() {},
    onClose() {},
  });
  const rounds = 20;
  const block = randomBytes(60_000);
  for (let i = 1; i <= rounds; i++) {
    assert.ok(keys.request(one.clientSsl), 'a key update');
    one.up.write(block, 0, block.length);
    await until(() => passed === i * block.length, 'the bytes at the server');
    await until(
      () => other.heard.bytes.length === i * block.length || other.heard.events.includes('close'),
      'the bytes',
    );
    assert.deepEqual(other.heard.events, ['data'], `after ${i} key updates: ${other.heard.failure?.reason}`);
  }
  assert.ok(other.heard.bytes.equals(Buffer.concat(Array.from({ length: rounds }, () => block))));
  // Both go on.
  one.down.write(Buffer.from('first'), 0, 5);
  await until(() => one.heard.bytes.toString() === 'first', 'the first connection');
});

test('the chain that a client sent stays its own when others come', async (t) => {
  const upper = await root.issue({ commonName: 'upper', ca: true });
  const lower = await upper.issue({ commonName: 'lower', ca: true });
  const leaf = await lower.issue({ commonName: 'client' });
  const running = await startTlsServer(
    t,
    { require_client_certificate: true, ...tls(server) },
    { transport: 'openssl' },
  );
  await visit(running.port, { cert: leaf.chainPem, key: leaf.keyPem });
  await visit(running.port, { cert: client.pem, key: client.keyPem });
  const [first, second] = running.accepted;
  assert.deepEqual(first?.peerChain, [lower.certificate.der, upper.certificate.der]);
  assert.deepEqual(second?.peerChain, []);
});
