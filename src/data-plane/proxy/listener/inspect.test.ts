// Clients that end, or say nothing, while the listener looks at their first bytes.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { type TestContext, test } from 'node:test';
import { systemClock } from '../../../base/runtime/clock.ts';
import { type Inspection, inspect } from './inspect.ts';

interface Look {
  readonly result: Promise<Inspection>;
  readonly client: Socket;
}

async function look(t: TestContext, wanted: Partial<Parameters<typeof inspect>[1]>): Promise<Look> {
  let report: (result: Inspection) => void;
  const result = new Promise<Inspection>((resolve) => {
    report = resolve;
  });
  const server = createServer({ pauseOnConnect: true, allowHalfOpen: true }, (socket) => {
    t.after(() => socket.destroy());
    inspect(socket, { tls: true, http: true, timeoutMs: 0, ...wanted }, systemClock, report);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => server.close());
  const client = connect((server.address() as AddressInfo).port, '127.0.0.1');
  t.after(() => client.destroy());
  await once(client, 'connect');
  return { result, client };
}

/** How the connection ends for the client. */
const endOf = (client: Socket): Promise<string> =>
  new Promise((resolve) => {
    client.on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? ''));
    client.on('close', () => resolve('closed'));
    client.resume();
  });

for (const [name, sent, end] of [
  ['a piece of a request', 'GET / HT', 'ECONNRESET'],
  ['a piece of a ClientHello', '\x16\x03\x01\x00\x50', 'ECONNRESET'],
  ['nothing', '', 'closed'],
] as const)
  test(`${name}, and the end: the connection is closed`, async (t) => {
    const { result, client } = await look(t, {});
    const ended = endOf(client);
    client.end(sent, 'latin1');
    assert.equal((await result).outcome, 'closed');
    assert.equal(await ended, end);
  });

test('who looks for itself is handed what came, and the end with it', async (t) => {
  const { result, client } = await look(t, { http: false, halfClosed: true });
  client.end('\x16\x03', 'latin1');
  const { outcome, bytes } = await result;
  assert.equal(outcome, 'done');
  assert.equal(bytes?.toString('latin1'), '\x16\x03');
});

test('fingerprints come with what was found', async (t) => {
  const { result, client } = await look(t, {
    inspection: { fingerprinting: { ja3: true, ja4: false }, maxBytes: 16_384, closeOnErrors: false },
  });
  client.write(Buffer.from(`160301002f0100002b0303${'07'.repeat(32)}000004002f00350100`, 'hex'));
  assert.deepEqual((await result).fingerprints, { ja3: '577fbfd57b256f5467f2fe09d1105a26', ja4: '' });
});
