// Decoding, defaults and validation of built-in and custom kinds, by the texts users see.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import {
  applyDefaults,
  createOpenApi,
  createSchemaRegistry,
  decodeObject,
  errorText,
  invalidMessage,
  type JsonObject,
  type KindSchema,
  loadGeneratedSchemas,
  SchemaError,
  validateCustomResourceDefinition,
  validateObject,
} from './index.ts';

const registry = createSchemaRegistry(() => loadGeneratedSchemas());
const crds = ['istio', 'gateway-api'].flatMap((name) => {
  const file = new URL(`../../../../generated/crds/${name}.json`, import.meta.url);
  return (JSON.parse(readFileSync(file, 'utf8')) as { items: JsonObject[] }).items;
});
for (const crd of crds) registry.setCrd(crd);

function kind(group: string, name: string, version = 'v1'): KindSchema {
  const found = registry.kind({ group, version, kind: name });
  assert.ok(found, `${group}/${version} ${name}`);
  return found;
}

const crdKind = kind('apiextensions.k8s.io', 'CustomResourceDefinition');
const deployment = kind('apps', 'Deployment');
const pod = kind('', 'Pod');
const service = kind('', 'Service');
const peer = kind('security.istio.io', 'PeerAuthentication');

function texts(object: JsonObject, of: KindSchema, old?: JsonObject): string[] {
  const prepare = (o: JsonObject) => applyDefaults(decodeObject(o, of, 'Strict').object, of);
  return validateObject(prepare(object), of, { old: old && prepare(old) }).map(errorText);
}

const template = (labels: JsonObject, spec: JsonObject = { containers: [{ name: 'c', image: 'i' }] }): JsonObject => ({
  metadata: { labels },
  spec,
});

function web(spec: JsonObject): JsonObject {
  return { apiVersion: 'apps/v1', kind: 'Deployment', metadata: { name: 'web' }, spec };
}

const goodWeb = web({ selector: { matchLabels: { app: 'web' } }, template: template({ app: 'web' }) });

test('every generated CRD is valid, structural, and serves its kind', () => {
  for (const crd of crds) {
    const prepared = applyDefaults(decodeObject(crd, crdKind, 'Strict').object, crdKind);
    const name = (crd.metadata as JsonObject).name;
    assert.deepEqual(validateObject(prepared, crdKind), [], `${name}`);
    assert.deepEqual(validateCustomResourceDefinition(prepared), { errors: [], warnings: [] }, `${name}`);
  }
  assert.equal(crds.length, 23);
});

test('PeerAuthentication: unknown mode, wrong type, unknown field', () => {
  const policy = (spec: JsonObject): JsonObject => ({
    apiVersion: 'security.istio.io/v1',
    kind: 'PeerAuthentication',
    metadata: { name: 'default' },
    spec,
  });
  assert.deepEqual(texts(policy({ mtls: { mode: 'STRICT' } }), peer), []);
  const errors = validateObject(policy({ mtls: { mode: 'FOO' } }), peer);
  assert.equal(
    invalidMessage(peer.gvk, 'default', errors),
    'PeerAuthentication.security.istio.io "default" is invalid: spec.mtls.mode: Unsupported value: "FOO": supported values: "UNSET", "DISABLE", "PERMISSIVE", "STRICT"',
  );
  assert.deepEqual(texts(policy({ selector: 'app' }), peer), [
    'spec.selector: Invalid value: "string": spec.selector in body must be of type object: "string"',
  ]);
  const odd = policy({ mtls: { mode: 'STRICT', colour: 'red' } });
  assert.throws(
    () => decodeObject(odd, peer, 'Strict'),
    /^SchemaError: strict decoding error: unknown field "spec\.mtls\.colour"$/,
  );
  const warned = decodeObject(odd, peer, 'Warn');
  assert.deepEqual(warned.warnings, ['unknown field "spec.mtls.colour"']);
  assert.deepEqual(warned.object.spec, { mtls: { mode: 'STRICT' } }, 'pruned');
  assert.deepEqual(decodeObject(odd, peer, 'Ignore').warnings, []);
});

test('Istio oneOf groups and required fields are enforced', () => {
  const rule = kind('networking.istio.io', 'DestinationRule');
  const object = (trafficPolicy: JsonObject, host?: string): JsonObject => ({
    apiVersion: 'networking.istio.io/v1',
    kind: 'DestinationRule',
    metadata: { name: 'r' },
    spec: { ...(host && { host }), trafficPolicy },
  });
  assert.deepEqual(texts(object({ loadBalancer: { simple: 'RANDOM' } }, 'h'), rule), []);
  assert.deepEqual(texts(object({}), rule), ['spec.host: Required value']);
  const both = texts(object({ loadBalancer: { simple: 'RANDOM', consistentHash: { useSourceIp: true } } }, 'h'), rule);
  assert.match(both.join(), /spec\.trafficPolicy\.loadBalancer: .*must validate one and only one schema \(oneOf\)/);
});

test('CRD defaults are filled in', () => {
  const route = kind('gateway.networking.k8s.io', 'HTTPRoute');
  const filled = applyDefaults(
    { spec: { parentRefs: [{ name: 'g' }], rules: [{ backendRefs: [{ name: 's', port: 80 }] }] } },
    route,
  );
  assert.deepEqual(filled.spec, {
    parentRefs: [{ group: 'gateway.networking.k8s.io', kind: 'Gateway', name: 'g' }],
    rules: [
      {
        matches: [{ path: { type: 'PathPrefix', value: '/' } }],
        backendRefs: [{ group: '', kind: 'Service', name: 's', port: 80, weight: 1 }],
      },
    ],
  });
});

test('a Deployment gets what a real cluster shows', () => {
  const filled = applyDefaults(goodWeb, deployment);
  assert.deepEqual(filled.spec, {
    selector: { matchLabels: { app: 'web' } },
    template: template(
      { app: 'web' },
      {
        containers: [
          {
            name: 'c',
            image: 'i',
            imagePullPolicy: 'Always',
            resources: {},
            terminationMessagePath: '/dev/termination-log',
            terminationMessagePolicy: 'File',
          },
        ],
        restartPolicy: 'Always',
        terminationGracePeriodSeconds: 30,
        dnsPolicy: 'ClusterFirst',
        securityContext: {},
        schedulerName: 'default-scheduler',
      },
    ),
    replicas: 1,
    revisionHistoryLimit: 10,
    progressDeadlineSeconds: 600,
    strategy: { type: 'RollingUpdate', rollingUpdate: { maxUnavailable: '25%', maxSurge: '25%' } },
  });
  assert.deepEqual(applyDefaults(filled, deployment), filled, 'defaults are stable');
});

test('Service and Secret defaults', () => {
  const filled = applyDefaults({ spec: { ports: [{ port: 80 }] } }, service);
  assert.deepEqual(filled.spec, {
    ports: [{ port: 80, protocol: 'TCP', targetPort: 80 }],
    type: 'ClusterIP',
    sessionAffinity: 'None',
    ipFamilies: ['IPv4'],
    ipFamilyPolicy: 'SingleStack',
    internalTrafficPolicy: 'Cluster',
  });
  const secret = applyDefaults({ stringData: { a: 'x' } }, kind('', 'Secret'));
  assert.deepEqual(secret, { type: 'Opaque', data: { a: 'eA==' } });
});

test('bad workloads are refused with the texts users know', () => {
  assert.deepEqual(texts(goodWeb, deployment), []);
  assert.deepEqual(
    texts(web({ selector: { matchLabels: { app: 'web' } }, template: template({ app: 'other' }) }), deployment),
    ['spec.template.metadata.labels: Invalid value: {"app":"other"}: `selector` does not match template `labels`'],
  );
  assert.deepEqual(texts(web({}), deployment), ['spec.selector: Required value', 'spec.template: Required value']);
  const changed = web({ selector: { matchLabels: { app: 'b' } }, template: template({ app: 'b' }) });
  assert.deepEqual(texts(changed, deployment, goodWeb), [
    'spec.selector: Invalid value: {"matchLabels":{"app":"b"}}: field is immutable',
  ]);
  assert.throws(
    () => decodeObject(web({ replicas: 'three' }), deployment, 'Ignore'),
    (error: unknown) =>
      error instanceof SchemaError && error.httpStatus === 400 && /spec\.replicas of type int32/.test(error.message),
  );
  assert.throws(
    () => decodeObject(web({ template: { spec: { containers: [{ name: 'c', imagee: 'x' }] } } }), deployment, 'Strict'),
    /strict decoding error: unknown field "spec\.template\.spec\.containers\[0\]\.imagee"$/,
  );
});

test('bad pods are refused', () => {
  const object = (spec: JsonObject, name = 'p'): JsonObject => ({
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name },
    spec,
  });
  const c = (more: JsonObject = {}): JsonObject => ({ name: 'c', image: 'i', ...more });
  assert.deepEqual(texts(object({ containers: [c(), c()] }), pod), ['spec.containers[1].name: Duplicate value: "c"']);
  assert.deepEqual(texts(object({ containers: [c({ ports: [{ containerPort: 70000 }] })] }), pod), [
    'spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive',
  ]);
  assert.deepEqual(texts(object({ containers: [c({ volumeMounts: [{ name: 'v', mountPath: '/v' }] })] }), pod), [
    'spec.containers[0].volumeMounts[0].name: Not found: "v"',
  ]);
  assert.deepEqual(texts(object({ containers: [{ name: 'c' }] }), pod), ['spec.containers[0].image: Required value']);
  assert.deepEqual(texts(object({ containers: [c({ imagePullPolicy: 'Sometimes' })] }), pod), [
    'spec.containers[0].imagePullPolicy: Unsupported value: "Sometimes": supported values: "Always", "IfNotPresent", "Never"',
  ]);
  assert.match(
    texts(object({ containers: [c()] }, 'Bad_Name'), pod).join(),
    /^metadata\.name: Invalid value: "Bad_Name": a lowercase RFC 1123 subdomain/,
  );
  const old = object({ containers: [c()] });
  assert.deepEqual(texts(object({ containers: [c({ image: 'j' })] }), pod, old), [], 'the image may change');
  assert.match(
    texts(object({ containers: [c({ command: ['x'] })], nodeName: 'n' }), pod, old).join(),
    /^spec: Forbidden: pod updates may not change fields other than `spec\.containers\[\*\]\.image`/,
  );
});

test('labels, annotations and finalizers are checked', () => {
  const object = (metadata: JsonObject): JsonObject => ({
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { name: 'c', ...metadata },
  });
  const configMap = kind('', 'ConfigMap');
  assert.match(
    texts(object({ labels: { 'a b': 'x' } }), configMap).join(),
    /metadata\.labels: Invalid value: "a b": name part must consist/,
  );
  assert.match(
    texts(object({ labels: { a: '-x' } }), configMap).join(),
    /metadata\.labels: Invalid value: "-x": a valid label must be/,
  );
  assert.match(
    texts(object({ annotations: { a: 'x'.repeat(300_000) } }), configMap).join(),
    /metadata\.annotations: Too long/,
  );
  assert.match(
    texts(object({ name: '' }), configMap).join(),
    /metadata\.name: Required value: name or generateName is required/,
  );
});

test('CRDs: structural schema is demanded, CEL rules are named in a warning', () => {
  const crd = (schema: JsonObject, more: JsonObject = {}): JsonObject => ({
    metadata: { name: 'things.example.com' },
    spec: {
      group: 'example.com',
      scope: 'Namespaced',
      names: { plural: 'things', kind: 'Thing', singular: 'thing', listKind: 'ThingList' },
      versions: [{ name: 'v1', served: true, storage: true, schema: { openAPIV3Schema: schema } }],
      ...more,
    },
  });
  const errors = (object: JsonObject) => validateCustomResourceDefinition(object).errors.map(errorText);
  assert.deepEqual(errors(crd({ type: 'object', properties: { spec: { type: 'object' } } })), []);
  assert.match(
    errors(crd({ type: 'object', properties: { spec: {} } })).join(),
    /properties\[spec\]\.type: Required value/,
  );
  assert.match(errors(crd({ type: 'string' })).join(), /must be object at the root/);
  assert.match(
    errors(crd({ type: 'object' }, { group: 'other.com' })).join(),
    /metadata\.name: Invalid value: "things\.example\.com": must be spec\.names\.plural/,
  );
  assert.match(
    errors(crd({ type: 'object', properties: { a: { type: 'string', pattern: '(' } } })).join(),
    /valid regular expression/,
  );
  assert.match(
    errors(crd({ type: 'object', properties: { a: { type: 'integer', default: 'x' } } })).join(),
    /must be of type integer/,
  );
  const ruled = crd({
    type: 'object',
    properties: { spec: { type: 'object', 'x-kubernetes-validations': [{ rule: 'self.a > 0' }] } },
  });
  assert.match(
    validateCustomResourceDefinition(ruled).warnings.join(),
    /properties\[spec\]\.x-kubernetes-validations\[0\]: CEL rules are not evaluated by this cluster/,
  );
});

test('hostile objects: too deep, prototype names', () => {
  let deep: JsonObject = {};
  for (let i = 0; i < 400; i++) deep = { properties: { a: deep } };
  const crd: JsonObject = { spec: { versions: [{ name: 'v1', schema: { openAPIV3Schema: deep } }] } };
  assert.throws(() => decodeObject(crd, crdKind, 'Ignore'), /nested deeper than 128 levels/);
  const nasty = JSON.parse(
    '{"metadata":{"name":"x","labels":{"__proto__":"y"}},"data":{"constructor":"z"}}',
  ) as JsonObject;
  const { object } = decodeObject(nasty, kind('', 'ConfigMap'), 'Strict');
  assert.equal(Object.getPrototypeOf((object.metadata as JsonObject).labels), Object.prototype);
  assert.deepEqual(object.data, { constructor: 'z' });
});

test('OpenAPI documents follow the CRDs and are otherwise kept', () => {
  const own = createSchemaRegistry(() => loadGeneratedSchemas());
  const verbs = ['get', 'list', 'create', 'update', 'patch', 'delete'];
  const served = [
    { group: '', version: 'v1', resource: 'pods', kind: 'Pod', namespaced: true, verbs },
    {
      group: 'security.istio.io',
      version: 'v1',
      resource: 'peerauthentications',
      kind: 'PeerAuthentication',
      namespaced: true,
      verbs,
    },
  ];
  const openApi = createOpenApi(own, () => served);
  const core = openApi.v3('api/v1')!;
  const before = openApi.v3Index();
  own.setCrd(crds.find((crd) => (crd.metadata as JsonObject).name === 'peerauthentications.security.istio.io')!);
  assert.equal(openApi.v3('api/v1'), core);
  assert.notEqual(openApi.v3Index().etag, before.etag);
  assert.equal(openApi.v3('apis/nope/v1'), undefined);
  const document = JSON.parse(core.body.toString()) as {
    components: { schemas: Record<string, JsonObject> };
    paths: Record<string, { patch?: { parameters: { name: string }[] } }>;
  };
  const patch = document.paths['/api/v1/namespaces/{namespace}/pods/{name}']!.patch!;
  assert.deepEqual(patch.parameters.map((p) => p.name).sort(), ['dryRun', 'fieldManager', 'fieldValidation', 'force']);
  for (const [, name] of core.body.toString().matchAll(/"#\/components\/schemas\/([^"]+)"/g)) {
    assert.ok(document.components.schemas[name!], `${name} is defined`);
  }
  const old = openApi.v2('application/com.github.proto-openapi.spec.v2@v1.0+protobuf')!;
  assert.equal(old.contentType, 'application/com.github.proto-openapi.spec.v2.v1.0+protobuf');
  assert.equal(old.body.subarray(0, 5).toString('latin1'), '\n\x032.0');
  assert.equal(openApi.v2('text/plain'), undefined);
});
