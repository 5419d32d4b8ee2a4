// The ClientHello reader on what a real client sends, on every prefix of it, and on damaged copies.
import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import { createServer } from 'node:net';
import { before, test } from 'node:test';
import { connect } from 'node:tls';
import fc from 'fast-check';
import { systemClock } from '../../../base/runtime/clock.ts';
import { classify, type Inspection, inspect } from '../listener/inspect.ts';
import { listen } from '../testing/engine.ts';
import { HelloReader, readClientHello } from './client-hello.ts';
import { detectHttp } from './http-detect.ts';

let hello: Buffer;
before(async (t) => {
  hello = await new Promise((resolve) => {
    const server = createServer((socket) => {
      socket.on('error', () => {});
      socket.once('data', (chunk: Buffer) => {
        socket.destroy();
        resolve(chunk);
      });
    });
    void listen(t as never, server as never).then((port) => {
      connect({
        port,
        host: '127.0.0.1',
        servername: 'Outbound_.80_._.a.b',
        ALPNProtocols: ['istio-http/1.1', 'istio'],
      }).on('error', () => {});
    });
  });
});

const EXPECTED = { kind: 'hello', serverName: 'outbound_.80_._.a.b', alpn: ['istio-http/1.1', 'istio'], ecdsa: true };

test('server name and protocols of a real ClientHello, also split over records', () => {
  assert.deepEqual(readClientHello(hello), EXPECTED);
  const body = hello.subarray(5);
  const record = (part: Buffer) =>
    Buffer.concat([hello.subarray(0, 3), Buffer.from([part.length >> 8, part.length & 255]), part]);
  assert.deepEqual(
    readClientHello(
      Buffer.concat([record(body.subarray(0, 2)), record(body.subarray(2, 70)), record(body.subarray(70))]),
    ),
    EXPECTED,
  );
});

test('how a hello is cut into records and pieces does not matter', () => {
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: 1, max: 90 }), { minLength: 1, maxLength: 300 }),
      fc.array(fc.integer({ min: 1, max: 90 }), { minLength: 1, maxLength: 300 }),
      (records, pieces) => {
        const body = hello.subarray(5);
        const parts: Buffer[] = [];
        for (let at = 0, i = 0; at < body.length; i++) {
          const part = body.subarray(at, at + records[i % records.length]!);
          parts.push(Buffer.from([22, 3, 1, 0, part.length]), part);
          at += part.length;
        }
        const wire = Buffer.concat(parts);
        const reader = new HelloReader();
        let result = reader.read(Buffer.alloc(0));
        for (let at = 0, i = 0; at < wire.length; i++) {
          assert.equal(result.kind, 'more');
          at = Math.min(wire.length, at + pieces[i % pieces.length]!);
          result = reader.read(wire.subarray(0, at));
        }
        assert.deepEqual(result, EXPECTED);
      },
    ),
    { numRuns: 200 },
  );
});

test('every prefix asks for more, and says nothing false', () => {
  for (let length = 0; length < hello.length; length++)
    assert.deepEqual(readClientHello(hello.subarray(0, length)), { kind: 'more' }, `prefix of ${length}`);
});

test('a hello of one-byte records that comes byte by byte costs as much a byte as any other', (t) => {
  const body = hello.subarray(5);
  const wire = Buffer.concat([...body].map((byte) => Buffer.from([22, 3, 1, 0, 1, byte])));
  let looks = 0;
  const look = Buffer.prototype.readUInt16BE;
  t.mock.method(Buffer.prototype, 'readUInt16BE', function (this: Buffer, at?: number) {
    looks += 1;
    return look.call(this, at);
  });
  let copied = 0;
  const copy = Buffer.prototype.copy;
  t.mock.method(Buffer.prototype, 'copy', function (this: Buffer, ...to: Parameters<Buffer['copy']>) {
    const bytes = copy.apply(this, to);
    copied += bytes;
    return bytes;
  });
  const { concat } = Buffer;
  t.mock.method(Buffer, 'concat', (...parts: Parameters<typeof Buffer.concat>) => {
    const joined = concat.apply(Buffer, parts);
    copied += joined.length;
    return joined;
  });
  const socket = Object.assign(new EventEmitter(), { destroyed: false, pause() {}, resume() {}, destroy() {} });
  let found: Inspection | undefined;
  inspect(socket as never, { tls: true, http: true, timeoutMs: 0 }, systemClock, (result) => {
    found = result;
  });
  for (let at = 0; at < wire.length && !found; at++) socket.emit('data', wire.subarray(at, at + 1));
  assert.equal(found?.serverName, EXPECTED.serverName);
  assert.ok(found?.bytes?.equals(wire));
  assert.ok(looks < 4 * wire.length, `${looks} looks at ${wire.length} bytes`);
  assert.ok(copied < 8 * wire.length, `${copied} bytes copied of ${wire.length}`);
});

test('damaged and invented bytes give an answer', () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.nat(hello.length - 1), fc.nat(255)), { maxLength: 6 }),
      fc.nat(hello.length),
      (edits, length) => {
        const copy = Buffer.from(hello);
        for (const [at, value] of edits) copy[at] = value;
        assert.ok(['more', 'hello', 'not-tls'].includes(readClientHello(copy.subarray(0, length)).kind));
      },
    ),
    { numRuns: 3000 },
  );
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 120 }), (bytes) => {
      readClientHello(Buffer.from([22, 3, 1, ...bytes]));
    }),
  );
  assert.equal(readClientHello(Buffer.from('GET / HTTP/1.1\r\n')).kind, 'not-tls');
  assert.equal(readClientHello(Buffer.from([22, 3, 1, 0xff, 0xff, 1, 0, 0, 0])).kind, 'not-tls');
});

test('a hello that does not fit what may be looked at is too large, however it comes', () => {
  const kind = (bytes: Buffer, max: number) => new HelloReader(undefined, max).read(bytes).kind;
  assert.equal(kind(hello, hello.length), 'hello');
  assert.equal(kind(Buffer.concat([hello, Buffer.alloc(999)]), hello.length), 'hello');
  assert.equal(kind(hello, hello.length - 1), 'too-large');
  assert.equal(kind(hello.subarray(0, 300), 300), 'too-large');
  assert.equal(kind(hello.subarray(0, 299), 300), 'more');
  assert.equal(kind(Buffer.alloc(1_000, 'x'), 300), 'not-tls');
  const endless = Buffer.concat([Buffer.from([22, 3, 1, 0x40, 0, 1, 0, 0x40, 0]), Buffer.alloc(20_000)]);
  assert.equal(kind(endless.subarray(0, 16_383), 16_384), 'more');
  assert.equal(kind(endless, 16_384), 'too-large');
});

test('what is no hello is refused where it may not be served', () => {
  const strict = { fingerprinting: undefined, maxBytes: 300, closeOnErrors: true };
  const look = (bytes: Buffer, inspection?: typeof strict) => {
    const { outcome, fault } = classify(bytes, { tls: true, http: true, inspection }) ?? {};
    return [outcome, fault];
  };
  const plain = Buffer.from('GET / HTTP/1.1\r\n');
  assert.deepEqual(look(plain), ['done', 'ClientHelloNotDetected']);
  assert.deepEqual(look(plain, strict), ['refused', 'ClientHelloNotDetected']);
  assert.deepEqual(look(Buffer.alloc(300, 'x'), strict), ['refused', 'ClientHelloTooLarge']);
  assert.deepEqual(look(hello, strict), ['refused', 'ClientHelloTooLarge']);
  assert.deepEqual(look(hello), ['done', undefined]);
});

test('HTTP is told from the rest by its first line', () => {
  const detect = (text: string) => detectHttp(Buffer.from(text, 'latin1'));
  assert.equal(detect('GET / HTTP/1.1\r\n'), 'http/1.1');
  assert.equal(detect('GET / HTTP/1.0\n'), 'http/1.0');
  assert.equal(detect('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), 'h2c');
  assert.equal(detect('PRI * HT'), 'more');
  assert.equal(detect('PO'), 'more');
  assert.equal(detect('POST /aaa'), 'more');
  assert.equal(detect('POTS / HTTP/1.1\r\n'), 'none');
  assert.equal(detect('GET / FTP\r\n'), 'none');
  assert.equal(detect('\x00\x01'), 'none');
  assert.equal(detect(`GET /${'a'.repeat(9000)}`), 'none');
});

test('the inspectors together: TLS first, then HTTP', () => {
  const both = { tls: true, http: true };
  assert.equal(classify(hello, both)?.transportProtocol, 'tls');
  assert.deepEqual(classify(Buffer.from('GET / HTTP/1.1\r\n'), both)?.alpn, ['http/1.1']);
  assert.equal(classify(Buffer.from([22]), both), undefined);
  assert.equal(classify(hello, { tls: false, http: true })?.transportProtocol, 'raw_buffer');
});
