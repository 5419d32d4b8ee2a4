import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer as createHttps, request as httpsRequest } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { KubeObject, ResourceType } from '../../base/kube/types.ts';
import { KubeError } from '../../base/kube/types.ts';
import { systemClock } from '../../base/runtime/clock.ts';
import { silentLog } from '../../base/runtime/log.ts';
import type { Dict } from './json.ts';
import { at, dict, dicts } from './json.ts';
import type { KeyAndCertificate } from './pki.ts';
import { openPki } from './pki.ts';
import { type ApiServer, ListenError, startApiServer } from './server.ts';

const dir = mkdtempSync(join(tmpdir(), 'meltemi-api-'));
let api: ApiServer;
let admin: KeyAndCertificate;

const type = (group: string, version: string, resource: string, kind: string, namespaced = true): ResourceType => ({
  group,
  version,
  resource,
  kind,
  namespaced,
});
const PODS = type('', 'v1', 'pods', 'Pod');
const CONFIGMAPS = type('', 'v1', 'configmaps', 'ConfigMap');
const SERVICES = type('', 'v1', 'services', 'Service');
const NAMESPACES = type('', 'v1', 'namespaces', 'Namespace', false);
const ACCOUNTS = type('', 'v1', 'serviceaccounts', 'ServiceAccount');
const WEBHOOKS = type(
  'admissionregistration.k8s.io',
  'v1',
  'mutatingwebhookconfigurations',
  'MutatingWebhookConfiguration',
  false,
);

before(async () => {
  api = await startApiServer({
    dataDir: dir,
    clock: systemClock,
    log: silentLog,
    port: 0,
    kubernetesService: { ip: '10.96.0.1', port: 443, endpointIp: '10.9.9.9', endpointPort: 6443 },
  });
  admin = api.issueClient('admin', ['system:masters']);
  await api.client.create(ACCOUNTS, make('v1', 'ServiceAccount', 'default'));
});
after(async () => {
  await api.close();
  rmSync(dir, { recursive: true });
});

function make(apiVersion: string, kind: string, name: string, fields: Dict = {}, meta: Dict = {}): KubeObject {
  const namespace =
    kind === 'Namespace' || kind.endsWith('Configuration') || kind === 'CustomResourceDefinition'
      ? {}
      : { namespace: 'default' };
  return { apiVersion, kind, metadata: { name, ...namespace, ...meta }, ...fields };
}

interface HttpAnswer {
  readonly code: number;
  readonly body: Dict;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
}

function http(
  method: string,
  path: string,
  options: { body?: unknown; headers?: Record<string, string>; as?: KeyAndCertificate | 'nobody' } = {},
): Promise<HttpAnswer> {
  const as = options.as ?? admin;
  return new Promise((done, fail) => {
    const request = httpsRequest(
      `${api.url}${path}`,
      {
        method,
        ca: api.caPem,
        agent: false,
        ...(as === 'nobody' ? {} : { key: as.keyPem, cert: as.certPem }),
        headers: { 'content-type': 'application/json', ...options.headers },
      },
      (response) => {
        let text = '';
        response.on('data', (chunk) => {
          text += chunk;
        });
        response.on('end', () => {
          const json = text.startsWith('{') ? (JSON.parse(text) as Dict) : { text };
          done({ code: response.statusCode ?? 0, body: json, headers: response.headers });
        });
      },
    );
    request.on('error', fail);
    request.end(
      options.body === undefined
        ? undefined
        : typeof options.body === 'string'
          ? options.body
          : JSON.stringify(options.body),
    );
  });
}

const refused = (code: number, text: RegExp) => (error: unknown) => {
  assert.ok(error instanceof KubeError, String(error));
  assert.equal(error.code, code, error.message);
  assert.match(error.message, text);
  return true;
};

test('an object is created, changed with its revision, refused with an old one, deleted', async () => {
  const made = await api.client.create(CONFIGMAPS, make('v1', 'ConfigMap', 'life', { data: { a: '1' } }));
  assert.ok(made.metadata.uid && made.metadata.resourceVersion && made.metadata.creationTimestamp);
  await assert.rejects(
    api.client.create(CONFIGMAPS, make('v1', 'ConfigMap', 'life')),
    refused(409, /^configmaps "life" already exists$/),
  );
  const changed = await api.client.update(CONFIGMAPS, { ...made, data: { a: '2' } } as KubeObject);
  assert.notEqual(changed.metadata.resourceVersion, made.metadata.resourceVersion);
  await assert.rejects(
    api.client.update(CONFIGMAPS, { ...made, data: { a: '3' } } as KubeObject),
    refused(409, /Operation cannot be fulfilled on configmaps "life": the object has been modified/),
  );
  await api.client.delete(CONFIGMAPS, 'default', 'life');
  await assert.rejects(api.client.get(CONFIGMAPS, 'default', 'life'), refused(404, /^configmaps "life" not found$/));
});

test('finalizers hold an object until the last is gone', async () => {
  await api.client.create(CONFIGMAPS, make('v1', 'ConfigMap', 'held', {}, { finalizers: ['example.com/hold'] }));
  await api.client.delete(CONFIGMAPS, 'default', 'held');
  const dying = await api.client.get(CONFIGMAPS, 'default', 'held');
  assert.ok(dying.metadata.deletionTimestamp);
  await api.client.patch(CONFIGMAPS, 'default', 'held', 'merge', { metadata: { finalizers: null } });
  await assert.rejects(api.client.get(CONFIGMAPS, 'default', 'held'), refused(404, /not found/));
});

test('a pod gets its token volume; without the account it is refused; a bound one is given its grace', async () => {
  const spec = { containers: [{ name: 'c', image: 'x' }] };
  const pod = await api.client.create(PODS, make('v1', 'Pod', 'p', { spec }));
  const mounts = at(pod, 'spec', 'containers') as Dict[];
  assert.equal(at(dicts(mounts[0]?.volumeMounts)[0], 'mountPath'), '/var/run/secrets/kubernetes.io/serviceaccount');
  await assert.rejects(
    api.client.create(PODS, make('v1', 'Pod', 'q', { spec: { ...spec, serviceAccountName: 'nobody' } })),
    refused(403, /error looking up service account default\/nobody: serviceaccount "nobody" not found/),
  );
  await api.client.create(PODS, make('v1', 'Binding', 'p', { target: { kind: 'Node', name: 'n1' } }), {
    subresource: 'binding',
  });
  await api.client.delete(PODS, 'default', 'p');
  const dying = await api.client.get(PODS, 'default', 'p');
  assert.equal(dying.metadata.deletionGracePeriodSeconds, 30);
  await api.client.delete(PODS, 'default', 'p', { gracePeriodSeconds: 0 });
  await assert.rejects(api.client.get(PODS, 'default', 'p'), refused(404, /not found/));
});

test('a token is bound to its pod and its audience', async () => {
  await api.client.create(PODS, make('v1', 'Pod', 'bound', { spec: { containers: [{ name: 'c', image: 'x' }] } }));
  const ask = { spec: { audiences: ['istio-ca'], boundObjectRef: { kind: 'Pod', apiVersion: 'v1', name: 'bound' } } };
  const answer = await api.client.post<Dict>('/api/v1/namespaces/default/serviceaccounts/default/token', ask);
  const token = String(at(answer, 'status', 'token'));
  const review = async (audiences: string[]) =>
    dict(
      (await api.client.post<Dict>('/apis/authentication.k8s.io/v1/tokenreviews', { spec: { token, audiences } }))
        .status,
    );
  const good = await review(['istio-ca']);
  assert.equal(good.authenticated, true);
  assert.equal(at(good, 'user', 'username'), 'system:serviceaccount:default:default');
  assert.deepEqual(at(good, 'user', 'extra', 'authentication.kubernetes.io/pod-name'), ['bound']);
  assert.equal((await review(['other'])).authenticated, undefined);
  assert.equal(
    (await http('GET', '/api/v1/pods', { as: 'nobody', headers: { authorization: `Bearer ${token}` } })).code,
    401,
  );
  await api.client.delete(PODS, 'default', 'bound', { gracePeriodSeconds: 0 });
  assert.match(String((await review(['istio-ca'])).error), /pod default\/bound is gone/);
  await assert.rejects(
    api.client.post('/api/v1/namespaces/default/serviceaccounts/default/token', { spec: { expirationSeconds: 60 } }),
    refused(422, /may not specify a duration less than 10 minutes/),
  );
});

test('nobody gets 401, an account without rights 403, and a role gives them', async () => {
  assert.equal((await http('GET', '/api/v1/pods', { as: 'nobody' })).code, 401);
  assert.equal((await http('GET', '/readyz', { as: 'nobody' })).code, 200);
  const keys = await http('GET', '/openid/v1/jwks', { as: 'nobody' });
  assert.equal((keys.body.keys as Dict[])[0]?.alg, 'RS256');
  const answer = await api.client.post<Dict>('/api/v1/namespaces/default/serviceaccounts/default/token', { spec: {} });
  const headers = { authorization: `Bearer ${String(at(answer, 'status', 'token'))}` };
  const denied = await http('GET', '/api/v1/namespaces/default/pods', { as: 'nobody', headers });
  assert.equal(denied.code, 403);
  assert.equal(
    denied.body.message,
    'pods is forbidden: User "system:serviceaccount:default:default" cannot list resource "pods" in API group "" in the namespace "default"',
  );
  const rbac = (resource: string, kind: string) => type('rbac.authorization.k8s.io', 'v1', resource, kind);
  const rules = [{ apiGroups: [''], resources: ['pods'], verbs: ['list'] }];
  await api.client.create(rbac('roles', 'Role'), make('rbac.authorization.k8s.io/v1', 'Role', 'lister', { rules }));
  await api.client.create(
    rbac('rolebindings', 'RoleBinding'),
    make('rbac.authorization.k8s.io/v1', 'RoleBinding', 'lister', {
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'Role', name: 'lister' },
      subjects: [{ kind: 'ServiceAccount', name: 'default', namespace: 'default' }],
    }),
  );
  assert.equal((await http('GET', '/api/v1/namespaces/default/pods', { as: 'nobody', headers })).code, 200);
  assert.equal((await http('GET', '/api/v1/namespaces/kube-system/pods', { as: 'nobody', headers })).code, 403);
});

test('services take addresses and ports that nobody else has, and give them back', async () => {
  const spec = { type: 'NodePort', clusterIP: '10.96.0.77', ports: [{ port: 80, nodePort: 30077 }] };
  await api.client.create(SERVICES, make('v1', 'Service', 's1', { spec }));
  await assert.rejects(
    api.client.create(SERVICES, make('v1', 'Service', 's2', { spec: { ...spec, ports: [{ port: 80 }] } })),
    refused(422, /failed to allocate IP 10.96.0.77: provided IP is already allocated/),
  );
  await assert.rejects(
    api.client.create(
      SERVICES,
      make('v1', 'Service', 's2', { spec: { type: 'NodePort', ports: [{ port: 80, nodePort: 30077 }] } }),
    ),
    refused(422, /spec.ports\[0\].nodePort: Invalid value: 30077: provided port is already allocated/),
  );
  await api.client.delete(SERVICES, 'default', 's1');
  const again = await api.client.create(SERVICES, make('v1', 'Service', 's2', { spec }));
  assert.equal(at(again, 'spec', 'clusterIP'), '10.96.0.77');
});

test('namespaces: a missing one is 404, a dying one 403, and it vanishes when finalized', async () => {
  await assert.rejects(
    api.client.create(CONFIGMAPS, make('v1', 'ConfigMap', 'x', {}, { namespace: 'none' })),
    refused(404, /^namespaces "none" not found$/),
  );
  const made = await api.client.create(NAMESPACES, make('v1', 'Namespace', 'brief'));
  assert.equal(made.metadata.labels?.['kubernetes.io/metadata.name'], 'brief');
  await api.client.delete(NAMESPACES, undefined, 'brief');
  const dying = await api.client.get(NAMESPACES, undefined, 'brief');
  assert.equal(at(dying, 'status', 'phase'), 'Terminating');
  await assert.rejects(
    api.client.create(CONFIGMAPS, make('v1', 'ConfigMap', 'x', {}, { namespace: 'brief' })),
    refused(403, /because it is being terminated/),
  );
  await api.client.update(NAMESPACES, { ...dying, spec: { finalizers: [] } } as KubeObject, {
    subresource: 'finalize',
  });
  await assert.rejects(api.client.get(NAMESPACES, undefined, 'brief'), refused(404, /not found/));
});

test('a CRD is served at once, in discovery and as a table, and takes its objects with it', async () => {
  const crds = type('apiextensions.k8s.io', 'v1', 'customresourcedefinitions', 'CustomResourceDefinition', false);
  const schema = {
    openAPIV3Schema: {
      type: 'object',
      properties: { spec: { type: 'object', properties: { mode: { type: 'string', enum: ['A'] } } } },
    },
  };
  const spec = {
    group: 'example.com',
    scope: 'Namespaced',
    names: { kind: 'Gizmo', plural: 'gizmos', shortNames: ['gz'] },
    versions: [
      {
        name: 'v1',
        served: true,
        storage: true,
        schema,
        additionalPrinterColumns: [{ name: 'Mode', type: 'string', jsonPath: '.spec.mode' }],
      },
      { name: 'v1beta1', served: true, storage: false, schema },
    ],
  };
  await api.client.create(
    crds,
    make('apiextensions.k8s.io/v1', 'CustomResourceDefinition', 'gizmos.example.com', { spec }),
  );
  const gizmos = type('example.com', 'v1', 'gizmos', 'Gizmo');
  await api.client.create(gizmos, make('example.com/v1', 'Gizmo', 'g', { spec: { mode: 'A' } }));
  await assert.rejects(
    api.client.create(gizmos, make('example.com/v1', 'Gizmo', 'h', { spec: { mode: 'Z' } })),
    refused(422, /spec.mode: Unsupported value: "Z"/),
  );
  const beta = await api.client.get({ ...gizmos, version: 'v1beta1' }, 'default', 'g');
  assert.equal(beta.apiVersion, 'example.com/v1beta1');
  const list = await http('GET', '/apis/example.com/v1');
  assert.deepEqual(at((list.body.resources as Dict[])[0], 'shortNames'), ['gz']);
  const table = await http('GET', '/apis/example.com/v1/gizmos', {
    headers: { accept: 'application/json;as=Table;g=meta.k8s.io;v=v1' },
  });
  assert.deepEqual(
    (table.body.columnDefinitions as Dict[]).map((column) => column.name),
    ['Name', 'Mode'],
  );
  assert.deepEqual((table.body.rows as Dict[])[0]?.cells, ['g', 'A']);
  await api.client.delete(crds, undefined, 'gizmos.example.com');
  const gone = new Promise<void>((done) => {
    const look = () =>
      void api.client.get(crds, undefined, 'gizmos.example.com').then(
        () => setImmediate(look),
        () => done(),
      );
    look();
  });
  await gone;
  assert.equal((await http('GET', '/apis/example.com/v1/gizmos')).code, 404);
});

test('a list in pages names one revision, and a watch from it sees what came after', async () => {
  for (const name of ['l1', 'l2', 'l3'])
    await api.client.create(CONFIGMAPS, make('v1', 'ConfigMap', name, {}, { labels: { list: 'yes' } }));
  const path = '/api/v1/namespaces/default/configmaps?labelSelector=list%3Dyes';
  const first = await http('GET', `${path}&limit=2`);
  assert.equal((first.body.items as Dict[]).length, 2);
  const token = String(at(first.body, 'metadata', 'continue'));
  await api.client.create(CONFIGMAPS, make('v1', 'ConfigMap', 'l0', {}, { labels: { list: 'yes' } }));
  const second = await http('GET', `${path}&limit=2&continue=${token}`);
  assert.deepEqual(
    (second.body.items as Dict[]).map((item) => at(item, 'metadata', 'name')),
    ['l3'],
  );
  const revision = String(at(second.body, 'metadata', 'resourceVersion'));
  assert.equal(revision, at(first.body, 'metadata', 'resourceVersion'));
  const abort = new AbortController();
  const seen: string[] = [];
  const ended = new Promise<void>((done, fail) => {
    api.client
      .watch(
        CONFIGMAPS,
        { namespace: 'default', labelSelector: 'list=yes', resourceVersion: revision },
        (event) => {
          if (event.type !== 'BOOKMARK') seen.push(`${event.type} ${event.object.metadata.name}`);
          if (seen.length === 3) abort.abort();
        },
        abort.signal,
      )
      .then(done, fail);
  });
  await api.client.patch(CONFIGMAPS, 'default', 'l1', 'merge', { metadata: { labels: { list: 'no' } } });
  await api.client.patch(CONFIGMAPS, 'default', 'l1', 'merge', { metadata: { labels: { list: 'yes' } } });
  await ended;
  assert.deepEqual(seen, ['ADDED l0', 'DELETED l1', 'ADDED l1']);
  await assert.rejects(
    api.client.watch(CONFIGMAPS, { resourceVersion: '99999999' }, () => {}, new AbortController().signal),
    refused(410, /ahead of this cluster/),
  );
  const error = await http('GET', '/api/v1/configmaps?watch=true&resourceVersion=99999999');
  assert.equal(error.body.type, 'ERROR');
  assert.equal(at(error.body, 'object', 'code'), 410);
});

test('dry run changes nothing; strict decoding refuses unknown fields; warnings come as headers', async () => {
  const path = '/api/v1/namespaces/default/configmaps';
  const dry = await http('POST', `${path}?dryRun=All`, { body: make('v1', 'ConfigMap', 'dry') });
  assert.equal(dry.code, 201);
  assert.equal((await http('GET', `${path}/dry`)).code, 404);
  const strict = await http('POST', `${path}?fieldValidation=Strict`, {
    body: make('v1', 'ConfigMap', 'odd', { nope: 1 }),
  });
  assert.equal(strict.code, 400);
  const warned = await http('POST', `${path}?fieldValidation=Warn`, {
    body: make('v1', 'ConfigMap', 'odd', { nope: 1 }),
  });
  assert.equal(warned.code, 201);
  assert.match(String(warned.headers.warning), /^299 - "unknown field \\"nope\\""/);
  const yaml = await http('POST', path, {
    body: 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: fromyaml}\n',
    headers: { 'content-type': 'application/yaml' },
  });
  assert.equal(yaml.code, 201);
  assert.equal((await http('POST', path, { body: '{not json' })).code, 400);
});

test('server-side apply creates, refuses what another owns, and is forced', async () => {
  const path = '/api/v1/namespaces/default/configmaps/ssa';
  const apply = (manager: string, value: string, force = false) =>
    http('PATCH', `${path}?fieldManager=${manager}&force=${force}`, {
      body: JSON.stringify({ apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'ssa' }, data: { a: value } }),
      headers: { 'content-type': 'application/apply-patch+yaml' },
    });
  assert.equal((await apply('one', '1')).code, 201);
  assert.equal((await apply('one', '1')).code, 200);
  assert.equal((await apply('two', '2')).code, 409);
  const forced = await apply('two', '2', true);
  assert.equal(at(forced.body, 'data', 'a'), '2');
});

async function withWebhook(
  answer: (review: Dict) => Dict,
  run: (url: string, caBundle: string) => Promise<void>,
): Promise<void> {
  const pki = openPki(join(dir, 'hook'), systemClock);
  const serving = pki.issueServer(['127.0.0.1']);
  const server = createHttps({ key: serving.keyPem, cert: serving.certPem }, (request, response) => {
    let text = '';
    request.on('data', (chunk) => {
      text += chunk;
    });
    request.on('end', () => {
      const review = JSON.parse(text) as Dict;
      const uid = at(review, 'request', 'uid');
      response.end(JSON.stringify({ ...review, response: { uid, ...answer(dict(review.request)) } }));
    });
  });
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  const address = server.address();
  const port = typeof address === 'object' && address ? address.port : 0;
  try {
    await run(`https://127.0.0.1:${port}/hook`, Buffer.from(pki.caPem).toString('base64'));
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

function hookConfig(url: string, caBundle: string, failurePolicy: string): KubeObject {
  return make('admissionregistration.k8s.io/v1', 'MutatingWebhookConfiguration', 'hook', {
    webhooks: [
      {
        name: 'hook.example.com',
        clientConfig: { url, caBundle },
        rules: [{ operations: ['CREATE'], apiGroups: [''], apiVersions: ['v1'], resources: ['configmaps'] }],
        objectSelector: { matchLabels: { hook: 'yes' } },
        failurePolicy,
        sideEffects: 'None',
        admissionReviewVersions: ['v1'],
        timeoutSeconds: 5,
      },
    ],
  });
}

test('webhooks change, warn, deny, and fail closed or open', async () => {
  const hooked = (name: string) => make('v1', 'ConfigMap', name, { data: { a: '1' } }, { labels: { hook: 'yes' } });
  const patch = Buffer.from(JSON.stringify([{ op: 'add', path: '/data/b', value: '2' }])).toString('base64');
  const answer = (request: Dict): Dict =>
    at(request, 'object', 'metadata', 'name') === 'bad'
      ? { allowed: false, status: { message: 'not this one', code: 403 } }
      : { allowed: true, patchType: 'JSONPatch', patch, warnings: ['take care'] };
  let closedUrl = '';
  let ca = '';
  await withWebhook(answer, async (url, caBundle) => {
    closedUrl = url;
    ca = caBundle;
    await api.client.create(WEBHOOKS, hookConfig(url, caBundle, 'Fail'));
    const made = await http('POST', '/api/v1/namespaces/default/configmaps', { body: hooked('good') });
    assert.deepEqual(made.body.data, { a: '1', b: '2' });
    assert.equal(made.headers.warning, '299 - "take care"');
    await assert.rejects(
      api.client.create(CONFIGMAPS, hooked('bad')),
      refused(403, /^admission webhook "hook.example.com" denied the request: not this one$/),
    );
    await api.client.create(CONFIGMAPS, make('v1', 'ConfigMap', 'unlabelled'));
  });
  await assert.rejects(
    api.client.create(CONFIGMAPS, hooked('down')),
    refused(
      500,
      /^Internal error occurred: failed calling webhook "hook.example.com": failed to call webhook: Post "https:\/\/127.0.0.1:\d+\/hook\?timeout=5s": dial tcp 127.0.0.1:\d+: connect: connection refused$/,
    ),
  );
  await api.client.delete(WEBHOOKS, undefined, 'hook');
  await api.client.create(WEBHOOKS, hookConfig(closedUrl, ca, 'Ignore'));
  await api.client.create(CONFIGMAPS, hooked('down'));
  await api.client.delete(WEBHOOKS, undefined, 'hook');
});

test('a port in use is a typed error and changes nothing', async () => {
  const other = join(dir, 'second');
  await assert.rejects(
    startApiServer({ dataDir: other, clock: systemClock, log: silentLog, port: api.port }),
    (error) => error instanceof ListenError && error.code === 'EADDRINUSE' && /already in use/.test(error.message),
  );
});
