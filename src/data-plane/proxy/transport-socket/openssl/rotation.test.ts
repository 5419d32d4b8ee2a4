// A handshake that began under rules that were changed before its peer showed a certificate: what it finds out holds for nobody
// that comes later.
import assert from 'node:assert/strict';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { before, type TestContext, test } from 'node:test';
import { connect as tlsConnect } from 'node:tls';
import { until } from '../../testing/engine.ts';
import { createRoot, type Entity } from '../../testing/pki.ts';
import { certificateJson, createTlsClient, startTlsServer, TestSecrets, visit } from '../../testing/tls.ts';
import { openssl } from './library.ts';

let root: Entity;
let other: Entity;
let server: Entity;
let client: Entity;
before(async () => {
  root = await createRoot();
  other = await createRoot();
  server = await root.issue({ commonName: 'server' });
  client = await root.issue({ commonName: 'client' });
});

/** A wire that keeps what `from` says after its first word until `release`. */
async function startWire(t: TestContext, target: number, from: 'near' | 'far') {
  const kept: Buffer[] = [];
  let open = false;
  let sink: Socket | undefined;
  const wire = createServer((near) => {
    const far = connect({ port: target, host: '127.0.0.1' });
    const [speaker, hearer] = from === 'near' ? [near, far] : [far, near];
    let words = from === 'near' ? 0 : 1;
    sink = hearer;
    speaker.on('data', (bytes: Buffer) => {
      words += 1;
      if (open || words === 1) hearer.write(bytes);
      else kept.push(bytes);
    });
    hearer.pipe(speaker);
    for (const each of [near, far]) {
      each.on('error', () => {});
      each.on('close', () => (each === near ? far : near).destroy());
    }
    t.after(() => near.destroy());
  });
  await new Promise<void>((resolve) => wire.listen(0, '127.0.0.1', () => resolve()));
  t.after(() => wire.close());
  return {
    port: (wire.address() as AddressInfo).port,
    kept,
    release(): void {
      open = true;
      for (const bytes of kept.splice(0)) sink?.write(bytes);
    },
  };
}

for (const rule of ['another authority', 'a revocation list'] as const)
  test(`a client that waits for ${rule} to be told is not let in by it later`, async (t) => {
    const secrets = new TestSecrets();
    secrets.setTrust('trust', { trusted_ca: { inline_string: root.pem } });
    const running = await startTlsServer(
      t,
      {
        require_client_certificate: true,
        common_tls_context: {
          tls_certificates: [certificateJson(server)],
          validation_context_sds_secret_config: { name: 'trust' },
        },
      },
      { transport: 'openssl', secrets },
    );
    const wire = await startWire(t, running.port, 'near');
    const own = { cert: client.pem, key: client.keyPem };
    const slow = tlsConnect({ port: wire.port, host: '127.0.0.1', rejectUnauthorized: false, ...own });
    slow.on('error', () => {});
    t.after(() => slow.destroy());
    await until(() => wire.kept.length > 0, 'the certificate on the wire');
    secrets.setTrust(
      'trust',
      rule === 'another authority'
        ? { trusted_ca: { inline_string: other.pem } }
        : { trusted_ca: { inline_string: root.pem }, crl: { inline_string: await root.crl([client]) } },
    );
    wire.release();
    await until(() => running.accepted.length + running.refused.length === 1, 'the slow handshake');
    assert.notEqual((await visit(running.port, own)).outcome, 'ok');
  });

test('a server whose handshake was slow is not trusted later, when its authority is not any more', async (t) => {
  const running = await startTlsServer(
    t,
    { common_tls_context: { tls_certificates: [certificateJson(server)] } },
    { transport: 'openssl' },
  );
  const secrets = new TestSecrets();
  secrets.setTrust('trust', { trusted_ca: { inline_string: root.pem } });
  const upstream = createTlsClient(
    t,
    { common_tls_context: { validation_context_sds_secret_config: { name: 'trust' } } },
    { transport: 'openssl', secrets },
  );
  const wire = await startWire(t, running.port, 'far');
  const slow = upstream.open(wire.port);
  await until(() => wire.kept.length > 0, 'the certificate on the wire');
  secrets.setTrust('trust', { trusted_ca: { inline_string: other.pem } });
  wire.release();
  const opened = await slow;
  if (opened.kind === 'connected') opened.transport.destroy();
  assert.equal(typeof (await upstream.call(running.port)), 'string');
});

test('a connection that comes to its handshake after its cluster was drained leaves no context behind', async (t) => {
  const library = openssl();
  const { SSL_CTX_new, SSL_CTX_free } = library;
  const running = await startTlsServer(
    t,
    { common_tls_context: { tls_certificates: [certificateJson(server)] } },
    { transport: 'openssl' },
  );
  await visit(running.port, {});
  let living = 0;
  library.SSL_CTX_new = (method) => {
    living += 1;
    return SSL_CTX_new(method);
  };
  library.SSL_CTX_free = (context) => {
    living -= 1;
    SSL_CTX_free(context);
  };
  t.after(() => {
    library.SSL_CTX_new = SSL_CTX_new;
    library.SSL_CTX_free = SSL_CTX_free;
  });
  const upstream = createTlsClient(t, { common_tls_context: {} }, { transport: 'openssl' });
  const late = upstream.open(running.port);
  upstream.dispose();
  const opened = await late;
  assert.equal(opened.kind, 'connected');
  if (opened.kind === 'connected') opened.transport.destroy();
  assert.equal(living, 0);
});
