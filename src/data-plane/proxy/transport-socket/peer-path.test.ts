// What a client sent beside its certificate and who issued it, and ids of sessions, on both transports, on full and resumed
// handshakes, and that nothing is read unless somebody asks.
import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { before, type TestContext, test } from 'node:test';
import type { JsonObject } from '@bufbuild/protobuf';
import { compileFormat } from '../access-log/format.ts';
import { StreamInfo } from '../http/stream-info.ts';
import { MAX_PEER_CERTIFICATE_BYTES } from '../limits.ts';
import { CONNECTION } from '../testing/filters.ts';
import { createRoot, type Entity } from '../testing/pki.ts';
import { startTlsServer, type TlsServer, visit } from '../testing/tls.ts';
import type { TlsTransport } from './tls-context.ts';

let root: Entity;
let upper: Entity;
let lower: Entity;
let server: Entity;
let client: Entity;
let other: Entity;
before(async () => {
  root = await createRoot();
  other = await createRoot({ commonName: 'other' });
  upper = await root.issue({ commonName: 'upper', ca: true });
  lower = await upper.issue({ commonName: 'lower', ca: true });
  server = await root.issue({ commonName: 'server' });
  client = await lower.issue({ commonName: 'client' });
});

async function start(
  t: TestContext,
  transport: TlsTransport,
  extra: JsonObject = {},
  validation: JsonObject = {},
): Promise<TlsServer> {
  const config = {
    require_client_certificate: true,
    common_tls_context: {
      tls_certificates: [
        { certificate_chain: { inline_string: server.pem }, private_key: { inline_string: server.keyPem } },
      ],
      validation_context: { trusted_ca: { inline_string: root.pem }, ...validation },
    },
    ...extra,
  };
  return await startTlsServer(t, config, { transport, peerChain: false });
}

const as = (entity: Entity, chain = entity.chainPem) => ({ cert: chain, key: entity.keyPem });
const CHAIN =
  '%DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_256% %DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_1% %DOWNSTREAM_PEER_CHAIN_SERIALS%';
const ISSUER = '%DOWNSTREAM_PEER_ISSUER_FINGERPRINT_256% %DOWNSTREAM_PEER_ISSUER_SERIAL%';

function print(text: string, running: TlsServer): string {
  return compileFormat(text, '')(new StreamInfo({ ...CONNECTION, tls: running.accepted.at(-1) }, 0));
}

const plain = (text: string): string => text.replaceAll(':', '').toLowerCase();

const x509 = (entity: Entity): X509Certificate => new X509Certificate(entity.pem);

// First, while no format of this process has asked.
for (const transport of ['openssl', 'tlssocket'] as const)
  test(`${transport}: nothing is read when nobody asks`, async (t) => {
    const running = await start(t, transport);
    assert.equal((await visit(running.port, as(client))).outcome, 'ok');
    assert.deepEqual(running.accepted[0]?.peerChain, []);
    assert.equal('peerIssuer' in running.accepted[0]!, false);
  });

for (const transport of ['openssl', 'tlssocket'] as const) {
  test(`${transport}: a format that asks gets leaf and chain, and the issuer on its way to the root`, async (t) => {
    compileFormat(CHAIN + ISSUER, '');
    const running = await start(t, transport);
    assert.equal((await visit(running.port, as(client))).outcome, 'ok');
    const all = [client, lower, upper].map(x509);
    const lists = [
      all.map((one) => plain(one.fingerprint256)),
      all.map((one) => plain(one.fingerprint)),
      all.map((one) => plain(one.serialNumber)),
    ];
    assert.equal(print(CHAIN, running), lists.map((list) => list.join(',')).join(' '));
    const issuer = all[1]!;
    assert.equal(print(ISSUER, running), `${plain(issuer.fingerprint256)} ${plain(issuer.serialNumber)}`);
    const direct = await root.issue({ commonName: 'direct' });
    assert.equal((await visit(running.port, as(direct))).outcome, 'ok');
    assert.equal(print('%DOWNSTREAM_PEER_ISSUER_SERIAL%', running), plain(x509(root).serialNumber));
    assert.equal(print('%DOWNSTREAM_PEER_CHAIN_SERIALS%', running), plain(x509(direct).serialNumber));
  });

  test(`${transport}: a session of TLS 1.3 has no id, one of 1.2 that is kept here has`, async (t) => {
    const running = await start(t, transport, { session_timeout: '60s' });
    for (const maxVersion of ['TLSv1.3', 'TLSv1.2'] as const) await visit(running.port, { ...as(client), maxVersion });
    assert.equal(running.accepted[0]?.sessionId, '');
    if (transport === 'openssl') assert.match(running.accepted[1]?.sessionId ?? '', /^[0-9a-f]{64}$/);
  });

  for (const version of ['TLSv1.2', 'TLSv1.3'] as const)
    for (const kept of [true, false])
      test(`${transport}, ${version}, session ${kept ? 'kept' : 'sealed'}: a resumed handshake knows the chain, not the issuer`, async (t) => {
        compileFormat(CHAIN + ISSUER, '');
        const running = await start(t, transport, kept ? {} : { disable_stateful_session_resumption: true });
        const leaf = await lower.issue({ commonName: 'again' });
        const options = { ...as(leaf), maxVersion: version };
        const first = await visit(running.port, options);
        const chain = print(CHAIN, running);
        const again = await visit(running.port, { ...options, session: first.session! });
        assert.ok(again.reused);
        assert.equal(print(CHAIN, running), chain);
        assert.equal(chain.split(' ')[0]?.split(',').length, 3);
        assert.equal(print(ISSUER, running), '- -');
      });

  test(`${transport}: nobody vouches for a peer that is let in untrusted, nor for the issuer it names`, async (t) => {
    compileFormat(CHAIN + ISSUER, '');
    const running = await start(t, transport, {}, { trust_chain_verification: 'ACCEPT_UNTRUSTED' });
    const stranger = await (await other.issue({ commonName: 'middle', ca: true })).issue({ commonName: 'stranger' });
    assert.equal((await visit(running.port, as(stranger))).outcome, 'ok');
    assert.equal(print(ISSUER, running), '- -');
    assert.equal(print('%DOWNSTREAM_PEER_CHAIN_SERIALS%', running).split(',').length, 2);
    assert.equal((await visit(running.port, as(client))).outcome, 'ok');
    assert.equal(print('%DOWNSTREAM_PEER_ISSUER_SERIAL%', running), plain(x509(lower).serialNumber));
  });

  test(`${transport}: certificates that lead nowhere do not stand for the issuer`, async (t) => {
    compileFormat(ISSUER, '');
    const running = await start(t, transport);
    const noise = other.pem + (await other.issue({ commonName: 'lower', ca: true })).pem;
    assert.equal((await visit(running.port, as(client, client.pem + lower.pem + upper.pem + noise))).outcome, 'ok');
    assert.equal(print('%DOWNSTREAM_PEER_ISSUER_SERIAL%', running), plain(x509(lower).serialNumber));
  });
}

test('a chain too large to remember is known to its own handshake only', async (t) => {
  compileFormat(CHAIN, '');
  const running = await start(t, 'tlssocket');
  const leaf = await lower.issue({ commonName: 'large' });
  const names = Array.from({ length: 200 }, (_, i) => `${'x'.repeat(60)}.${i}.example`);
  const noise = await Promise.all([1, 2, 3].map(() => other.issue({ names, ca: true })));
  assert.ok(noise.reduce((bytes, { certificate }) => bytes + certificate.der.length, 0) > MAX_PEER_CERTIFICATE_BYTES);
  const chain = leaf.chainPem + noise.map(({ pem }) => pem).join('');
  const first = await visit(running.port, as(leaf, chain));
  assert.equal(first.outcome, 'ok');
  assert.equal(print('%DOWNSTREAM_PEER_CHAIN_SERIALS%', running).split(',').length, 6);
  const again = await visit(running.port, { ...as(leaf, chain), session: first.session! });
  assert.ok(again.reused);
  assert.equal(print('%DOWNSTREAM_PEER_CHAIN_SERIALS%', running).split(',').length, 1);
});
