// The rules of TLS, the same for every transport: who is accepted, what is negotiated and reported, which sessions may be
// taken up again.
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { before, type TestContext, test } from 'node:test';
import { type ConnectionOptions, createServer as createTlsServer } from 'node:tls';
import type { JsonObject } from '@bufbuild/protobuf';
import { listen, until } from '../testing/engine.ts';
import { createRoot, type Entity } from '../testing/pki.ts';
import {
  certificateJson,
  createTlsClient,
  startTlsServer,
  TestClock,
  TestSecrets,
  type TransportName,
  visit,
} from '../testing/tls.ts';

const HOUR = 3_600_000;
const TRANSPORTS: readonly TransportName[] = ['tlssocket', 'openssl'];
const SPIFFE = 'spiffe://cluster.local/ns/a/sa/';

let root: Entity;
let other: Entity;
let middle: Entity;
let server: Entity;
let client: Entity;
before(async () => {
  root = await createRoot();
  other = await createRoot();
  middle = await root.issue({ commonName: 'middle', ca: true });
  server = await root.issue({ commonName: 'server', names: [`${SPIFFE}server`] });
  client = await middle.issue({ commonName: 'client', names: [`${SPIFFE}client`] });
});

const trusting = (extra: JsonObject = {}, ca = root): JsonObject => ({
  trusted_ca: { inline_string: ca.pem },
  ...extra,
});

const serving = (
  entities: readonly Entity[],
  validation: JsonObject | undefined,
  params: JsonObject = {},
  extra: JsonObject = {},
) => ({
  require_client_certificate: validation !== undefined,
  common_tls_context: {
    tls_certificates: entities.map(certificateJson),
    ...(validation ? { validation_context: validation } : {}),
    ...(Object.keys(params).length > 0 ? { tls_params: params } : {}),
  },
  ...extra,
});

const calling = (
  entity: Entity | undefined,
  validation: JsonObject,
  params: JsonObject = {},
  extra: JsonObject = {},
) => ({
  sni: 'server.example',
  common_tls_context: {
    ...(entity ? { tls_certificates: [certificateJson(entity)] } : {}),
    validation_context: validation,
    ...(Object.keys(params).length > 0 ? { tls_params: params } : {}),
  },
  ...extra,
});

const own = (entity: Entity): ConnectionOptions => ({ cert: entity.chainPem, key: entity.keyPem });

for (const transport of TRANSPORTS) suite(transport);

function suite(transport: TransportName): void {
  const named = (name: string, run: (t: TestContext) => Promise<void>) => test(`${transport}: ${name}`, run);

  named('what was negotiated and who the peer is reaches filters and stats', async (t) => {
    const running = await startTlsServer(t, serving([server], trusting()), { transport });
    const caller = createTlsClient(t, calling(client, trusting()), { transport });
    const seen = await caller.call(running.port);
    assert.ok(typeof seen === 'object', String(seen));
    const [got] = running.accepted;
    assert.ok(got);
    for (const side of [seen, got]) {
      assert.equal(side.version, 'TLSv1.3');
      assert.equal(side.cipher, 'TLS_AES_128_GCM_SHA256');
      assert.equal(side.group, 'X25519MLKEM768');
      assert.equal(side.signature, 'ecdsa_secp256r1_sha256');
      assert.equal(side.resumed, false);
      assert.equal(side.peerVerified, true);
    }
    assert.equal(got.sni, 'server.example');
    assert.deepEqual(got.peerUris, [`${SPIFFE}client`]);
    assert.deepEqual(got.localUris, [`${SPIFFE}server`]);
    assert.equal(got.localSubject, 'CN=server');
    const { peer } = got;
    assert.ok(peer);
    assert.equal(peer.subject, 'CN=client');
    assert.equal(peer.issuer, 'CN=middle');
    assert.equal(peer.serial, client.certificate.serialHex);
    assert.equal(peer.fingerprint256, createHash('sha256').update(client.certificate.der).digest('hex'));
    assert.equal(peer.fingerprint1, createHash('sha1').update(client.certificate.der).digest('hex'));
    assert.equal(peer.pem, client.pem);
    assert.equal(peer.notAfter, Math.floor(client.certificate.notAfter / 1000) * 1000);
    for (const stat of [
      'ssl.handshake',
      'ssl.versions.TLSv1.3',
      'ssl.ciphers.TLS_AES_128_GCM_SHA256',
      'ssl.curves.X25519MLKEM768',
      'ssl.sigalgs.ecdsa_secp256r1_sha256',
    ]) {
      assert.equal(running.counter(stat), 1, stat);
      assert.equal(caller.counter(stat), 1, stat);
    }
  });

  named('versions, ciphers and curves are those of the configuration', async (t) => {
    const params = {
      tls_minimum_protocol_version: 'TLSv1_2',
      tls_maximum_protocol_version: 'TLSv1_2',
      cipher_suites: ['[ECDHE-ECDSA-AES256-GCM-SHA384|ECDHE-ECDSA-CHACHA20-POLY1305]', 'ECDHE-ECDSA-AES128-GCM-SHA256'],
      ecdh_curves: ['P-256'],
    };
    const old = await startTlsServer(t, serving([server], trusting(), params), { transport });
    assert.equal((await visit(old.port, { ...own(client), minVersion: 'TLSv1.3' })).outcome === 'ok', false);
    assert.equal((await visit(old.port, own(client))).outcome, 'ok');
    assert.deepEqual(
      [old.accepted[0]?.version, old.accepted[0]?.cipher, old.accepted[0]?.group],
      ['TLSv1.2', 'ECDHE-ECDSA-AES256-GCM-SHA384', 'P-256'],
    );
    const young = await startTlsServer(t, serving([server], trusting(), { tls_minimum_protocol_version: 'TLSv1_3' }), {
      transport,
    });
    assert.notEqual((await visit(young.port, { ...own(client), maxVersion: 'TLSv1.2' })).outcome, 'ok');
    assert.equal((await visit(young.port, { ...own(client), ecdhCurve: 'P-384' })).outcome, 'ok');
    assert.equal(young.accepted[0]?.group, 'P-384');
    const caller = createTlsClient(t, calling(client, trusting(), params), { transport });
    const seen = await caller.call(old.port);
    assert.ok(typeof seen === 'object');
    assert.equal(seen.version, 'TLSv1.2');
    assert.equal(seen.cipher, 'ECDHE-ECDSA-AES256-GCM-SHA384');
  });

  named('of several certificates the client gets the one it can check and asked for by name', async (t) => {
    const certificates = [
      await root.issue({ commonName: 'rsa', names: ['a.example'], kind: 'rsa-2048' }),
      await root.issue({ commonName: 'ec', names: ['a.example'] }),
      await root.issue({ commonName: 'wild', names: ['*.b.example'] }),
      await root.issue({ commonName: 'x.b', names: ['x.b.example'], kind: 'rsa-2048' }),
    ];
    const { port } = await startTlsServer(t, serving(certificates, undefined), { transport });
    const shown = async (options: ConnectionOptions) => (await visit(port, options)).serverCertificate;
    const rsaOnly = { sigalgs: 'rsa_pss_rsae_sha256:rsa_pkcs1_sha256' };
    assert.equal(await shown({ servername: 'a.example' }), 'CN=ec');
    assert.equal(await shown({ servername: 'A.example', ...rsaOnly }), 'CN=rsa');
    assert.equal(await shown({ servername: 'y.b.example' }), 'CN=wild');
    assert.equal(await shown({ servername: 'x.b.example' }), 'CN=x.b');
    assert.equal(await shown({ servername: 'unknown.example' }), 'CN=ec');
    assert.equal(await shown(rsaOnly), 'CN=rsa');
  });

  named('clients are refused without a certificate, of another CA, expired, of another identity', async (t) => {
    const rules = trusting({
      match_typed_subject_alt_names: [{ san_type: 'URI', matcher: { exact: `${SPIFFE}client` } }],
    });
    const running = await startTlsServer(t, serving([server], rules), { transport });
    const expired = await root.issue({ names: [`${SPIFFE}client`], from: -2 * HOUR, to: -HOUR });
    const stranger = await other.issue({ names: [`${SPIFFE}client`] });
    const outsider = await root.issue({ names: [`${SPIFFE}outsider`] });
    assert.notEqual((await visit(running.port, {})).outcome, 'ok');
    assert.equal(running.counter('ssl.fail_verify_no_cert'), 1);
    assert.notEqual((await visit(running.port, own(stranger))).outcome, 'ok');
    assert.notEqual((await visit(running.port, own(expired))).outcome, 'ok');
    assert.equal(running.counter('ssl.fail_verify_error'), 2);
    assert.notEqual((await visit(running.port, own(outsider))).outcome, 'ok');
    assert.equal(running.counter('ssl.fail_verify_san'), 1);
    assert.equal(running.counter('ssl.connection_error'), 0);
    assert.equal(running.accepted.length, 0);
    assert.equal((await visit(running.port, own(client))).outcome, 'ok');
  });

  named('allow_expired_certificate forgives the time and nothing else', async (t) => {
    const rules = trusting({ allow_expired_certificate: true, crl: { inline_string: await root.crl([]) } });
    const { port } = await startTlsServer(t, serving([server], rules), { transport });
    const dates = { from: -2 * HOUR, to: -HOUR };
    const expired = await root.issue({ names: [`${SPIFFE}client`], ...dates });
    assert.equal((await visit(port, own(expired))).outcome, 'ok');
    // Self-signed and expired: OpenSSL's last error is only "expired".
    assert.notEqual((await visit(port, own(await createRoot({ ca: false, ...dates })))).outcome, 'ok');
    assert.notEqual((await visit(port, own(await other.issue(dates)))).outcome, 'ok');
    const listed = await startTlsServer(
      t,
      serving([server], { ...rules, crl: { inline_string: await root.crl([expired]) } }),
      { transport },
    );
    assert.notEqual((await visit(listed.port, own(expired))).outcome, 'ok');
  });

  named('trust_chain_verification ACCEPT_UNTRUSTED, hashes and keys', async (t) => {
    const outcome = async (validation: JsonObject, entity: Entity) =>
      (await visit((await startTlsServer(t, serving([server], validation), { transport })).port, own(entity))).outcome;
    const stranger = await other.issue({ names: [`${SPIFFE}client`] });
    assert.equal(await outcome(trusting({ trust_chain_verification: 'ACCEPT_UNTRUSTED' }), stranger), 'ok');
    const der = stranger.certificate.der;
    const hex = createHash('sha256').update(der).digest('hex');
    const spki = createHash('sha256').update(stranger.certificate.spki).digest('base64');
    assert.equal(
      await outcome({ verify_certificate_hash: [hex.toUpperCase().replace(/(..)(?!$)/g, '$1:')] }, stranger),
      'ok',
    );
    assert.equal(await outcome({ verify_certificate_spki: [spki] }, stranger), 'ok');
    assert.notEqual(await outcome({ verify_certificate_spki: [spki] }, client), 'ok');
    // Either list is enough, but a chain that is asked for must hold too.
    assert.equal(
      await outcome({ verify_certificate_hash: ['0'.repeat(64)], verify_certificate_spki: [spki] }, stranger),
      'ok',
    );
    assert.notEqual(await outcome(trusting({ verify_certificate_spki: [spki] }), stranger), 'ok');
  });

  named('nobody is verified for whom no authority and no hash vouches, whatever let it in', async (t) => {
    const stranger = await other.issue({ names: [`${SPIFFE}client`] });
    const hex = createHash('sha256').update(stranger.certificate.der).digest('hex');
    const verified = async (validation: JsonObject, entity: Entity): Promise<boolean[]> => {
      const running = await startTlsServer(t, serving([server], validation), { transport });
      const first = await visit(running.port, own(entity));
      const again = await visit(running.port, { ...own(entity), session: first.session! });
      assert.deepEqual([first.outcome, again.outcome, again.reused], ['ok', 'ok', true]);
      return running.accepted.map((details) => details.peerVerified);
    };
    const lenient = trusting({ trust_chain_verification: 'ACCEPT_UNTRUSTED' });
    assert.deepEqual(await verified(lenient, stranger), [false, false]);
    assert.deepEqual(await verified(lenient, client), [true, true]);
    assert.deepEqual(await verified(trusting({}), client), [true, true]);
    assert.deepEqual(await verified({ verify_certificate_hash: [hex] }, stranger), [true, true]);
    assert.deepEqual(await verified({}, stranger), [false, false]);
    // A server's names are believed by the same rule.
    for (const [validation, names] of [
      [lenient, false],
      [trusting({}), true],
    ] as const) {
      const from = validation === lenient ? await other.issue({ names: [`${SPIFFE}server`] }) : server;
      const running = await startTlsServer(t, serving([from], trusting()), { transport });
      const caller = createTlsClient(t, calling(client, validation), { transport });
      const details = await caller.call(running.port);
      assert.equal(typeof details === 'object' && details.peerVerified, names);
    }
  });

  named('names are matched by their kind: DNS with wildcards, IP in short form, mail', async (t) => {
    const entity = await root.issue({ names: ['*.a.example', 'fd00::1', '10.0.0.1'] });
    const mail = await root.issue({ names: ['email:me@a.example'] });
    const outcome = async (san_type: string, matcher: JsonObject, who = entity) => {
      const rules = trusting({ match_typed_subject_alt_names: [{ san_type, matcher }] });
      return (await visit((await startTlsServer(t, serving([server], rules), { transport })).port, own(who))).outcome;
    };
    assert.equal(await outcome('DNS', { exact: 'x.a.example' }), 'ok');
    assert.notEqual(await outcome('DNS', { exact: 'x.y.a.example' }), 'ok');
    assert.equal(await outcome('IP_ADDRESS', { exact: 'fd00::1' }), 'ok');
    assert.equal(await outcome('IP_ADDRESS', { prefix: '10.' }), 'ok');
    assert.notEqual(await outcome('URI', { prefix: '10.' }), 'ok');
    assert.equal(await outcome('EMAIL', { suffix: '@a.example' }, mail), 'ok');
    assert.equal(await outcome('DNS', { safe_regex: { regex: '.*\\.example' } }), 'ok');
  });

  named('revoked certificates are refused, by the whole chain or the leaf only', async (t) => {
    const revoked = await middle.issue({ names: [`${SPIFFE}client`] });
    const lists = async (...crls: Promise<string>[]) => ({ inline_string: (await Promise.all(crls)).join('') });
    const outcome = async (extra: JsonObject, who: Entity) =>
      (await visit((await startTlsServer(t, serving([server], trusting(extra)), { transport })).port, own(who)))
        .outcome;
    const both = await lists(root.crl([]), middle.crl([revoked]));
    assert.equal(await outcome({ crl: both }, client), 'ok');
    assert.notEqual(await outcome({ crl: both }, revoked), 'ok');
    const noMiddle = await lists(root.crl([middle]), middle.crl([revoked]));
    assert.notEqual(await outcome({ crl: noMiddle }, client), 'ok');
    assert.equal(await outcome({ crl: noMiddle, only_verify_leaf_cert_crl: true }, client), 'ok');
    assert.notEqual(await outcome({ crl: noMiddle, only_verify_leaf_cert_crl: true }, revoked), 'ok');
    const leafOnly = await lists(middle.crl([revoked]));
    assert.notEqual(await outcome({ crl: leafOnly }, client), 'ok', 'a chain whose root has no list must not pass');
    assert.equal(await outcome({ crl: leafOnly, only_verify_leaf_cert_crl: true }, client), 'ok');
    const stale = await lists(root.crl([]), middle.crl([], { from: -2 * HOUR, to: -HOUR }));
    assert.notEqual(await outcome({ crl: stale }, client), 'ok');
    assert.notEqual(await outcome({ crl: stale, only_verify_leaf_cert_crl: true }, client), 'ok');
    const forged = await lists(middle.crl([]), other.crl([]));
    assert.notEqual(await outcome({ crl: forged }, client), 'ok');
  });

  named('max_verify_depth counts the certificates between peer and root', async (t) => {
    const outcome = async (depth: number, who: Entity) =>
      (
        await visit(
          (
            await startTlsServer(t, serving([server], trusting({ max_verify_depth: depth })), { transport })
          ).port,
          own(who),
        )
      ).outcome;
    assert.equal(await outcome(1, client), 'ok');
    assert.notEqual(await outcome(0, client), 'ok');
    assert.equal(await outcome(0, await root.issue({ names: ['a.example'] })), 'ok');
  });

  named('an intermediate alone can be what is trusted', async (t) => {
    const { port } = await startTlsServer(t, serving([server], trusting({}, middle)), { transport });
    assert.equal((await visit(port, own(client))).outcome, 'ok');
    assert.notEqual((await visit(port, own(server))).outcome, 'ok');
  });

  named('a client judges its server by the same rules', async (t) => {
    const { port } = await startTlsServer(t, serving([server], undefined), { transport });
    const call = (validation: JsonObject) => createTlsClient(t, calling(client, validation), { transport });
    const sans = (exact: string) => ({ match_typed_subject_alt_names: [{ san_type: 'URI', matcher: { exact } }] });
    assert.equal(typeof (await call(trusting(sans(`${SPIFFE}server`))).call(port)), 'object');
    const wrong = call(trusting(sans(`${SPIFFE}other`)));
    assert.match(String(await wrong.call(port)), /CERTIFICATE_VERIFY_FAILED/);
    assert.equal(wrong.counter('ssl.fail_verify_san'), 1);
    const foreign = call(trusting({}, other));
    assert.match(String(await foreign.call(port)), /CERTIFICATE_VERIFY_FAILED/);
    assert.equal(foreign.counter('ssl.fail_verify_error'), 1);
    const named = await startTlsServer(t, serving([await root.issue({ names: ['*.a.example'] })], undefined), {
      transport,
    });
    const plain = call(trusting());
    assert.equal(typeof (await plain.call(named.port, { host: { name: 'x.a.example', verify: true } })), 'object');
    assert.match(
      String(await plain.call(named.port, { host: { name: 'x.b.example', verify: true } })),
      /CERTIFICATE_VERIFY_FAILED/,
    );
  });

  named(
    'an RSA server whose certificate forbids signatures is refused unless the configuration allows it',
    async (t) => {
      const odd = await root.issue({ names: ['a.example'], kind: 'rsa-2048', usages: ['keyEncipherment'] });
      const running = createTlsServer({ cert: odd.pem, key: odd.keyPem }, (socket) => {
        socket.on('error', () => {});
        socket.pipe(socket);
      });
      running.on('tlsClientError', () => {});
      const port = await listen(t, running as never);
      const strict = createTlsClient(t, calling(undefined, trusting()), { transport });
      assert.equal(typeof (await strict.call(port)), 'string');
      const lax = createTlsClient(t, calling(undefined, trusting(), {}, { enforce_rsa_key_usage: false }), {
        transport,
      });
      const seen = await lax.call(port);
      assert.equal(typeof seen, 'object', String(seen));
    },
  );

  named('ALPN is agreed on when there is a common protocol, and no obstacle when there is none', async (t) => {
    const config = serving([server], undefined);
    const running = await startTlsServer(
      t,
      { ...config, common_tls_context: { ...config.common_tls_context, alpn_protocols: ['http/1.1', 'foo'] } },
      { transport },
    );
    const caller = createTlsClient(t, calling(undefined, trusting()), { transport });
    const agreed = async (alpn: readonly string[]) => {
      const seen = await caller.call(running.port, { alpn });
      return typeof seen === 'object' ? seen.alpn : seen;
    };
    assert.equal(await agreed(['foo', 'http/1.1']), 'http/1.1');
    assert.equal(await agreed(['bar']), '');
    assert.equal(await agreed([]), '');
  });

  for (const version of ['TLSv1.2', 'TLSv1.3'] as const)
    named(`${version}: a client takes its session up again, and the server still knows who it is`, async (t) => {
      const running = await startTlsServer(t, serving([server], trusting()), { transport });
      const params = { tls_maximum_protocol_version: version.replace('.', '_') };
      const caller = createTlsClient(t, calling(client, trusting(), params), { transport });
      for (let i = 0; i < 3; i++) assert.equal(typeof (await caller.call(running.port)), 'object');
      assert.equal(running.accepted[0]?.resumed, false);
      const again = running.accepted[1];
      assert.equal(again?.resumed, true);
      assert.equal(again?.peerVerified, true);
      assert.deepEqual(again?.peerUris, [`${SPIFFE}client`]);
      assert.equal(again?.version, version);
      assert.ok(running.counter('ssl.session_reused') >= 1);
      assert.equal(caller.counter('ssl.session_reused'), running.counter('ssl.session_reused'));
      const cold = createTlsClient(t, calling(client, trusting(), params, { max_session_keys: 0 }), { transport });
      for (let i = 0; i < 2; i++) await cold.call(running.port);
      assert.equal(cold.counter('ssl.session_reused'), 0);
    });

  named('no tickets where the configuration forbids them', async (t) => {
    const running = await startTlsServer(
      t,
      serving([server], trusting(), {}, { disable_stateless_session_resumption: true }),
      { transport },
    );
    const first = await visit(running.port, own(client));
    assert.equal(first.outcome, 'ok');
    assert.equal((await visit(running.port, { ...own(client), session: first.session })).reused, false);
  });

  named('a session ends when the identity, the trust, the SAN rules or the CRL it stands on change', async (t) => {
    const secrets = new TestSecrets();
    secrets.setCertificate('own', server);
    secrets.setTrust('trust', trusting());
    const bySds = (sans: JsonObject = {}) => ({
      require_client_certificate: true,
      common_tls_context: {
        tls_certificate_sds_secret_configs: [{ name: 'own' }],
        combined_validation_context: {
          default_validation_context: sans,
          validation_context_sds_secret_config: { name: 'trust' },
        },
      },
    });
    const keys = { session_ticket_keys: { keys: [{ inline_bytes: randomBytes(80).toString('base64') }] } };
    // With keys of the configuration the tickets can still be opened: only their binding keeps them out.
    for (const extra of [{}, keys]) {
      const running = await startTlsServer(t, { ...bySds(), ...extra }, { transport, secrets });
      const caller = createTlsClient(t, calling(client, trusting(), { tls_maximum_protocol_version: 'TLSv1_2' }), {
        transport,
      });
      const resumes = async () => {
        await caller.call(running.port);
        return running.accepted.at(-1)?.resumed;
      };
      assert.deepEqual([await resumes(), await resumes()], [false, true], 'resumption works at all');
      secrets.setCertificate('own', await root.issue({ names: [`${SPIFFE}server`] }));
      assert.deepEqual([await resumes(), await resumes()], [false, true], 'own certificate');
      secrets.setTrust('trust', { trusted_ca: { inline_string: root.pem + other.pem } });
      assert.deepEqual([await resumes(), await resumes()], [false, true], 'trust bundle');
      secrets.setTrust(
        'trust',
        trusting({ match_typed_subject_alt_names: [{ san_type: 'URI', matcher: { prefix: SPIFFE } }] }),
      );
      assert.deepEqual([await resumes(), await resumes()], [false, true], 'SAN rules');
      secrets.setTrust('trust', trusting({ crl: { inline_string: (await root.crl([])) + (await middle.crl([])) } }));
      assert.deepEqual([await resumes(), await resumes()], [false, true], 'CRL');
    }
    // Two listeners with the same ticket keys and different rules: a session of the lax one is worth nothing at the strict one.
    secrets.setTrust('trust', trusting());
    const lax = await startTlsServer(t, { ...bySds(), ...keys }, { transport, secrets });
    const strict = await startTlsServer(
      t,
      { ...bySds({ match_typed_subject_alt_names: [{ san_type: 'URI', matcher: { exact: 'x' } }] }), ...keys },
      { transport, secrets },
    );
    const given = await visit(lax.port, { ...own(client), maxVersion: 'TLSv1.2' });
    assert.equal(
      (await visit(lax.port, { ...own(client), maxVersion: 'TLSv1.2', session: given.session })).reused,
      true,
    );
    assert.notEqual(
      (await visit(strict.port, { ...own(client), maxVersion: 'TLSv1.2', session: given.session })).outcome,
      'ok',
    );
    assert.equal(strict.accepted.length, 0);
  });

  named(
    'a client forgets its sessions when its secrets change, and does not offer them past the peer chain',
    async (t) => {
      const secrets = new TestSecrets();
      secrets.setCertificate('own', client);
      secrets.setTrust('trust', trusting());
      const clock = new TestClock();
      const running = await startTlsServer(t, serving([await root.issue({ to: HOUR })], trusting()), { transport });
      const caller = createTlsClient(
        t,
        {
          common_tls_context: {
            tls_certificate_sds_secret_configs: [{ name: 'own' }],
            validation_context_sds_secret_config: { name: 'trust' },
          },
        },
        { transport, secrets, clock },
      );
      const resumes = async () => {
        await caller.call(running.port);
        return running.accepted.at(-1)?.resumed;
      };
      assert.deepEqual([await resumes(), await resumes()], [false, true]);
      secrets.setTrust('trust', trusting());
      assert.equal(await resumes(), false, 'trust');
      secrets.setCertificate('own', await root.issue({ names: [`${SPIFFE}client`] }));
      assert.equal(await resumes(), false, 'own certificate');
      clock.offset = 2 * HOUR;
      assert.equal(await resumes(), false, 'the server certificate has expired by the clock of the client');
    },
  );

  named(
    'a session does not outlive the client certificate it was made with, nor the own one of the server',
    async (t) => {
      const clock = new TestClock();
      const short = await root.issue({ names: [`${SPIFFE}client`], to: HOUR });
      const running = await startTlsServer(t, serving([server], trusting()), { transport, clock });
      const options = { ...own(short), maxVersion: 'TLSv1.2' } as const;
      const first = await visit(running.port, options);
      assert.equal((await visit(running.port, { ...options, session: first.session })).reused, true);
      clock.offset = 90 * 60_000;
      const later = await visit(running.port, { ...options, session: first.session });
      assert.notEqual(later.outcome === 'ok' && later.reused, true);
      const brief = await startTlsServer(t, serving([await root.issue({ to: HOUR })], trusting()), {
        transport,
        clock,
      });
      clock.offset = 0;
      const before = await visit(brief.port, { ...own(client), maxVersion: 'TLSv1.2' });
      assert.equal(
        (await visit(brief.port, { ...own(client), maxVersion: 'TLSv1.2', session: before.session })).reused,
        true,
      );
      clock.offset = 2 * HOUR;
      assert.equal(
        (await visit(brief.port, { ...own(client), maxVersion: 'TLSv1.2', session: before.session })).reused,
        false,
      );
    },
  );

  named('a rotated certificate is shown to new connections and ends none', async (t) => {
    const secrets = new TestSecrets();
    secrets.setCertificate('own', server);
    const running = await startTlsServer(
      t,
      { common_tls_context: { tls_certificate_sds_secret_configs: [{ name: 'own' }] } },
      { transport, secrets },
    );
    const caller = createTlsClient(t, calling(undefined, trusting()), { transport });
    const opened = await caller.open(running.port);
    assert.ok(opened.kind === 'connected');
    let echoed = '';
    opened.transport.start({
      onData: (bytes, start, end) => {
        echoed += bytes.toString('latin1', start, end);
      },
      onEnd() {},
      onBacklog() {},
      onClose() {},
    });
    secrets.setCertificate('own', await root.issue({ commonName: 'renewed' }));
    assert.equal((await visit(running.port, {})).serverCertificate, 'CN=renewed');
    opened.transport.write(Buffer.from('still here'), 0, 10);
    await until(() => echoed === 'still here', 'the echo on the old connection');
    opened.transport.destroy();
  });

  named('a server that waits for its secret refuses and counts', async (t) => {
    const running = await startTlsServer(
      t,
      { common_tls_context: { tls_certificate_sds_secret_configs: [{ name: 'late' }] } },
      { transport, secrets: new TestSecrets() },
    );
    assert.notEqual((await visit(running.port, {})).outcome, 'ok');
    assert.equal(running.counter('server_ssl_socket_factory.downstream_context_secrets_not_ready'), 1);
  });
}
