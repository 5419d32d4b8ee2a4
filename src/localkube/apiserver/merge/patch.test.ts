// JSON patch, merge patch and strategic merge patch against the behaviour kubectl relies on.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { createSchemaRegistry, type JsonObject, loadGeneratedSchemas } from '../schema/index.ts';
import { applyJsonPatch, applyMergePatch, applyStrategicMergePatch, PatchError } from './index.ts';

const registry = createSchemaRegistry(() => loadGeneratedSchemas());
const deployment = registry.kind({ group: 'apps', version: 'v1', kind: 'Deployment' })!;
const service = registry.kind({ group: '', version: 'v1', kind: 'Service' })!;

function refused(status: number) {
  return (error: unknown) => error instanceof PatchError && error.httpStatus === status;
}

test('JSON patch does every operation in order', () => {
  const result = applyJsonPatch({ a: { b: [1, 2, 3] }, 'x/y': 1 }, [
    { op: 'test', path: '/a/b/0', value: 1 },
    { op: 'add', path: '/a/b/1', value: 9 },
    { op: 'add', path: '/a/b/-', value: 4 },
    { op: 'remove', path: '/a/b/0' },
    { op: 'replace', path: '/x~1y', value: { z: null } },
    { op: 'copy', from: '/a/b', path: '/c' },
    { op: 'move', from: '/a', path: '/d' },
  ]);
  assert.deepEqual(result, { 'x/y': { z: null }, c: [9, 2, 3, 4], d: { b: [9, 2, 3, 4] } });
});

test('JSON patch that cannot be applied is refused and leaves the object alone', () => {
  const object: JsonObject = { a: [1] };
  const bad: readonly [number, unknown][] = [
    [400, { op: 'add' }],
    [400, [{ op: 'add', path: 'a', value: 1 }]],
    [400, [{ op: 'frobnicate', path: '/a' }]],
    [400, [{ op: 'add', path: '/a' }]],
    [422, [{ op: 'remove', path: '/nope' }]],
    [422, [{ op: 'replace', path: '/nope', value: 1 }]],
    [422, [{ op: 'add', path: '/a/7', value: 1 }]],
    [422, [{ op: 'add', path: '/a/01', value: 1 }]],
    [422, [{ op: 'test', path: '/a/0', value: 2 }]],
    [422, [{ op: 'move', from: '/a', path: '/a/0' }]],
    [422, [{ op: 'replace', path: '', value: 3 }]],
    [
      422,
      [
        { op: 'add', path: '/b', value: 1 },
        { op: 'remove', path: '/zz' },
      ],
    ],
  ];
  for (const [status, patch] of bad)
    assert.throws(() => applyJsonPatch(object, patch), refused(status), JSON.stringify(patch));
  assert.deepEqual(object, { a: [1] });
});

test('JSON patch of a prototype name does not reach the prototype', () => {
  assert.throws(() => applyJsonPatch({}, [{ op: 'add', path: '/__proto__/polluted', value: 1 }]), refused(422));
  assert.throws(() => applyJsonPatch({}, [{ op: 'add', path: '/__proto__', value: { polluted: 1 } }]), refused(422));
});

test('JSON patch: what add puts in, test finds and remove takes out', () => {
  fc.assert(
    fc.property(fc.dictionary(fc.string(), fc.jsonValue()), fc.string(), fc.jsonValue(), (object, key, value) => {
      fc.pre(key !== '__proto__' && !Object.hasOwn(object, '__proto__') && !Object.hasOwn(object, key));
      const clean = JSON.parse(JSON.stringify(object)) as JsonObject;
      const path = `/${key.replaceAll('~', '~0').replaceAll('/', '~1')}`;
      const wanted = JSON.parse(JSON.stringify(value)) as unknown;
      const result = applyJsonPatch(clean, [
        { op: 'add', path, value: wanted },
        { op: 'test', path, value: wanted },
        { op: 'remove', path },
      ]);
      assert.deepEqual(result, clean);
    }),
  );
});

test('merge patch: the examples of RFC 7386', () => {
  const cases: readonly [JsonObject, JsonObject, JsonObject][] = [
    [{ a: 'b' }, { a: 'c' }, { a: 'c' }],
    [{ a: 'b' }, { b: 'c' }, { a: 'b', b: 'c' }],
    [{ a: 'b', b: 'c' }, { a: null }, { b: 'c' }],
    [{ a: ['b'] }, { a: 'c' }, { a: 'c' }],
    [{ a: 'c' }, { a: ['b'] }, { a: ['b'] }],
    [{ a: { b: 'c' } }, { a: { b: 'd', c: null } }, { a: { b: 'd' } }],
    [{ e: null }, { a: 1 }, { e: null, a: 1 }],
    [{}, { a: { bb: { ccc: null } } }, { a: { bb: {} } }],
  ];
  for (const [object, patch, wanted] of cases) assert.deepEqual(applyMergePatch(object, patch), wanted);
  assert.throws(() => applyMergePatch({}, ['x']), refused(400));
});

test('merge patch applied twice is the same as once', () => {
  const objects = fc
    .dictionary(fc.string(), fc.jsonValue({ maxDepth: 3 }))
    .map((v) => JSON.parse(JSON.stringify(v)) as JsonObject);
  fc.assert(
    fc.property(objects, objects, (object, patch) => {
      const once = applyMergePatch(object, patch);
      assert.deepEqual(applyMergePatch(once, patch), once);
    }),
  );
});

const web: JsonObject = {
  apiVersion: 'apps/v1',
  kind: 'Deployment',
  metadata: { name: 'web', finalizers: ['a', 'b'] },
  spec: {
    strategy: { type: 'RollingUpdate', rollingUpdate: { maxSurge: 1 } },
    template: {
      spec: {
        containers: [
          {
            name: 'app',
            image: 'app:1',
            env: [
              { name: 'A', value: '1' },
              { name: 'B', value: '2' },
            ],
            args: ['x'],
          },
          { name: 'side', image: 'side:1' },
        ],
      },
    },
  },
};

function containers(object: JsonObject): JsonObject[] {
  return (((object.spec as JsonObject).template as JsonObject).spec as JsonObject)
    .containers as unknown as JsonObject[];
}

test('strategic merge patch merges lists by key and replaces atomic ones', () => {
  const patched = applyStrategicMergePatch(
    web,
    {
      spec: {
        template: {
          spec: {
            containers: [
              { name: 'app', image: 'app:2', env: [{ name: 'B', value: '3' }], args: ['y', 'z'] },
              { name: 'new', image: 'n' },
            ],
          },
        },
      },
    },
    deployment,
  );
  assert.deepEqual(containers(patched), [
    {
      name: 'app',
      image: 'app:2',
      env: [
        { name: 'A', value: '1' },
        { name: 'B', value: '3' },
      ],
      args: ['y', 'z'],
    },
    { name: 'side', image: 'side:1' },
    { name: 'new', image: 'n' },
  ]);
});

test('strategic merge patch obeys its directives', () => {
  const patched = applyStrategicMergePatch(
    web,
    {
      metadata: { '$deleteFromPrimitiveList/finalizers': ['a'] },
      spec: {
        strategy: { $retainKeys: ['type'], type: 'Recreate' },
        template: {
          spec: {
            '$setElementOrder/containers': [{ name: 'side' }, { name: 'app' }],
            containers: [{ name: 'app', env: [{ name: 'A', $patch: 'delete' }] }],
          },
        },
      },
    },
    deployment,
  );
  assert.deepEqual((patched.metadata as JsonObject).finalizers, ['b']);
  assert.deepEqual((patched.spec as JsonObject).strategy, { type: 'Recreate' });
  assert.deepEqual(
    containers(patched).map((c) => c.name),
    ['side', 'app'],
  );
  assert.deepEqual(containers(patched)[1]!.env, [{ name: 'B', value: '2' }]);
  const replaced = applyStrategicMergePatch(
    web,
    { spec: { template: { spec: { containers: [{ $patch: 'replace' }, { name: 'only', image: 'o' }] } } } },
    deployment,
  );
  assert.deepEqual(containers(replaced), [{ name: 'only', image: 'o' }]);
  assert.throws(() => applyStrategicMergePatch(web, { spec: { $patch: 'explode' } }, deployment), refused(400));
  const keyless = { spec: { template: { spec: { containers: [{ image: 'x' }] } } } };
  assert.throws(() => applyStrategicMergePatch(web, keyless, deployment), refused(400));
});

test('strategic merge patch merges Service ports by port', () => {
  const object = {
    spec: {
      ports: [
        { port: 80, name: 'a' },
        { port: 90, name: 'b' },
      ],
      selector: { x: '1' },
    },
  };
  const patched = applyStrategicMergePatch(
    object,
    { spec: { ports: [{ port: 90, name: 'c' }], selector: { x: null, y: '2' } } },
    service,
  );
  assert.deepEqual(patched.spec, {
    ports: [
      { port: 80, name: 'a' },
      { port: 90, name: 'c' },
    ],
    selector: { y: '2' },
  });
});
