// Server-side apply: ownership, conflicts, removal, co-ownership, and the bookkeeping of updates.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { createSchemaRegistry, type JsonObject, loadGeneratedSchemas } from '../schema/index.ts';
import { PatchError, serverSideApply, trackUpdate } from './index.ts';

const registry = createSchemaRegistry(() => loadGeneratedSchemas());
const deployment = registry.kind({ group: 'apps', version: 'v1', kind: 'Deployment' })!;
const configMap = registry.kind({ group: '', version: 'v1', kind: 'ConfigMap' })!;

const NOW = '2026-01-02T03:04:05Z';
const LATER = '2026-01-02T04:00:00Z';

function web(spec: JsonObject): JsonObject {
  return { apiVersion: 'apps/v1', kind: 'Deployment', metadata: { name: 'web', namespace: 'x' }, spec };
}

function apply(
  live: JsonObject | undefined,
  applied: JsonObject,
  manager: string,
  force = false,
  now = NOW,
): JsonObject {
  return serverSideApply({ live, applied, kind: deployment, manager, force, now });
}

function entries(object: JsonObject): JsonObject[] {
  return ((object.metadata as JsonObject).managedFields ?? []) as unknown as JsonObject[];
}

function entry(object: JsonObject, manager: string): JsonObject | undefined {
  return entries(object).find((e) => e.manager === manager);
}

const pod = (containers: readonly JsonObject[]): JsonObject => ({ template: { spec: { containers } } });

test('an apply owns what it sends, in fieldsV1', () => {
  const made = apply(
    undefined,
    web({ replicas: 2, ...pod([{ name: 'app', image: 'a', ports: [{ containerPort: 80 }] }]) }),
    'alice',
  );
  assert.deepEqual(entries(made), [
    {
      manager: 'alice',
      operation: 'Apply',
      apiVersion: 'apps/v1',
      time: NOW,
      fieldsType: 'FieldsV1',
      fieldsV1: {
        'f:spec': {
          'f:replicas': {},
          'f:template': {
            'f:spec': {
              'f:containers': {
                'k:{"name":"app"}': {
                  '.': {},
                  'f:image': {},
                  'f:name': {},
                  'f:ports': {
                    'k:{"containerPort":80,"protocol":"TCP"}': { '.': {}, 'f:containerPort': {} },
                  },
                },
              },
            },
          },
        },
      },
    },
  ]);
});

test('another value for an owned field is a conflict; force takes it over; an equal value is shared', () => {
  const made = apply(undefined, web({ replicas: 1, paused: true }), 'alice');
  assert.throws(
    () => apply(made, web({ replicas: 2 }), 'bob'),
    (error: unknown) => {
      assert.ok(error instanceof PatchError);
      assert.equal(error.httpStatus, 409);
      assert.equal(error.message, 'Apply failed with 1 conflict: conflict with "alice": .spec.replicas');
      assert.deepEqual(error.causes, [
        { reason: 'FieldManagerConflict', message: 'conflict with "alice"', field: '.spec.replicas' },
      ]);
      return true;
    },
  );
  assert.throws(
    () => apply(made, web({ replicas: 2, paused: false }), 'bob'),
    /^PatchError: Apply failed with 2 conflicts: conflicts with "alice":\n- \.spec\.paused\n- \.spec\.replicas$/,
  );
  const forced = apply(made, web({ replicas: 2 }), 'bob', true);
  assert.equal((forced.spec as JsonObject).replicas, 2);
  assert.deepEqual(entry(forced, 'alice')!.fieldsV1, { 'f:spec': { 'f:paused': {} } });
  const shared = apply(made, web({ replicas: 1 }), 'bob');
  const left = apply(shared, web({}), 'bob');
  assert.equal((left.spec as JsonObject).replicas, 1, 'alice still owns it');
  assert.deepEqual(entry(left, 'bob')!.fieldsV1, { 'f:spec': {} });
});

test('a field no longer applied goes, unless another manager owns it', () => {
  const two = pod([
    {
      name: 'app',
      image: 'a',
      env: [
        { name: 'A', value: '1' },
        { name: 'B', value: '2' },
      ],
    },
    { name: 'side', image: 's' },
  ]);
  const made = apply(undefined, web({ replicas: 1, ...two }), 'alice');
  const tuned = apply(made, web(pod([{ name: 'side', imagePullPolicy: 'Always' }])), 'bob');
  const shrunk = apply(tuned, web(pod([{ name: 'app', image: 'a', env: [{ name: 'B', value: '2' }] }])), 'alice');
  assert.deepEqual(shrunk.spec, {
    template: {
      spec: {
        containers: [
          { name: 'app', image: 'a', env: [{ name: 'B', value: '2' }] },
          { name: 'side', imagePullPolicy: 'Always' },
        ],
      },
    },
  });
});

test('an update takes fields from their owner, and the next apply names it in the conflict', () => {
  const made = apply(undefined, web({ replicas: 1, paused: true }), 'alice');
  const scaled = trackUpdate({
    before: made,
    after: { ...made, spec: { replicas: 5, paused: true } },
    kind: deployment,
    manager: 'kubectl-scale',
    now: LATER,
  });
  assert.deepEqual(entry(scaled, 'alice')!.fieldsV1, { 'f:spec': { 'f:paused': {} } });
  assert.deepEqual(entry(scaled, 'kubectl-scale')!.fieldsV1, { 'f:spec': { 'f:replicas': {} } });
  assert.throws(
    () => apply(scaled, web({ replicas: 1, paused: true }), 'alice'),
    /conflict with "kubectl-scale" using apps\/v1: \.spec\.replicas/,
  );
});

test('status written through its subresource is a separate entry', () => {
  const made = trackUpdate({ after: web({ replicas: 1 }), kind: deployment, manager: 'kubectl', now: NOW });
  const after = { ...made, status: { replicas: 1, conditions: [{ type: 'Available', status: 'True' }] } };
  const seen = trackUpdate({
    before: made,
    after,
    kind: deployment,
    manager: 'kubectl',
    now: LATER,
    subresource: 'status',
  });
  const status = entries(seen).find((e) => e.subresource === 'status')!;
  assert.equal(status.operation, 'Update');
  assert.deepEqual(status.fieldsV1, {
    'f:status': {
      'f:conditions': { 'k:{"type":"Available"}': { '.': {}, 'f:status': {}, 'f:type': {} } },
      'f:replicas': {},
    },
  });
  assert.deepEqual(entry(seen, 'kubectl')!.fieldsV1, { 'f:spec': { 'f:replicas': {} } });
});

test('an object without books belongs to before-first-apply', () => {
  const live = web({ replicas: 3 });
  assert.throws(
    () => apply(live, web({ replicas: 1 }), 'alice'),
    /conflict with "before-first-apply" using apps\/v1: \.spec\.replicas/,
  );
});

test('managedFields in an apply are refused, an empty list in an update clears the books', () => {
  const made = apply(undefined, web({ replicas: 1 }), 'alice');
  assert.throws(() => apply(made, made, 'bob'), /metadata\.managedFields must be nil/);
  const after = { ...made, metadata: { name: 'web', managedFields: [{}] } };
  const cleared = trackUpdate({ before: made, after, kind: deployment, manager: 'm', now: LATER });
  assert.deepEqual(entries(cleared), []);
});

test('updates that change nothing keep the books, and many managers are joined', () => {
  let object = trackUpdate({ after: web({ replicas: 0 }), kind: deployment, manager: 'first', now: NOW });
  const same = trackUpdate({ before: object, after: object, kind: deployment, manager: 'first', now: LATER });
  assert.deepEqual(same, object);
  for (let i = 1; i <= 14; i++) {
    const labels = { ...((object.metadata as JsonObject).labels as JsonObject | undefined), [`l${i}`]: 'x' };
    const after = { ...object, metadata: { ...(object.metadata as JsonObject), labels } };
    const now = `2026-01-02T05:00:${String(i).padStart(2, '0')}Z`;
    object = trackUpdate({ before: object, after, kind: deployment, manager: `m${i}`, now });
  }
  assert.equal(entries(object).length, 10);
  const ancient = entry(object, 'ancient-changes')!.fieldsV1 as JsonObject;
  assert.ok('f:replicas' in (ancient['f:spec'] as JsonObject));
});

const data = fc.dictionary(fc.constantFrom('a', 'b', 'c', 'd', 'e'), fc.constantFrom('1', '2'), {
  noNullPrototype: true,
});

function map(values: Readonly<Record<string, string>>): JsonObject {
  return {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { name: 'm' },
    ...(Object.keys(values).length > 0 && { data: values }),
  };
}

test('property: applying again changes nothing; forced applies of two managers leave exactly what one of them wants', () => {
  fc.assert(
    fc.property(data, data, data, (first, second, third) => {
      const run = (
        live: JsonObject | undefined,
        values: Readonly<Record<string, string>>,
        manager: string,
        now = NOW,
      ) => serverSideApply({ live, applied: map(values), kind: configMap, manager, force: true, now });
      let object = run(undefined, first, 'alice');
      assert.deepEqual(run(object, first, 'alice', LATER), object);
      object = run(object, second, 'bob');
      assert.deepEqual(object.data ?? {}, { ...first, ...second });
      object = run(object, third, 'alice');
      assert.deepEqual(object.data ?? {}, { ...second, ...third });
      object = run(object, {}, 'alice');
      // What alice took over from bob and then dropped is gone; the rest of bob's stays.
      const lost = new Set(Object.keys(third).filter((key) => key in second && second[key] !== third[key]));
      assert.deepEqual(object.data ?? {}, Object.fromEntries(Object.entries(second).filter(([key]) => !lost.has(key))));
    }),
  );
});
