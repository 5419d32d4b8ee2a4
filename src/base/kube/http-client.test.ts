// The HTTP client against a small server of our own, over TLS with a client certificate where it matters.
import assert from 'node:assert/strict';
import { createPublicKey, randomBytes } from 'node:crypto';
import { createServer, type IncomingMessage, type RequestListener, type Server } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { afterEach, test } from 'node:test';
import type { TLSSocket } from 'node:tls';
import { createFakeClock } from '../../../test/fakes/fake-clock.ts';
import { certificatePem, issueLeaf, issueRoot } from '../x509/certificate.ts';
import { altName } from '../x509/extensions.ts';
import { generateKey, writePrivateKey } from '../x509/keys.ts';
import { inClusterConnection, KubeConfigError, loadKubeconfig } from './connection.ts';
import { createHttpKubeClient, type HttpKubeClient } from './http-client.ts';
import { KubeError, type KubeObject, type ResourceType } from './types.ts';

const PODS: ResourceType = { group: '', version: 'v1', resource: 'pods', kind: 'Pod', namespaced: true };
const DEPLOYMENTS: ResourceType = {
  group: 'apps',
  version: 'v1',
  resource: 'deployments',
  kind: 'Deployment',
  namespaced: true,
};
const pod: KubeObject = { apiVersion: 'v1', kind: 'Pod', metadata: { name: 'a', namespace: 'foo' } };

let server: Server;
let client: HttpKubeClient;
afterEach(() => {
  client?.close();
  server?.closeAllConnections();
  server?.close();
});

async function serve(handler: RequestListener, token?: () => string): Promise<void> {
  server = createServer(handler);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  client = createHttpKubeClient({ server: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, token });
}
async function bodyOf(request: IncomingMessage): Promise<string> {
  let text = '';
  for await (const chunk of request) text += chunk;
  return text;
}

test('paths, methods, content types and queries', async () => {
  const seen: string[] = [];
  await serve(async (request, response) => {
    seen.push(
      `${request.method} ${request.url} ${request.headers['content-type'] ?? ''} ${await bodyOf(request)}`.trim(),
    );
    response.end(JSON.stringify(pod));
  });
  await client.get(PODS, 'foo', 'a');
  await client.create(PODS, pod, { fieldManager: 'me' });
  await client.create(PODS, pod, { subresource: 'binding' });
  await client.update(DEPLOYMENTS, pod, { subresource: 'status' });
  await client.patch(PODS, 'foo', 'a', 'merge', { x: 1 });
  await client.patch(PODS, 'foo', 'a', 'apply', {}, { fieldManager: 'me', force: true });
  await client.delete(PODS, 'foo', 'a', { uid: 'u', propagationPolicy: 'Foreground' });
  await client.post('/apis/authentication.k8s.io/v1/tokenreviews', { spec: 1 });
  const body = JSON.stringify(pod);
  assert.deepEqual(seen, [
    'GET /api/v1/namespaces/foo/pods/a',
    `POST /api/v1/namespaces/foo/pods?fieldManager=me application/json ${body}`,
    `POST /api/v1/namespaces/foo/pods/a/binding application/json ${body}`,
    `PUT /apis/apps/v1/namespaces/foo/deployments/a/status application/json ${body}`,
    'PATCH /api/v1/namespaces/foo/pods/a application/merge-patch+json {"x":1}',
    'PATCH /api/v1/namespaces/foo/pods/a?fieldManager=me&force=true application/apply-patch+yaml {}',
    'DELETE /api/v1/namespaces/foo/pods/a application/json {"kind":"DeleteOptions","apiVersion":"v1","propagationPolicy":"Foreground","preconditions":{"uid":"u"}}',
    'POST /apis/authentication.k8s.io/v1/tokenreviews application/json {"spec":1}',
  ]);
});

test('a Status becomes a KubeError, anything else too, and an absent server has code 0', async () => {
  const answers = [
    [404, '{"kind":"Status","reason":"NotFound","message":"pods \\"a\\" not found"}'],
    [502, '<html>bad gateway</html>'],
    [200, 'not json'],
  ] as const;
  let turn = 0;
  await serve((_, response) => {
    const [code, body] = answers[turn++]!;
    response.writeHead(code).end(body);
  });
  const get = (): Promise<unknown> => client.get(PODS, 'foo', 'a');
  await assert.rejects(get(), { code: 404, reason: 'NotFound', message: 'pods "a" not found' });
  await assert.rejects(get(), { code: 502, message: '<html>bad gateway</html>' });
  await assert.rejects(get(), { code: 0, reason: 'BadResponse' });
  const gone = createHttpKubeClient({ server: 'http://127.0.0.1:1' });
  await assert.rejects(
    gone.get(PODS, 'foo', 'a'),
    (e: KubeError) => e instanceof KubeError && e.code === 0 && e.message.includes('cannot reach http://127.0.0.1:1'),
  );
  gone.close();
});

test('lists page by page, and in one piece when the pages expire', async () => {
  const urls: string[] = [];
  let expired = false;
  await serve((request, response) => {
    const url = new URL(request.url!, 'http://x');
    urls.push(url.search);
    const token = url.searchParams.get('continue');
    if (token && expired)
      return void response.writeHead(410).end('{"kind":"Status","reason":"Expired","message":"old"}');
    const more = url.searchParams.has('limit') && !token ? 'next' : undefined;
    const names = url.searchParams.has('limit') ? [token ? 'b' : 'a'] : ['a', 'b', 'c'];
    const items = names.map((name) => ({ metadata: { name } }));
    response.end(
      JSON.stringify({ kind: 'PodList', apiVersion: 'v1', metadata: { resourceVersion: '7', continue: more }, items }),
    );
  });
  const first = await client.list(PODS, { labelSelector: 'app in (a,b)' });
  assert.deepEqual(
    [first.resourceVersion, first.items.map((i) => `${i.kind} ${i.metadata.name}`)],
    ['7', ['Pod a', 'Pod b']],
  );
  assert.equal(urls[0], '?labelSelector=app+in+%28a%2Cb%29&limit=500');
  expired = true;
  assert.deepEqual(
    (await client.list(PODS)).items.map((i) => i.metadata.name),
    ['a', 'b', 'c'],
  );
});

test('a watch survives any cut of its bytes, ends with the server, and reports errors', async () => {
  const event = (type: string, name: string, rv: string): string =>
    `${JSON.stringify({ type, object: { ...pod, metadata: { name, resourceVersion: rv } } })}\n`;
  const bytes = Buffer.from(event('ADDED', 'a', '1') + event('MODIFIED', 'ü', '2') + event('BOOKMARK', '', '9'));
  let tail = '';
  let query = '';
  await serve(async (request, response) => {
    query = request.url!;
    for (const byte of bytes) {
      if (!response.write(Buffer.from([byte]))) await new Promise((r) => response.once('drain', r));
    }
    response.end(tail);
  });
  const seen: string[] = [];
  const watch = (): Promise<void> =>
    client.watch(
      PODS,
      { namespace: 'foo', resourceVersion: '5', fieldSelector: 'spec.nodeName=n' },
      (e) => {
        seen.push(e.type === 'BOOKMARK' ? `BOOKMARK ${e.resourceVersion}` : `${e.type} ${e.object.metadata.name}`);
      },
      new AbortController().signal,
    );
  await watch();
  assert.deepEqual(seen, ['ADDED a', 'MODIFIED ü', 'BOOKMARK 9']);
  assert.match(
    query,
    /^\/api\/v1\/namespaces\/foo\/pods\?fieldSelector=spec.nodeName%3Dn&watch=true&allowWatchBookmarks=true&resourceVersion=5&timeoutSeconds=\d+$/,
  );
  tail = '{"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired","message":"too old"}}\n';
  await assert.rejects(watch(), { code: 410 });
});

test('an aborted watch ends quietly', async () => {
  await serve((_, response) => void response.write('\n'));
  const stop = new AbortController();
  const watching = client.watch(PODS, { resourceVersion: '1' }, () => {}, stop.signal);
  server.once('request', () => setImmediate(() => stop.abort()));
  await watching;
  assert.equal(stop.signal.aborted, true);
});

const KUBECONFIG = `
current-context: main
contexts: [{name: main, context: {cluster: c, user: u, namespace: foo}}, {name: cloud, context: {cluster: c, user: e}}]
clusters: [{name: c, cluster: {server: "https://127.0.0.1:PORT", certificate-authority: ca.pem}}]
users:
- {name: u, user: {client-certificate-data: CERT, client-key-data: KEY}}
- {name: e, user: {exec: {command: get-token}}}
`;

test('a kubeconfig with a client certificate, over TLS', async () => {
  const now = Date.now();
  const random = (bytes: number): Buffer => randomBytes(bytes);
  const caKey = await generateKey('p256');
  const ca = await issueRoot({ key: caKey, organization: 'test', now, ttlMs: 3_600_000, random });
  const key = await generateKey('p256');
  const leaf = await issueLeaf(
    { certificate: ca, key: caKey },
    {
      publicKey: createPublicKey(key),
      names: [altName('127.0.0.1')],
      withCommonName: true,
      now,
      ttlMs: 3_600_000,
      random,
    },
  );
  const caPem = certificatePem(ca);
  const certPem = certificatePem(leaf);
  const keyPem = writePrivateKey(key, 'pkcs8');
  server = createTlsServer({ cert: certPem, key: keyPem, ca: caPem, requestCert: true }, (request, response) => {
    const peer = (request.socket as TLSSocket).getPeerCertificate();
    response.end(JSON.stringify({ ...pod, metadata: { name: peer.subject.CN } }));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const port = (server.address() as AddressInfo).port;
  const base64 = (text: string): string => Buffer.from(text).toString('base64');
  const files: Record<string, string> = {
    '/kube/config': KUBECONFIG.replace('PORT', String(port))
      .replace('CERT', base64(certPem))
      .replace('KEY', base64(keyPem)),
    '/kube/ca.pem': caPem,
  };
  const readFile = (path: string): string => {
    if (files[path] === undefined) throw new Error(`no such file: ${path}`);
    return files[path];
  };
  const options = { readFile, clock: createFakeClock(0) };
  const connection = loadKubeconfig('/kube/config', options);
  assert.equal(connection.namespace, 'foo');
  client = createHttpKubeClient(connection);
  assert.equal((await client.get(PODS, 'foo', 'a')).metadata.name, '127.0.0.1');
  const stranger = createHttpKubeClient({ server: connection.server });
  await assert.rejects(stranger.get(PODS, 'foo', 'a'), { code: 0 });
  stranger.close();
  assert.throws(
    () => loadKubeconfig('/kube/config', { ...options, context: 'cloud' }),
    /"exec", which is not supported/,
  );
  assert.throws(() => loadKubeconfig('/kube/config', { ...options, context: 'nosuch' }), /no context named "nosuch"/);
  assert.throws(() => loadKubeconfig('/nosuch', options), KubeConfigError);
});

test('in a pod, the token is read again when it was replaced', async () => {
  const clock = createFakeClock(0);
  const files: Record<string, string> = { '/sa/token': 'one\n', '/sa/ca.crt': 'CA', '/sa/namespace': 'foo' };
  const connection = inClusterConnection({
    host: 'fd00::1',
    port: '443',
    dir: '/sa',
    clock,
    readFile: (path) => files[path]!,
  });
  assert.deepEqual(
    [connection.server, connection.namespace, connection.token?.()],
    ['https://[fd00::1]:443', 'foo', 'one'],
  );
  files['/sa/token'] = 'two';
  assert.equal(connection.token?.(), 'one');
  await clock.advance(60_000);
  assert.equal(connection.token?.(), 'two');
  const sent: (string | undefined)[] = [];
  await serve(
    (request, response) => {
      sent.push(request.headers.authorization);
      response.end('{}');
    },
    () => connection.token?.() ?? '',
  );
  await client.getPath('/version');
  assert.deepEqual(sent, ['Bearer two']);
  assert.throws(
    () => inClusterConnection({ host: undefined, port: undefined, clock, readFile: () => '' }),
    /not in a pod/,
  );
});
