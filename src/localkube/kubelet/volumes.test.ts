import assert from 'node:assert/strict';
import {
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';
import type { Pod } from '../../api/kubernetes/pod.ts';
import type { Volume } from '../../api/kubernetes/volume.ts';
import type { KubeClient } from '../../base/kube/types.ts';
import { type Payload, writePayload } from './atomic-writer.ts';
import { type PayloadInput, referencedObjects, volumePayload } from './payload.ts';
import { createPodTokens } from './tokens.ts';
import { containerMounts, MountError, setUpVolumes } from './volumes.ts';

const made: string[] = [];
after(() => {
  for (const dir of made) rmSync(dir, { recursive: true, force: true });
});
function scratch(): string {
  const dir = mkdtempSync(path.join(tmpdir(), 'kubelet-volumes-'));
  made.push(dir);
  return dir;
}
const files = (entries: Record<string, string>, mode = 0o644): Payload =>
  new Map(Object.entries(entries).map(([name, text]) => [name, { data: Buffer.from(text), mode }]));

test('files appear through ..data, and one swap replaces them', () => {
  const dir = scratch();
  assert.equal(writePayload(dir, files({ a: '1', 'd/b': '2' }), undefined), true);
  assert.equal(readlinkSync(path.join(dir, 'a')), '..data/a');
  const first = readlinkSync(path.join(dir, '..data'));
  assert.equal(writePayload(dir, files({ a: '1', 'd/b': '2' }), undefined), false, 'nothing changed');
  assert.equal(writePayload(dir, files({ a: '3', c: '4' }), undefined), true);
  assert.notEqual(readlinkSync(path.join(dir, '..data')), first);
  assert.deepEqual(
    readdirSync(dir)
      .filter((n) => !n.startsWith('..'))
      .sort(),
    ['a', 'c'],
  );
  assert.equal(readFileSync(path.join(dir, 'a'), 'utf8'), '3');
  assert.equal(readdirSync(dir).filter((n) => n.startsWith('..')).length, 2, 'the old directory is gone');
  assert.equal(writePayload(dir, files({ a: '3', c: '4' }, 0o400), undefined), true, 'a mode alone is a change');
});

test('a path that leaves the volume is refused', () => {
  for (const name of ['../x', '/x', 'a/../../x', '..data/x', ''])
    assert.throws(() => writePayload(scratch(), files({ [name]: 'x' }), undefined), /invalid path/, name);
});

const pod: Pod = {
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name: 'p', namespace: 'n', uid: 'u', labels: { app: 'x' } },
  spec: { containers: [{ name: 'c' }] },
};
const input: PayloadInput = {
  pod,
  facts: { podIp: '1.1.1.1', hostIp: '2.2.2.2', capacity: { cpu: 1, memory: 1 } },
  lookup: {
    configMap: (_, name) =>
      name === 'cm'
        ? { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name }, data: { k: 'v' }, binaryData: { b: '/w==' } }
        : undefined,
    secret: (_, name) =>
      name === 's' ? { apiVersion: 'v1', kind: 'Secret', metadata: { name }, data: { p: 'aGk=' } } : undefined,
  },
  token: (projection) => `token for ${projection.audience}`,
};
const text = (volume: Omit<Volume, 'name'>): Record<string, string> =>
  Object.fromEntries(
    [...volumePayload({ name: 'v', ...volume }, input)!].map(([k, f]) => [k, f.data.toString('latin1')]),
  );

test('content of each kind of volume', () => {
  assert.deepEqual(text({ configMap: { name: 'cm' } }), { k: 'v', b: '\xff' });
  assert.deepEqual(text({ secret: { secretName: 's', items: [{ key: 'p', path: 'x/y' }] } }), { 'x/y': 'hi' });
  assert.deepEqual(text({ configMap: { name: 'no', optional: true } }), {});
  assert.deepEqual(text({ downwardAPI: { items: [{ path: 'labels', fieldRef: { fieldPath: 'metadata.labels' } }] } }), {
    labels: 'app="x"',
  });
  assert.deepEqual(
    text({
      projected: {
        sources: [
          { serviceAccountToken: { path: 'token', audience: 'istio-ca' } },
          { configMap: { name: 'cm', items: [{ key: 'k', path: 'ca' }] } },
        ],
      },
    }),
    { token: 'token for istio-ca', ca: 'v' },
  );
  assert.throws(() => text({ configMap: { name: 'no' } }), /configmap "no" not found/);
  assert.throws(
    () => text({ secret: { secretName: 's', items: [{ key: 'q', path: 'q' }] } }),
    /references non-existent secret key: q/,
  );
});

test('what is missing or unsupported names the volume', () => {
  const dir = scratch();
  const set = (volume: Volume) => () =>
    setUpVolumes({ ...pod, spec: { ...pod.spec, volumes: [volume] } }, { run: dir, disk: dir }, input);
  assert.throws(set({ name: 'v', configMap: { name: 'no' } }), {
    message: 'MountVolume.SetUp failed for volume "v" : configmap "no" not found',
  });
  assert.throws(
    set({ name: 'v', persistentVolumeClaim: { claimName: 'x' } }),
    /persistentVolumeClaim is not supported by localkube/,
  );
  assert.throws(set({ name: 'v', hostPath: { path: dir, type: 'File' } }), MountError);
});

test('subPath stays inside the volume', () => {
  const dir = scratch();
  const withVolume: Pod = { ...pod, spec: { ...pod.spec, volumes: [{ name: 'v', emptyDir: {} }] } };
  setUpVolumes(withVolume, { run: dir, disk: dir }, input);
  assert.equal(statSync(path.join(dir, 'v')).mode & 0o777, 0o777);
  const mounts = (subPath: string) =>
    containerMounts(
      withVolume,
      { name: 'c', volumeMounts: [{ name: 'v', mountPath: '/m', subPath }] },
      { run: dir, disk: dir },
      new Map(),
    );
  assert.equal(mounts('a/b')[0]?.source, path.join(dir, 'v/a/b'));
  symlinkSync('/etc', path.join(dir, 'v/link'));
  assert.throws(() => mounts('link'), /leaves the volume/);
  assert.throws(() => mounts('../x'), /must be a path inside/);
  writeFileSync(path.join(dir, 'v/file'), '');
  assert.equal(mounts('file')[0]?.source, path.join(dir, 'v/file'));
});

test('tokens are bound to the pod and renewed at 80 % of their life', async () => {
  let now = 0;
  const asked: { path: string; body: unknown }[] = [];
  const post = async <T>(at: string, body: unknown): Promise<T> => {
    asked.push({ path: at, body });
    const answer: unknown = {
      status: { token: `t${asked.length}`, expirationTimestamp: new Date(now + 100_000).toISOString() },
    };
    return answer as T;
  };
  const tokens = createPodTokens({ post } as Partial<KubeClient> as KubeClient, {
    now: () => now,
    after: () => () => {},
  });
  const projection = { path: 'token', audience: 'istio-ca', expirationSeconds: 100 };
  const own: Pod = {
    ...pod,
    spec: {
      ...pod.spec,
      serviceAccountName: 'sa',
      volumes: [{ name: 't', projected: { sources: [{ serviceAccountToken: projection }] } }],
    },
  };
  await tokens.refresh(own);
  assert.equal(asked[0]?.path, '/api/v1/namespaces/n/serviceaccounts/sa/token');
  assert.match(
    JSON.stringify(asked[0]?.body),
    /"audiences":\["istio-ca"\],"expirationSeconds":100,"boundObjectRef":\{"apiVersion":"v1","kind":"Pod","name":"p","uid":"u"\}/,
  );
  assert.equal(tokens.nextRenewal(), 80_000);
  now = 79_999;
  await tokens.refresh(own);
  assert.equal(tokens.get(projection), 't1');
  now = 80_000;
  await tokens.refresh(own);
  assert.equal(tokens.get(projection), 't2');
});

test('a pod names what it reads', () => {
  const reader: Pod = {
    ...pod,
    spec: {
      containers: [
        {
          name: 'c',
          envFrom: [{ secretRef: { name: 's1' } }],
          env: [{ name: 'A', valueFrom: { configMapKeyRef: { name: 'c1', key: 'k' } } }],
        },
      ],
      volumes: [
        { name: 'v', projected: { sources: [{ configMap: { name: 'c2' } }] } },
        { name: 'w', secret: { secretName: 's2' } },
      ],
    },
  };
  assert.deepEqual([...referencedObjects(reader)].sort(), ['configmap/c1', 'configmap/c2', 'secret/s1', 'secret/s2']);
});
