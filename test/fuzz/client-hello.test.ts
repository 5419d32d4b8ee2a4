// TLS from anybody: no bytes make the ClientHello reader throw or decide two ways, and whatever is changed on the way, in the
// hello or later, the TLS transports neither fall over nor hand out bytes that were not sent.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { type TestContext, test } from 'node:test';
import { connect as connectTls } from 'node:tls';
import { HelloReader, readClientHello } from '../../src/data-plane/proxy/listener-filter/client-hello.ts';
import { createRoot, type Entity } from '../../src/data-plane/proxy/testing/pki.ts';
import { certificateJson, startTlsServer, type TlsServer, visit } from '../../src/data-plane/proxy/testing/tls.ts';
import { corpus, fuzz, mutate, seededRandom } from './mutate.ts';

const SEEDS = corpus('client-hello');
const BOTH = { ja3: true, ja4: true };

test('no bytes break the reader, and how they are cut does not matter', async () => {
  await fuzz(SEEDS, 20_000, (input) => {
    const whole = readClientHello(input, BOTH);
    if (whole.kind === 'hello') {
      assert.match(whole.fingerprints?.ja3 ?? '', /^[0-9a-f]{32}$/);
      assert.match(
        whole.fingerprints?.ja4 ?? '',
        /^t(?:0[0]|1[0-3])[di]\d{4}[0-9A-Za-z]{2}_[0-9a-f]{12}_[0-9a-f]{12}$/,
      );
      assert.ok(whole.serverName.length <= input.length && whole.alpn.length <= input.length);
      assert.equal(whole.serverName, whole.serverName.toLowerCase());
    }
    const reader = new HelloReader(BOTH);
    for (let end = 0; end < input.length; end += 1 + Math.floor(input.length / 32)) {
      const part = readClientHello(input.subarray(0, end), BOTH);
      assert.deepEqual(reader.read(input.subarray(0, end)), part);
      if (part.kind !== 'more') assert.deepEqual(part, whole);
    }
    assert.deepEqual(reader.read(input), whole);
  });
});

test('the seeds are understood', () => {
  const read = SEEDS.map((seed) => readClientHello(seed, BOTH));
  const told = read.map((hello) =>
    hello.kind === 'hello' ? [hello.serverName, hello.fingerprints?.ja3, hello.fingerprints?.ja4] : hello.kind,
  );
  // As Envoy 1.40 prints them.
  assert.deepEqual(told, [
    ['', '577fbfd57b256f5467f2fe09d1105a26', 't12i020000_f54dd463d39b_000000000000'],
    ['b.local', '139256aa71991d33e0a33bd948eabeba', 't12d060700_39a52dd9ae43_0f3b2bcde21d'],
    ['grease.example', '77d088ca6e6dbeb53da36c16dc4d330e', 't13d0509h2_e133e205ac38_9d8884e243a4'],
    ['a.example', '6274361c9c42323da0f133ff7a0fae28', 't13d5212i1_b262b3658495_8e6e362c5eac'],
    ['b.example', '12fcd33dadffeb6c616a57e9479a11fa', 't12d490800_a3a57eb31a6a_36cef8aed422'],
    ['odd.example', '53294b63b4eb8ab2c44cc1f2e481330b', 't11d0202ad_a0546e0689fc_000000000000'],
    ['old.example', '7e1fda71d3645990da935da84d141b24', 't12d050700_9fb2f9c2e5cc_e7e480e5a997'],
    ['openssl.example', '9dffdb8b608a430b774a2ff7d36c1a0c', 't13d0411h1_16476d049b0b_78f1d400d464'],
    ['b.example', '12fcd33dadffeb6c616a57e9479a11fa', 't12d490800_a3a57eb31a6a_36cef8aed422'],
  ]);
});

async function start(t: TestContext): Promise<{ running: TlsServer; client: Entity }> {
  const root = await createRoot();
  const server = await root.issue({ commonName: 'server' });
  const client = await root.issue({ commonName: 'client' });
  const validation = { trusted_ca: { inline_string: root.pem } };
  const running = await startTlsServer(
    t,
    {
      require_client_certificate: true,
      common_tls_context: {
        tls_certificates: [certificateJson(server)],
        validation_context: validation,
        alpn_protocols: ['http/1.1'],
      },
    },
    { transport: 'openssl' },
  );
  return { running, client };
}

/** Sends bytes, ends, and waits for the close. */
function knock(port: number, bytes: Buffer): Promise<void> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => socket.end(bytes));
    socket.on('error', () => {});
    socket.on('close', () => resolve());
    socket.resume();
  });
}

test('mutated hellos reach OpenSSL and harm nobody', async (t) => {
  const { running, client } = await start(t);
  let open: Promise<void>[] = [];
  await fuzz(SEEDS, 600, async (input) => {
    open.push(knock(running.port, input.length > 0 ? input : Buffer.from([22])));
    if (open.length < 20) return;
    await Promise.all(open);
    open = [];
  });
  await Promise.all(open);
  assert.equal(running.accepted.length, 0, 'nobody without a certificate was accepted');
  assert.equal((await visit(running.port, { cert: client.pem, key: client.keyPem })).outcome, 'ok');
});

/** A wire that changes what passes `at` bytes from the start of one direction. */
function tamper(t: TestContext, to: number, upward: boolean, at: number, random: () => number): Promise<number> {
  const wire = createServer((near) => {
    const far = connect(to, '127.0.0.1');
    pass(near, far, upward);
    pass(far, near, !upward);
  });
  const pass = (from: Socket, into: Socket, changed: boolean): void => {
    let seen = 0;
    from.on('data', (chunk: Buffer) => {
      const here = changed && seen <= at && at < seen + chunk.length;
      seen += chunk.length;
      into.write(here ? mutate(chunk, chunk, random) : chunk);
    });
    from.on('end', () => into.end());
    from.on('error', () => into.destroy());
    from.on('close', () => into.destroy());
  };
  t.after(() => wire.close());
  return new Promise((resolve) => wire.listen(0, '127.0.0.1', () => resolve((wire.address() as AddressInfo).port)));
}

test('whatever is changed on the wire, no byte is echoed that was not sent', async (t) => {
  const { running, client } = await start(t);
  const random = seededRandom(Number(process.env.MELTEMI_FUZZ_SEED ?? 1));
  const sent = randomBytes(20_000);
  const one = async (i: number): Promise<void> => {
    const port = await tamper(t, running.port, i % 2 === 0, Math.floor(random() * 24_000), random);
    const got = await new Promise<Buffer>((resolve) => {
      const chunks: Buffer[] = [];
      const socket = connectTls({
        port,
        host: '127.0.0.1',
        rejectUnauthorized: false,
        cert: client.pem,
        key: client.keyPem,
        ...(i % 3 === 0 ? { maxVersion: 'TLSv1.2' } : {}),
      });
      socket.setTimeout(1_500, () => socket.destroy());
      socket.on('error', () => {});
      socket.on('secureConnect', () => socket.end(sent));
      socket.on('data', (chunk: Buffer) => chunks.push(chunk));
      socket.on('close', () => resolve(Buffer.concat(chunks)));
    });
    assert.ok(got.equals(sent.subarray(0, got.length)), `run ${i}`);
  };
  const count = Number(process.env.MELTEMI_FUZZ_ITERATIONS ?? 120);
  for (let i = 0; i < count; i += 8) await Promise.all(Array.from({ length: 8 }, (_, k) => one(i + k)));
  assert.equal((await visit(running.port, { cert: client.pem, key: client.keyPem })).outcome, 'ok');
});
