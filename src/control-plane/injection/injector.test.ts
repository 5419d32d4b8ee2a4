import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseAllDocuments } from 'yaml';
import type { Pod } from '../../api/kubernetes/pod.ts';
import { type LabelSelector, matchesLabelSelector } from '../../base/kube/selectors.ts';
import { injectionConfig, type Tree } from './config.ts';
import { decide } from './decision.ts';
import { createInjector, injectPod } from './injector.ts';
import { diff, type PatchOp } from './patch.ts';
import { mutatingWebhookConfiguration } from './webhook-configuration.ts';

const config = injectionConfig({ values: {}, meshConfig: {}, revision: 'default', nativeSidecars: false });

function pod(metadata: Partial<Pod['metadata']> = {}, spec: Partial<Pod['spec']> = {}): Pod {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: 'web-1', ...metadata },
    spec: { containers: [{ name: 'app', image: 'nginx' }], ...spec },
  };
}

/** True when at least one webhook entry would be asked. */
function asked(
  namespace: Record<string, string>,
  labels: Record<string, string>,
  extra: { readonly revision?: string; readonly enableNamespacesByDefault?: boolean } = {},
): boolean {
  const input = { revision: 'default', namespace: 'istio-system', caBundle: '', ...extra };
  const { webhooks } = mutatingWebhookConfiguration(input);
  return (webhooks as { namespaceSelector: LabelSelector; objectSelector: LabelSelector }[]).some(
    (w) => matchesLabelSelector(w.namespaceSelector, namespace) && matchesLabelSelector(w.objectSelector, labels),
  );
}

test('the table of namespace label and pod label', () => {
  const yes = { 'sidecar.istio.io/inject': 'true' };
  const no = { 'sidecar.istio.io/inject': 'false' };
  const rows: [Record<string, string>, boolean, boolean, boolean][] = [
    [{ 'istio-injection': 'enabled' }, true, true, false],
    [{ 'istio-injection': 'disabled' }, false, false, false],
    [{}, false, true, false],
    [{ 'istio.io/rev': 'default' }, true, true, false],
    [{ 'istio.io/rev': 'other' }, false, false, false],
    [{ 'istio-injection': 'enabled', 'istio.io/rev': 'other' }, true, true, false],
  ];
  for (const [namespace, none, on, off] of rows)
    assert.deepEqual(
      [asked(namespace, {}), asked(namespace, yes), asked(namespace, no)],
      [none, on, off],
      JSON.stringify(namespace),
    );
  assert.ok(asked({}, { 'istio.io/rev': 'default' }), 'a pod label with the revision is enough');
});

test('another revision answers for its own namespaces and pods only', () => {
  const canary = { revision: 'canary' };
  assert.ok(asked({ 'istio.io/rev': 'canary' }, {}, canary));
  assert.ok(asked({}, { 'istio.io/rev': 'canary' }, canary));
  assert.ok(!asked({ 'istio-injection': 'enabled' }, {}, canary));
  assert.ok(!asked({ 'istio-injection': 'enabled', 'istio.io/rev': 'canary' }, {}, canary));
  assert.ok(!asked({}, { 'sidecar.istio.io/inject': 'true' }, canary));
});

test('enableNamespacesByDefault adds the namespaces that say nothing, except the system ones', () => {
  const auto = { enableNamespacesByDefault: true };
  assert.ok(asked({ 'kubernetes.io/metadata.name': 'foo' }, {}, auto));
  assert.ok(!asked({ 'kubernetes.io/metadata.name': 'foo' }, {}));
  assert.ok(!asked({ 'kubernetes.io/metadata.name': 'kube-system' }, {}, auto));
  assert.ok(!asked({ 'istio-injection': 'disabled' }, {}, auto));
  assert.ok(!asked({}, { 'sidecar.istio.io/inject': 'false' }, auto));
});

test('the decision, row by row', () => {
  const selectors = {
    sidecarInjectorWebhook: {
      neverInjectSelector: [{ matchLabels: { job: 'backup' } }, {}],
      alwaysInjectSelector: [{ matchExpressions: [{ key: 'mesh', operator: 'Exists' }] }],
    },
  };
  const at = (policy: string) =>
    injectionConfig({ values: selectors, meshConfig: {}, policy, revision: 'default', nativeSidecars: false });
  const inject = (value: string) => ({ 'sidecar.istio.io/inject': value });
  const rows: readonly [Pod, string, boolean, boolean][] = [
    [pod(), 'foo', true, false],
    [pod({}, { hostNetwork: true }), 'foo', false, false],
    [pod({ labels: inject('true') }), 'kube-system', false, false],
    [pod({ labels: inject('true') }), 'foo', true, true],
    [pod({ labels: inject('false') }), 'foo', false, false],
    [pod({ annotations: inject('true') }), 'foo', true, true],
    [pod({ annotations: inject('false') }), 'foo', false, false],
    [pod({ labels: inject('true'), annotations: inject('false') }), 'foo', true, true],
    [pod({ labels: inject('maybe') }), 'foo', true, false],
    [pod({ labels: { job: 'backup', mesh: '' } }), 'foo', false, false],
    [pod({ labels: { mesh: '' } }), 'foo', true, true],
    [pod({ labels: { job: 'backup', ...inject('true') } }), 'foo', true, true],
  ];
  for (const [one, namespace, enabled, disabled] of rows)
    assert.deepEqual(
      [decide(one, namespace, at('enabled')).inject, decide(one, namespace, at('disabled')).inject],
      [enabled, disabled],
      `${namespace} ${JSON.stringify(one.metadata)}`,
    );
});

test('a pod without containers is left to validation', async () => {
  const injector = createInjector({ config: () => config });
  const kind = { group: '', version: 'v1', kind: 'Pod' };
  for (const object of [null, {}, { metadata: { name: 'x' } }, { metadata: {}, spec: {} }])
    assert.deepEqual(
      await injector.handle({ uid: 'u', namespace: 'foo', operation: 'CREATE', object, kind }, '/inject'),
      { uid: 'u', allowed: true },
    );
});

test('network, limits and the old place of the hold switch reach the pod', () => {
  const values = { global: { network: 'net-1', proxy: { holdApplicationUntilProxyStarts: true } } };
  const other = injectionConfig({ values, meshConfig: {}, revision: 'default', nativeSidecars: false });
  const envOf = (p: Pod) =>
    new Map(p.spec.containers.find((c) => c.name === 'istio-proxy')!.env!.map((e) => [e.name, e]));
  const out = injectPod(pod(), 'foo', other);
  assert.equal(out.spec.containers[0]!.name, 'istio-proxy');
  assert.equal(envOf(out).get('ISTIO_META_NETWORK')?.value, 'net-1');
  assert.equal(envOf(out).get('GOMEMLIMIT')?.valueFrom?.resourceFieldRef?.resource, 'limits.memory');
  const labelled = injectPod(pod({ labels: { 'topology.istio.io/network': 'net-2' } }), 'foo', other);
  assert.equal(envOf(labelled).get('ISTIO_META_NETWORK')?.value, 'net-2');
  assert.equal(envOf(injectPod(pod(), 'foo', config)).has('ISTIO_META_NETWORK'), false);
});

test('an injected pod: init container, proxy last, labels, annotations, volumes', () => {
  const out = injectPod(pod({ labels: { app: 'web', version: 'v2' } }), 'foo', config);
  assert.deepEqual(
    out.spec.initContainers!.map((c) => c.name),
    ['istio-init'],
  );
  assert.deepEqual(
    out.spec.containers.map((c) => c.name),
    ['app', 'istio-proxy'],
  );
  assert.deepEqual(out.spec.initContainers![0]!.args!.slice(0, 15), [
    'istio-iptables',
    '-p',
    '15001',
    '-z',
    '15006',
    '-u',
    '1337',
    '-m',
    'REDIRECT',
    '-i',
    '*',
    '-x',
    '',
    '-b',
    '*',
  ]);
  assert.deepEqual(out.spec.initContainers![0]!.args!.slice(15, 17), ['-d', '15090,15021,15020']);
  const { labels, annotations } = out.metadata;
  assert.equal(labels!['security.istio.io/tlsMode'], 'istio');
  assert.equal(labels!['service.istio.io/canonical-name'], 'web');
  assert.equal(labels!['service.istio.io/canonical-revision'], 'v2');
  assert.equal(annotations!['kubectl.kubernetes.io/default-container'], 'app');
  assert.equal(annotations!['prometheus.io/port'], '15020');
  assert.deepEqual(JSON.parse(annotations!['sidecar.istio.io/status']!).containers, ['istio-proxy']);
  const token = out.spec.volumes!.find((v) => v.name === 'istio-token')!;
  assert.deepEqual(token.projected!.sources![0]!.serviceAccountToken, {
    audience: 'istio-ca',
    expirationSeconds: 43200,
    path: 'istio-token',
  });
});

test('the workload is the Deployment behind the ReplicaSet', () => {
  const owner = { apiVersion: 'apps/v1', kind: 'ReplicaSet', name: 'web-5d4', uid: 'u', controller: true };
  const out = injectPod(pod({ ownerReferences: [owner], labels: { 'pod-template-hash': '5d4' } }), 'foo', config);
  const env = new Map(out.spec.containers[1]!.env!.map((e) => [e.name, e.value]));
  assert.equal(env.get('ISTIO_META_WORKLOAD_NAME'), 'web');
  assert.equal(env.get('ISTIO_META_OWNER'), 'kubernetes://apis/apps/v1/namespaces/foo/deployments/web');
});

test('holdApplicationUntilProxyStarts puts the proxy first with a postStart; proxyMetadata becomes env', () => {
  const yaml = 'holdApplicationUntilProxyStarts: true\nproxyMetadata: {SECRET_TTL: 1m}';
  const out = injectPod(pod({ annotations: { 'proxy.istio.io/config': yaml } }), 'foo', config);
  const proxy = out.spec.containers[0]!;
  assert.equal(proxy.name, 'istio-proxy');
  assert.deepEqual(proxy.lifecycle!.postStart!.exec!.command, ['pilot-agent', 'wait']);
  assert.ok(proxy.env!.some((e) => e.name === 'SECRET_TTL' && e.value === '1m'));
});

test('native sidecars are init containers that restart', () => {
  const out = injectPod(
    pod(
      { annotations: { 'sidecar.istio.io/nativeSidecar': 'true' } },
      { initContainers: [{ name: 'mine', image: 'x' }] },
    ),
    'foo',
    config,
  );
  assert.deepEqual(
    out.spec.initContainers!.map((c) => c.name),
    ['istio-init', 'istio-proxy', 'mine'],
  );
  assert.equal(out.spec.initContainers![1]!.restartPolicy, 'Always');
  assert.deepEqual(
    out.spec.containers.map((c) => c.name),
    ['app'],
  );
});

test('probes go to the agent, the originals with resolved ports to its environment', () => {
  const container = {
    name: 'app',
    image: 'x',
    ports: [{ name: 'web', containerPort: 8080 }],
    readinessProbe: { httpGet: { path: '/ok', port: 'web' }, periodSeconds: 3 },
    livenessProbe: { exec: { command: ['true'] } },
  };
  const out = injectPod(pod({}, { containers: [container] }), 'foo', config);
  assert.deepEqual(out.spec.containers[0]!.readinessProbe, {
    periodSeconds: 3,
    httpGet: { path: '/app-health/app/readyz', port: 15020, scheme: 'HTTP' },
  });
  assert.deepEqual(out.spec.containers[0]!.livenessProbe, { exec: { command: ['true'] } });
  const probers = out.spec.containers[1]!.env!.find((e) => e.name === 'ISTIO_KUBE_APP_PROBERS')!.value!;
  assert.deepEqual(JSON.parse(probers), {
    '/app-health/app/readyz': { httpGet: { path: '/ok', port: 8080 }, timeoutSeconds: 1 },
  });
});

test('exclusions reach the arguments of istio-init', () => {
  const out = injectPod(
    pod({
      annotations: {
        'traffic.sidecar.istio.io/excludeInboundPorts': '22, 23',
        'traffic.sidecar.istio.io/excludeOutboundIPRanges': '10.0.0.0/8',
        'traffic.sidecar.istio.io/excludeOutboundPorts': '5432',
      },
    }),
    'foo',
    config,
  );
  const args = out.spec.initContainers![0]!.args!;
  assert.equal(args[args.indexOf('-d') + 1], '15090,15021,15020,22,23');
  assert.equal(args[args.indexOf('-x') + 1], '10.0.0.0/8');
  assert.equal(args[args.indexOf('-o') + 1], '5432');
});

test('annotations that cannot be obeyed refuse the pod by name', async () => {
  const injector = createInjector({ config: () => config });
  const ask = async (annotations: Record<string, string>) => {
    const request = {
      uid: 'u',
      namespace: 'foo',
      operation: 'CREATE',
      kind: { group: '', version: 'v1', kind: 'Pod' },
      object: pod({ annotations }),
    };
    const answer = await injector.handle(request, '/inject');
    return answer.allowed ? 'allowed' : answer.status!.message;
  };
  assert.match(
    await ask({ 'traffic.sidecar.istio.io/excludeInboundPorts': 'x' }),
    /^invalid value 'x' for annotation 'traffic\.sidecar\.istio\.io\/excludeInboundPorts': /,
  );
  assert.match(await ask({ 'sidecar.istio.io/interceptionMode': 'TPROXY' }), /only REDIRECT is supported/);
  assert.match(await ask({ 'sidecar.istio.io/bootstrapOverride': 'x' }), /is not supported by this version/);
  assert.match(await ask({ 'sidecar.istio.io/proxyCpu': '1' }), /unknown; check its spelling/);
  assert.match(
    await ask({ 'proxy.istio.io/config': '[' }),
    /invalid value '\[' for annotation 'proxy\.istio\.io\/config'/,
  );
  assert.equal(await ask({ 'example.com/anything': 'x' }), 'allowed');
});

test('skips: host network, system namespaces, a label that says no, a pod of kube-inject', async () => {
  const counts: string[] = [];
  const injector = createInjector({ config: () => config, count: (o) => counts.push(o) });
  const ask = (object: Pod, namespace = 'foo') =>
    injector.handle(
      { uid: 'u', namespace, operation: 'CREATE', kind: { group: '', version: 'v1', kind: 'Pod' }, object },
      '/inject',
    );
  for (const answer of [
    await ask(pod({}, { hostNetwork: true })),
    await ask(pod(), 'kube-system'),
    await ask(pod({ labels: { 'sidecar.istio.io/inject': 'false' } })),
    await ask(injectPod(pod(), 'foo', config)),
  ])
    assert.deepEqual(answer, { uid: 'u', allowed: true });
  assert.deepEqual(counts, ['skip', 'skip', 'skip', 'skip']);
});

test('kube-inject changes pod templates and leaves the rest', () => {
  const yaml =
    'kind: Service\napiVersion: v1\nmetadata: {name: a}\n---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec:\n  template:\n    metadata: {labels: {app: web}}\n    spec: {containers: [{name: app, image: x}]}\n';
  const [service, deployment] = parseAllDocuments(
    createInjector({ config: () => config }).injectYaml(yaml, 'default'),
  ).map((d) => d.toJS());
  assert.deepEqual(service, { kind: 'Service', apiVersion: 'v1', metadata: { name: 'a' } });
  assert.deepEqual(
    deployment.spec.template.spec.containers.map((c: { name: string }) => c.name),
    ['app', 'istio-proxy'],
  );
  assert.equal(deployment.spec.template.metadata.ownerReferences, undefined);
});

/** A plain interpreter of the three operations diff makes. */
function applyPatch(doc: unknown, ops: readonly PatchOp[]): unknown {
  let root = structuredClone(doc);
  for (const op of ops) {
    const keys = op.path
      .split('/')
      .slice(1)
      .map((k) => k.replaceAll('~1', '/').replaceAll('~0', '~'));
    if (keys.length === 0) {
      root = op.op === 'remove' ? undefined : op.value;
      continue;
    }
    let at = root as Tree & Record<string, unknown>;
    for (const key of keys.slice(0, -1)) at = at[key] as typeof at;
    if (op.op === 'remove') delete at[keys.at(-1)!];
    else at[keys.at(-1)!] = op.value;
  }
  return root;
}

test('the patch turns any value into any other', () => {
  const key = fc.constantFrom('a', 'b', 'c/d', 'e~f');
  const value = fc.letrec((tie) => ({
    v: fc.oneof(
      fc.integer(),
      fc.string(),
      fc.array(fc.integer(), { maxLength: 3 }),
      fc.dictionary(key, tie('v'), { maxKeys: 3, noNullPrototype: true }),
    ),
  })).v;
  fc.assert(fc.property(value, value, (from, to) => assert.deepEqual(applyPatch(from, diff(from, to)), to)));
});
