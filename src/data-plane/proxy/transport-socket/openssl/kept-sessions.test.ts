// Sessions that a server keeps for clients that come again: how many, for whom, and that configuration can have them sealed into
// tickets instead. What a resumed session may do is in ../tls.test.ts.
import assert from 'node:assert/strict';
import { before, type TestContext, test } from 'node:test';
import { connect } from 'node:tls';
import type { JsonObject } from '@bufbuild/protobuf';
import { MAX_PEER_CERTIFICATE_BYTES, MAX_SERVER_SESSIONS } from '../../limits.ts';
import { until } from '../../testing/engine.ts';
import { createRoot, type Entity } from '../../testing/pki.ts';
import { startTlsServer, TestSecrets, visit } from '../../testing/tls.ts';
import { openssl, type Pointer } from './library.ts';

const SESSIONS_KEPT = 20;
const SESSIONS_ALLOWED = 43;

let root: Entity;
let server: Entity;
let client: Entity;
before(async () => {
  root = await createRoot();
  server = await root.issue({ commonName: 'server' });
  client = await root.issue({ commonName: 'client' });
});
const own = () => ({ cert: client.pem, key: client.keyPem });

/** A server that asks for certificates, and the OpenSSL contexts its connections are made with, newest last. */
async function start(t: TestContext, extra: JsonObject = {}) {
  const library = openssl();
  const { SSL_new } = library;
  const contexts: Pointer[] = [];
  library.SSL_new = (context) => {
    if (contexts.at(-1) !== context) contexts.push(context);
    return SSL_new(context);
  };
  t.after(() => {
    library.SSL_new = SSL_new;
  });
  const secrets = new TestSecrets();
  secrets.setCertificate('own', server);
  const running = await startTlsServer(
    t,
    {
      require_client_certificate: true,
      common_tls_context: {
        tls_certificate_sds_secret_configs: [{ name: 'own' }],
        validation_context: { trusted_ca: { inline_string: root.pem } },
      },
      ...extra,
    },
    { transport: 'openssl', secrets },
  );
  const ask = (what: number, context = contexts.at(-1)!): number => library.SSL_CTX_ctrl(context, what, 0, 0);
  return { running, secrets, contexts, ask };
}

for (const version of ['TLSv1.2', 'TLSv1.3'] as const)
  test(`${version}: sessions are kept within the limit, and forgotten when the certificate changes`, async (t) => {
    const { running, secrets, contexts, ask } = await start(t);
    const options = { ...own(), maxVersion: version };
    const first = await visit(running.port, options);
    for (let i = 1; i < 4; i++) await visit(running.port, options);
    assert.equal(ask(SESSIONS_KEPT), 4);
    assert.equal(ask(SESSIONS_ALLOWED), MAX_SERVER_SESSIONS);
    assert.equal((await visit(running.port, { ...options, session: first.session! })).reused, true);
    // A connection that stays holds the old context.
    const open = connect({ port: running.port, host: '127.0.0.1', rejectUnauthorized: false, ...options });
    t.after(() => open.destroy());
    open.on('error', () => {});
    await new Promise((resolve) => open.once('secureConnect', resolve));
    await until(() => running.accepted.length === 6, 'the server side');
    secrets.setCertificate('own', await root.issue({ commonName: 'next' }));
    assert.equal(ask(SESSIONS_KEPT), 0);
    const again = await visit(running.port, { ...options, session: first.session! });
    assert.deepEqual([again.outcome, again.reused], ['ok', false]);
    assert.equal(contexts.length, 2);
  });

test('a session whose connection was reset can be taken up again', async (t) => {
  const { running } = await start(t);
  let session: Buffer | undefined;
  const broken = connect({ port: running.port, host: '127.0.0.1', rejectUnauthorized: false, ...own() });
  broken.on('error', () => {});
  broken.on('session', (bytes: Buffer) => {
    session = bytes;
  });
  await new Promise<void>((resolve) => {
    broken.once('data', () => resolve());
    broken.once('secureConnect', () => broken.write('!'));
  });
  // TLSSocket itself cannot send RST, the handle below it can.
  (broken as unknown as { _handle: { _parent: { reset(done: () => void): number } } })._handle._parent.reset(() => {});
  await until(() => running.closes.length === 1, 'the reset');
  assert.equal((await visit(running.port, { ...own(), session: session! })).reused, true);
  broken.destroy();
});

test('disable_stateful_session_resumption has sessions sealed into tickets', async (t) => {
  const { running, ask } = await start(t, { disable_stateful_session_resumption: true });
  const first = await visit(running.port, own());
  assert.equal(ask(SESSIONS_KEPT), 0);
  assert.equal((await visit(running.port, { ...own(), session: first.session! })).reused, true);
  assert.equal(ask(SESSIONS_KEPT), 0);
});

test('a client that sends more certificates than anybody needs gets no session to keep them in', async (t) => {
  const { running, ask } = await start(t);
  const few = await visit(running.port, { cert: client.pem + root.pem.repeat(4), key: client.keyPem });
  assert.equal(few.outcome, 'ok');
  const many = Math.ceil(MAX_PEER_CERTIFICATE_BYTES / 300);
  const all = await visit(running.port, { cert: client.pem + root.pem.repeat(many), key: client.keyPem });
  assert.notEqual(all.outcome, 'ok');
  assert.equal(ask(SESSIONS_KEPT), 1);
});
