// Who is believed: tokens, certificates, OIDC; and the CA service with its codes and texts over real gRPC.
import assert from 'node:assert/strict';
import { createPublicKey, randomBytes, X509Certificate } from 'node:crypto';
import { test } from 'node:test';
import { create, fromBinary, type JsonObject, toBinary } from '@bufbuild/protobuf';
import { Client, credentials, Metadata, Server, ServerCredentials, type ServiceError, status } from '@grpc/grpc-js';
import { exportJWK, generateKeyPair, SignJWT } from 'jose';
import { IstioCertificateRequestSchema, IstioCertificateResponseSchema } from '#proto/istio/ca_pb.js';
import { createFakeClock } from '../../../test/fakes/fake-clock.ts';
import { createFakeKube } from '../../../test/fakes/kube-client.ts';
import { silentLog } from '../../base/runtime/log.ts';
import { createMetrics } from '../../base/runtime/metrics.ts';
import { issueLeaf, readCertificate } from '../../base/x509/certificate.ts';
import { createCsr } from '../../base/x509/csr.ts';
import { altName } from '../../base/x509/extensions.ts';
import { generateKey } from '../../base/x509/keys.ts';
import { readPemCertificates } from '../../base/x509/pem.ts';
import { type AuthenticatorOptions, createAuthenticators } from './authenticators.ts';
import { addCaService, CA_SERVICE_PATH } from './ca-service.ts';
import { loadCertificateAuthority } from './load.ts';

const clock = createFakeClock(Date.UTC(2026, 0, 1));
const metadata = (pairs: Readonly<Record<string, string>>) => {
  const out = new Metadata();
  for (const [key, value] of Object.entries(pairs)) out.set(key, value);
  return out;
};
const bearer = (token: string, more: Readonly<Record<string, string>> = {}) =>
  metadata({ authorization: `Bearer ${token}`, ...more });
const user = (username: string, groups = ['system:serviceaccounts', 'system:authenticated']) => ({
  authenticated: true,
  audiences: ['istio-ca'],
  user: { username, groups, extra: { 'authentication.kubernetes.io/pod-name': ['web-1'] } },
});
const REVIEWS: Readonly<Record<string, unknown>> = {
  good: user('system:serviceaccount:foo:bar'),
  expired: { authenticated: false, error: 'token has expired' },
  unknown: { authenticated: false },
  'no-audience': { ...user('system:serviceaccount:foo:bar'), audiences: undefined },
  'wrong-audience': { ...user('system:serviceaccount:foo:bar'), audiences: ['https://kubernetes.default.svc'] },
  human: user('alice', ['system:authenticated']),
  'five-parts': user('system:serviceaccount:foo:bar:baz'),
};
function tokenClient() {
  return createFakeKube({
    onPost(path, body) {
      assert.equal(path, '/apis/authentication.k8s.io/v1/tokenreviews');
      const { token, audiences } = (body as { spec: { token: string; audiences: string[] } }).spec;
      assert.deepEqual(audiences, ['istio-ca']);
      return { status: REVIEWS[token] };
    },
  });
}
const base = (): AuthenticatorOptions => ({ client: tokenClient(), trustDomain: 'cluster.local', clock });
const peer = { address: '10.0.0.1:1' };
const loadCa = () =>
  loadCertificateAuthority({
    namespace: 'istio-system',
    trustDomain: 'cluster.local',
    clock,
    random: randomBytes,
    log: silentLog,
    keyKind: 'p256',
  });

test('a reviewed service account token gives its identity and pod', async () => {
  const result = await createAuthenticators(base())(bearer('good', { clusterid: 'Kubernetes' }), peer);
  assert.deepEqual(result, {
    kind: 'caller',
    caller: {
      identities: ['spiffe://cluster.local/ns/foo/sa/bar'],
      source: 'token-review',
      podName: 'web-1',
      podUid: undefined,
    },
  });
});

const refusals: readonly (readonly [string, Metadata, RegExp])[] = [
  ['expired token', bearer('expired'), /token has expired/],
  ['unknown token', bearer('unknown'), /not authenticated/],
  ['no audience in the answer', bearer('no-audience'), /not for audience istio-ca/],
  ['wrong audience', bearer('wrong-audience'), /not for audience istio-ca/],
  ['human', bearer('human'), /not that of a service account/],
  ['five parts', bearer('five-parts'), /not of the form/],
  ['foreign cluster', bearer('good', { clusterid: 'other' }), /claims to be in cluster "other"/],
  ['no token', metadata({}), /no bearer token/],
  ['basic', metadata({ authorization: 'Basic Z29vZA==' }), /no bearer token/],
  ['huge token', bearer('g'.repeat(20_000)), /no bearer token/],
];
for (const [name, given, why] of refusals)
  test(`refuses: ${name}`, async () => {
    const result = await createAuthenticators(base())(given, peer);
    assert.ok(result.kind === 'refused');
    assert.match(result.why.join(), why);
  });

test('a client certificate of this mesh is an identity; of another mesh, an expired or a server one is not', async () => {
  const [ours, theirs] = [await loadCa(), await loadCa()];
  const authenticate = createAuthenticators({ ...base(), client: undefined, issuersPem: ours.issuersPem });
  const csr = await createCsr(await generateKey('p256'), [altName('spiffe://x/y')]);
  const raw = async (ca: typeof ours) => {
    const id = 'spiffe://cluster.local/ns/foo/sa/bar' as Parameters<typeof ca.signWorkload>[1][number];
    return new X509Certificate((await ca.signWorkload(csr, [id], 60))[0] ?? '').raw;
  };
  const mine = await raw(ours);
  const ask = (certificate: Buffer) => authenticate(new Metadata(), { ...peer, certificate: { raw: certificate } });
  const good = await ask(mine);
  assert.ok(good.kind === 'caller');
  assert.deepEqual(good.caller.identities, ['spiffe://cluster.local/ns/foo/sa/bar']);
  const why = async (certificate: Buffer) => {
    const result = await ask(certificate);
    return result.kind === 'refused' ? result.why.join() : 'accepted';
  };
  assert.match(await why(await raw(theirs)), /not issued by this mesh/);
  assert.match(await why(new X509Certificate(ours.rootBundlePem()).raw), /CA certificate/);
  const server = new X509Certificate((await ours.issueServer(['istiod.svc'])).chainPem).raw;
  assert.match(await why(server), /0 URI names/);
  assert.match(await why(Buffer.from('junk')), /cut off|type|bytes/);
  await clock.advance(120_000);
  assert.match(await why(mine), /expired/);
});

test('an OIDC token is checked against configured keys', async () => {
  const { publicKey, privateKey } = await generateKeyPair('ES256');
  const jwks = JSON.stringify({ keys: [{ ...(await exportJWK(publicKey)), alg: 'ES256' }] });
  const oidc = { issuer: 'https://issuer.example', audiences: ['istio-ca'], jwks };
  const authenticate = createAuthenticators({ ...base(), client: undefined, oidc });
  const seconds = Math.floor(clock.now() / 1000);
  const token = (change: { aud?: string; sub?: string; exp?: number; iss?: string }) =>
    new SignJWT({ 'kubernetes.io': { pod: { name: 'p', uid: 'u' } } })
      .setProtectedHeader({ alg: 'ES256' })
      .setSubject(change.sub ?? 'system:serviceaccount:foo:bar')
      .setIssuer(change.iss ?? oidc.issuer)
      .setAudience(change.aud ?? 'istio-ca')
      .setExpirationTime(change.exp ?? seconds + 60)
      .sign(privateKey);
  const good = await authenticate(bearer(await token({})), peer);
  assert.ok(good.kind === 'caller');
  assert.deepEqual([good.caller.source, good.caller.podUid], ['oidc', 'u']);
  for (const change of [{ aud: 'x' }, { sub: 'alice' }, { exp: seconds - 1 }, { iss: 'https://evil.example' }])
    assert.equal((await authenticate(bearer(await token(change)), peer)).kind, 'refused', JSON.stringify(change));
});

interface Ask {
  readonly token?: string;
  readonly csr?: string;
  readonly ttl?: bigint;
  readonly metadata?: JsonObject;
}

test('the CA service answers with codes and texts of the specification', async (t) => {
  const ca = await loadCa();
  const metrics = createMetrics();
  const server = new Server();
  addCaService(server, { authority: ca, authenticate: createAuthenticators(base()), log: silentLog, metrics, clock });
  const port = await new Promise<number>((resolve, reject) =>
    server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) =>
      error ? reject(error) : resolve(bound),
    ),
  );
  const client = new Client(`127.0.0.1:${port}`, credentials.createInsecure());
  t.after(() => {
    client.close();
    server.forceShutdown();
    ca.close();
  });
  const key = await generateKey('p256');
  const pem = await createCsr(key, [altName('spiffe://cluster.local/ns/kube-system/sa/admin')]);
  const ask = (how: Ask) =>
    new Promise<readonly string[] | ServiceError>((resolve) =>
      client.makeUnaryRequest(
        CA_SERVICE_PATH,
        (value: Uint8Array) => Buffer.from(value),
        (bytes) => fromBinary(IstioCertificateResponseSchema, bytes),
        toBinary(
          IstioCertificateRequestSchema,
          create(IstioCertificateRequestSchema, {
            csr: how.csr ?? pem,
            validityDuration: how.ttl ?? 0n,
            metadata: how.metadata,
          }),
        ),
        how.token === undefined ? bearer('good') : bearer(how.token),
        (error, value) => resolve(error ?? value?.certChain ?? []),
      ),
    );
  const chain = await ask({ ttl: 60n });
  assert.ok(Array.isArray(chain) && chain.length === 2);
  assert.equal(new X509Certificate(chain[0]).subjectAltName, 'URI:spiffe://cluster.local/ns/foo/sa/bar');
  const refused = async (how: Ask, code: status, text: RegExp) => {
    const error = await ask(how);
    assert.ok('code' in error, JSON.stringify(error));
    assert.equal(error.code, code, error.details);
    assert.match(error.details, text);
  };
  await refused({ token: 'expired' }, status.UNAUTHENTICATED, /^request authenticate failure$/);
  await refused({ csr: 'junk' }, status.INVALID_ARGUMENT, /^CSR signing error \(.*PEM.*\)$/);
  await refused(
    { ttl: 9_999_999n },
    status.INVALID_ARGUMENT,
    /^CSR signing error \(requested TTL 2777h46m39s is greater/,
  );
  await refused({ metadata: { CertSigner: 'x' } }, status.INVALID_ARGUMENT, /CertSigner is not supported/);
  await refused(
    { metadata: { ImpersonatedIdentity: 'spiffe://cluster.local/ns/a/sa/b' } },
    status.UNAUTHENTICATED,
    /^request impersonation authentication failure$/,
  );
  const page = metrics.render();
  for (const line of [
    'citadel_server_csr_count 6',
    'citadel_server_authentication_failure_count 1',
    'citadel_server_csr_parsing_err_count 1',
    'citadel_server_csr_sign_err_count{error="ttl_error"} 1',
    'citadel_server_success_cert_issuance_count 1',
  ])
    assert.ok(page.includes(`\n${line}\n`), `${line} in\n${page}`);
});

test('a certificate made elsewhere for the right names but by a workload key is not believed', async () => {
  const ca = await loadCa();
  const key = await generateKey('p256');
  const csr = await createCsr(key, [altName('spiffe://x/y')]);
  const id = 'spiffe://cluster.local/ns/foo/sa/bar' as Parameters<typeof ca.signWorkload>[1][number];
  const [leafPem = ''] = await ca.signWorkload(csr, [id], 60);
  const [der] = readPemCertificates(leafPem, 'leaf');
  const forged = issueLeaf(
    { certificate: readCertificate(der ?? assert.fail()), key },
    { publicKey: createPublicKey(key), names: [altName(id)], now: clock.now(), ttlMs: 1000, random: randomBytes },
  );
  await assert.rejects(forged, /not the one asked for/);
});
