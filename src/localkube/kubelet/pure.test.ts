// Tests of the kubelet's pure parts: quantities, fields, environment, names, identity.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Container } from '../../api/kubernetes/container.ts';
import type { Pod } from '../../api/kubernetes/pod.ts';
import { cacheFolder } from './container-start.ts';
import { containerArgv, containerEnv, expandVariables, type ObjectLookup } from './env.ts';
import { resourceValue } from './fields.ts';
import { accountFiles, capabilities, capabilitiesInMask, runAs } from './identity.ts';
import { podHostname, podHosts, podResolvConf } from './names.ts';
import { parseQuantity } from './quantity.ts';

const container: Container = { name: 'c', image: 'busybox', resources: { limits: { cpu: '2000m', memory: '1Gi' } } };
const pod: Pod = {
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name: 'web-0', namespace: 'foo', uid: 'u1', labels: { b: '2', a: 'x"y' }, annotations: { 'k/x': 'v' } },
  spec: { containers: [container], serviceAccountName: 'sa', nodeName: 'meltemi' },
};
const facts = { podIp: '10.1.0.5', hostIp: '10.1.0.1', capacity: { cpu: 2, memory: 4e9 } };
const none: ObjectLookup = { configMap: () => undefined, secret: () => undefined };
const all = capabilitiesInMask('1ffffffffff');

test('quantities', () => {
  const cases: readonly (readonly [string, number | undefined])[] = [
    ['100m', 0.1],
    ['128Mi', 134217728],
    ['1e3', 1000],
    ['1.5', 1.5],
    ['2G', 2e9],
    ['x', undefined],
    ['1mi', undefined],
    ['', undefined],
  ];
  for (const [text, value] of cases) assert.equal(parseQuantity(text), value, text);
});

test('variables expand once, dollars escape, unknown names stay', () => {
  const values = new Map([
    ['A', '$(B)'],
    ['B', 'b'],
  ]);
  assert.equal(expandVariables('$(A) $$(A) $(NO) $', values), '$(B) $(A) $(NO) $');
});

test('environment: order of ranks, references, and what is missing', () => {
  const lookup: ObjectLookup = {
    configMap: (_, name) =>
      name === 'cm'
        ? { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name }, data: { K: 'v', 'bad name': 'x' } }
        : undefined,
    secret: (_, name) =>
      name === 's' ? { apiVersion: 'v1', kind: 'Secret', metadata: { name }, data: { P: 'aGk=' } } : undefined,
  };
  const env = containerEnv({
    pod,
    facts,
    lookup,
    base: { PATH: '/bin', K: 'image' },
    container: {
      ...container,
      envFrom: [
        { prefix: 'X_', configMapRef: { name: 'cm' } },
        { configMapRef: { name: 'cm' } },
        { secretRef: { name: 'no', optional: true } },
      ],
      env: [
        { name: 'POD', valueFrom: { fieldRef: { fieldPath: 'metadata.name' } } },
        { name: 'URL', value: 'http://$(POD)' },
        { name: 'CPU', valueFrom: { resourceFieldRef: { resource: 'limits.cpu' } } },
        { name: 'P', valueFrom: { secretKeyRef: { name: 's', key: 'P' } } },
        { name: 'NONE', valueFrom: { configMapKeyRef: { name: 'cm', key: 'no', optional: true } } },
      ],
    },
  });
  assert.deepEqual(Object.fromEntries(env), {
    PATH: '/bin',
    K: 'v',
    X_K: 'v',
    POD: 'web-0',
    URL: 'http://web-0',
    CPU: '2',
    P: 'hi',
  });
  const need = (valueFrom: object) => () =>
    containerEnv({ pod, facts, lookup, base: {}, container: { ...container, env: [{ name: 'A', valueFrom }] } });
  assert.throws(need({ configMapKeyRef: { name: 'no', key: 'k' } }), /configmap "no" not found/);
  assert.throws(need({ secretKeyRef: { name: 's', key: 'k' } }), /couldn't find key k in Secret foo\/s/);
  assert.throws(
    () =>
      containerEnv({
        pod,
        facts,
        lookup: none,
        base: {},
        container: { ...container, envFrom: [{ secretRef: { name: 'x' } }] },
      }),
    /secret "x" not found/,
  );
});

test('command and args over entrypoint and cmd', () => {
  const image = { entrypoint: ['e'], cmd: ['c'] };
  const env = new Map([['A', '1']]);
  assert.deepEqual(containerArgv({}, image, env), ['e', 'c']);
  assert.deepEqual(containerArgv({ args: ['$(A)'] }, image, env), ['e', '1']);
  assert.deepEqual(containerArgv({ command: ['x'] }, image, env), ['x']);
  assert.deepEqual(containerArgv({ command: ['x'], args: ['y'] }, image, env), ['x', 'y']);
});

test('resources in the downward API round up by the divisor and fall back to the node', () => {
  assert.equal(resourceValue(pod, container, { resource: 'limits.memory', divisor: '1Mi' }, facts), '1024');
  assert.equal(resourceValue(pod, { name: 'd' }, { resource: 'limits.cpu' }, facts), '2');
  assert.equal(resourceValue(pod, { name: 'd' }, { resource: 'requests.cpu', divisor: '1m' }, facts), '0');
});

test('resolv.conf by policy', () => {
  const dns = {
    clusterDnsIp: '10.96.0.10',
    clusterDomain: 'cluster.local',
    hostResolvConf: 'nameserver 1.1.1.1\nsearch corp\n',
  };
  assert.equal(
    podResolvConf(pod, dns),
    'search foo.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n',
  );
  const of = (spec: Partial<Pod['spec']>) => podResolvConf({ ...pod, spec: { ...pod.spec, ...spec } }, dns);
  assert.equal(of({ dnsPolicy: 'Default' }), 'search corp\nnameserver 1.1.1.1\n');
  assert.equal(of({ dnsPolicy: 'None', dnsConfig: { nameservers: ['9.9.9.9'] } }), 'nameserver 9.9.9.9\n');
  assert.match(
    of({ dnsConfig: { options: [{ name: 'ndots', value: '2' }, { name: 'edns0' }] } }),
    /options ndots:2 edns0\n$/,
  );
});

test('host name and hosts file of a stateful pod', () => {
  const sts: Pod = {
    ...pod,
    spec: { ...pod.spec, hostname: 'web-0', subdomain: 'web', hostAliases: [{ ip: '1.2.3.4', hostnames: ['a', 'b'] }] },
  };
  const hosts = podHosts(sts, '10.1.0.5', 'cluster.local');
  assert.match(hosts, /^10\.1\.0\.5\tweb-0\.web\.foo\.svc\.cluster\.local\tweb-0$/m);
  assert.match(hosts, /^1\.2\.3\.4\ta\tb$/m);
  assert.equal(podHostname({ ...pod, metadata: { ...pod.metadata, name: `${'a'.repeat(62)}-b` } }), 'a'.repeat(62));
});

test('capabilities: default, dropped, added, limited by the host', () => {
  const of = (securityContext: Container['securityContext'], host = all) =>
    capabilities({ ...container, securityContext }, host);
  assert.equal(of({}).length, 14);
  assert.deepEqual(of({ capabilities: { drop: ['ALL'], add: ['NET_ADMIN', 'CAP_NET_RAW'] } }), [
    'CAP_NET_ADMIN',
    'CAP_NET_RAW',
  ]);
  assert.equal(of({ privileged: true }).length, 41);
  assert.ok(!of({ privileged: true }, capabilitiesInMask('1fffeffffff')).includes('CAP_SYS_RESOURCE'));
  assert.throws(() => of({ capabilities: { add: ['NOPE'] } }), /unknown capability "NOPE"/);
});

test('users: container over pod over image; root refused under runAsNonRoot', () => {
  const user = { name: 'curl_user', uid: 100, gid: 101, home: '/home/curl_user', shell: '/bin/sh' };
  assert.deepEqual(runAs(pod, container, user), { uid: 100, gid: 101, additionalGids: [] });
  const strict: Pod = {
    ...pod,
    spec: { ...pod.spec, securityContext: { runAsNonRoot: true, fsGroup: 7, runAsUser: 5 } },
  };
  assert.deepEqual(runAs(strict, container, user), { uid: 5, gid: 0, additionalGids: [7] });
  assert.throws(
    () => runAs(strict, { ...container, securityContext: { runAsUser: 0 } }, user),
    /breaks non-root policy/,
  );
});

test('account files drop people and passwords, and give the image its user', () => {
  const user = { name: 'curl_user', uid: 100, gid: 101, home: '/home/curl_user', shell: '/bin/sh' };
  const files = accountFiles(
    'root:x:0:0:root:/root:/bin/bash\nmsg:x:100:102::/:/bin/no\nann:x:1000:1000::/home/ann:/bin/sh\n',
    'root:x:0:\nann:x:1000:\n',
    user,
  );
  assert.equal(files.passwd, 'root:x:0:0:root:/root:/bin/bash\ncurl_user:x:100:101::/home/curl_user:/bin/sh\n');
  assert.equal(files.group, 'root:x:0:\ncurl_user:x:101:\n');
  assert.match(files.shadow, /^root:\*:/);
});

test('only the same service account shares compiled code', () => {
  const folders = [
    cacheFolder('istio-system', 'istiod', 'meltemi/pilot'),
    cacheFolder('out', 'istiod', 'meltemi/pilot'),
    cacheFolder('istio-system', 'default', 'meltemi/pilot'),
    cacheFolder('istio-system', 'istiod', 'meltemi/proxyv2'),
  ];
  assert.equal(new Set(folders).size, folders.length);
  for (const folder of folders) assert.match(folder, /^[^/]+$/);
});
