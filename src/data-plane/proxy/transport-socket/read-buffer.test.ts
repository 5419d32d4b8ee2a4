// The reused read buffer stands on names inside Node: this fails when a release changes them.
import assert from 'node:assert/strict';
import { connect, createServer, Socket } from 'node:net';
import { test } from 'node:test';
import { systemClock } from '../../../base/runtime/clock.ts';
import { inspect } from '../listener/inspect.ts';
import { listen, until } from '../testing/engine.ts';
import { readInto, startReading, stopReading } from './read-buffer.ts';
import { SocketTransport } from './socket-transport.ts';

const NOWHERE = { local: { kind: 'pipe', path: '' }, remote: { kind: 'pipe', path: '' } } as const;

test('an accepted socket reads into the one buffer, stops and goes on', async (t) => {
  let got = '';
  let accepted: Socket | undefined;
  const server = createServer({ pauseOnConnect: true }, (socket) => {
    accepted = socket;
    assert.equal(
      readInto(socket, (bytes, length) => {
        got += bytes.toString('latin1', 0, length);
      }),
      true,
      'this Node does not allow a user buffer on accepted sockets',
    );
    startReading(socket);
  });
  const port = await listen(t, server as never);
  const client = connect(port, '127.0.0.1', () => client.write('one'));
  t.after(() => client.destroy());
  await until(() => got === 'one', 'the first bytes');
  stopReading(accepted!);
  await new Promise<void>((resolve) => client.write('two', () => resolve()));
  assert.equal(got, 'one');
  startReading(accepted!);
  await until(() => got === 'onetwo', 'the rest');
});

test('a socket without a handle is refused, so that the caller uses data events', () => {
  assert.equal(
    readInto(new Socket(), () => {}),
    false,
  );
});

test('bytes, their end and the close reach the sink in order; many small writes become one', async (t) => {
  const events: string[] = [];
  let transport: SocketTransport | undefined;
  const server = createServer({ pauseOnConnect: true, allowHalfOpen: true }, (socket) => {
    transport = new SocketTransport(socket, { ...NOWHERE, initial: Buffer.from('early ') });
    transport.start({
      onData(bytes, start, end) {
        events.push(bytes.toString('latin1', start, end));
        for (const word of ['a', 'b', 'c']) transport!.write(Buffer.from(word), 0, 1);
      },
      onEnd() {
        events.push('end');
        transport!.end();
      },
      onBacklog() {},
      onClose: (failure) => void events.push(failure ? failure.kind : 'close'),
    });
  });
  const port = await listen(t, server as never);
  const chunks: string[] = [];
  const client = connect({ port, host: '127.0.0.1', allowHalfOpen: true }, () => client.end('late'));
  client.on('data', (chunk: Buffer) => chunks.push(chunk.toString()));
  await until(() => events.includes('close'), 'the close');
  assert.deepEqual(events, ['early ', 'late', 'end', 'close']);
  assert.equal(chunks.join(''), 'abcabc');
  assert.equal(transport?.bytesWritten, 6);
});

test('a transport that was paused before it starts reads nothing, also behind an inspector', async (t) => {
  let transport: SocketTransport | undefined;
  let got = 0;
  const server = createServer({ pauseOnConnect: true, allowHalfOpen: true }, (socket) => {
    inspect(socket, { tls: true, http: false, timeoutMs: 0 }, systemClock, (inspection) => {
      if (inspection.outcome !== 'done') return;
      transport = new SocketTransport(socket, { ...NOWHERE, initial: inspection.bytes });
      transport.pause();
      transport.start({
        onData(_bytes, start, end) {
          got += end - start;
        },
        onEnd() {},
        onBacklog() {},
        onClose() {},
      });
    });
  });
  const port = await listen(t, server as never);
  const client = connect(port, '127.0.0.1');
  t.after(() => client.destroy());
  client.write('hello');
  await until(() => transport !== undefined, 'the connection');
  const before = got;
  const size = 1_000_000;
  client.write(Buffer.alloc(size));
  // Each visit takes turns of the event loop in which the bytes above could have been read.
  for (let i = 0; i < 20; i++) {
    const visitor = connect(port, '127.0.0.1');
    await new Promise<void>((resolve) => visitor.once('connect', resolve));
    visitor.destroy();
  }
  assert.equal(got, before);
  transport!.resume();
  await until(() => got === 5 + size, 'all of it');
  transport!.destroy();
});
