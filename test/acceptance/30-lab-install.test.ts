// Labs D1–D9: what an installation looks like from outside.
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { before, test } from 'node:test';
import { ensureUp, eventually, home, k, kOk, meltemiOk } from './cluster.ts';

before(() => ensureUp());

test('D1 version without a cluster', () => {
  assert.match(meltemiOk('version', '--remote=false'), /^client version: \d+\.\d+\.\d+\n/);
});

test('version with the cluster names control plane and data plane', () => {
  const text = meltemiOk('version');
  assert.match(text, /^control plane version: \d+\.\d+\.\d+$/m);
  assert.match(text, /^data plane version: \d+\.\d+\.\d+ \(\d+ proxies\)$/m);
});

test('D2 profile list', () => {
  const names = [
    'ambient',
    'default',
    'demo',
    'empty',
    'minimal',
    'openshift',
    'openshift-ambient',
    'preview',
    'remote',
    'stable',
  ];
  assert.equal(
    meltemiOk('profile', 'list'),
    `Istio configuration profiles:\n${names.map((n) => `    ${n}\n`).join('')}`,
  );
});

test('D3 profile dump, edited, installs without the egress gateway', () => {
  const file = path.join(home, 'demo.yaml');
  const dumped = meltemiOk('profile', 'dump', 'demo');
  writeFileSync(file, dumped.replace(/(egressGateways:\n(?:.*\n)*?\s+enabled: )true/, '$1false'));
  assert.notEqual(readFileSync(file, 'utf8'), dumped);
  const said = meltemiOk('install', '-f', file, '-y');
  assert.match(said, /✔ Istio core installed ⛵️/);
  assert.match(said, /✔ Istiod installed 🧠/);
  assert.match(said, /✔ Ingress gateways installed 🛬/);
  assert.match(said, /✔ Installation complete/);
  assert.doesNotMatch(said, /Egress/);
});

test('D4 the pods of istio-system', () => {
  const text = kOk('get', 'po', '-n', 'istio-system');
  assert.match(text, /istiod-\S+ +1\/1 +Running/);
  assert.match(text, /istio-ingressgateway-\S+ +1\/1 +Running/);
});

test('D5 the services of istio-system', () => {
  const text = kOk('get', 'svc', '-n', 'istio-system');
  assert.match(text, /istiod +ClusterIP +\S+ +<none> +15010\/TCP,15012\/TCP,443\/TCP,15014\/TCP/);
  assert.match(
    text,
    /istio-ingressgateway +LoadBalancer +\S+ +\S+ +15021:\d+\/TCP,80:\d+\/TCP,443:\d+\/TCP,31400:\d+\/TCP,15443:\d+\/TCP/,
  );
});

test('D6 the ports of istiod', () => {
  const text = kOk('exec', 'deploy/istiod', '-n', 'istio-system', '--', 'ss', '-tnlp');
  for (const port of [8080, 15010, 15012, 15014, 15017])
    assert.match(text, new RegExp(`(\\*|0\\.0\\.0\\.0|\\[::\\]):${port}\\b.*pilot-discovery`), `port ${port}\n${text}`);
  assert.match(text, /127\.0\.0\.1:9876\b.*pilot-discovery/);
});

test('D7 the ports of the gateway, and its connection to istiod', () => {
  const exec = (...args: string[]) => kOk('exec', 'deploy/istio-ingressgateway', '-n', 'istio-system', '--', ...args);
  const text = exec('ss', '-tnlp');
  for (const port of [15000, 15004]) assert.match(text, new RegExp(`127\\.0\\.0\\.1:${port}\\b`), text);
  assert.match(text, /:15020\b.*pilot-agent/);
  assert.match(text, /:15021\b.*envoy/);
  assert.match(text, /:15090\b.*envoy/);
  assert.match(exec('ss', '-tnp'), /ESTAB.*:15012\b/);
});

test('D8 the CRDs', () => {
  const text = kOk('get', 'crd', '-o', 'name');
  for (const name of [
    'virtualservices.networking',
    'destinationrules.networking',
    'gateways.networking',
    'serviceentries.networking',
    'sidecars.networking',
    'workloadentries.networking',
    'workloadgroups.networking',
    'envoyfilters.networking',
    'proxyconfigs.networking',
    'peerauthentications.security',
    'authorizationpolicies.security',
    'requestauthentications.security',
    'telemetries.telemetry',
    'wasmplugins.extensions',
  ])
    assert.match(text, new RegExp(`/${name}\\.istio\\.io$`, 'm'));
});

test('D9 label a namespace; the column shows it', async () => {
  k('create', 'namespace', 'd9');
  assert.equal(kOk('label', 'namespace', 'd9', 'istio-injection=enabled').trim(), 'namespace/d9 labeled');
  const text = kOk('get', 'ns', '-L', 'istio-injection');
  assert.match(text, /NAME +STATUS +AGE +ISTIO-INJECTION/);
  assert.match(text, /^d9 +Active +\S+ +enabled *$/m);
  assert.match(text, /^istio-system +Active +\S+ *$/m);
  kOk('delete', 'namespace', 'd9');
  await eventually(() => assert.notEqual(k('get', 'namespace', 'd9').status, 0));
});
