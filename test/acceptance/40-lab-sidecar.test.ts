// Labs E1–E3, E9–E14 and G3: a sidecar looked at from inside and outside.
import assert from 'node:assert/strict';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { applyOk, assertCode, ensureLab, eventually, k, kOk, meltemiOk, root, run } from './cluster.ts';

const NS = 'e-lab';
const example = (file: string): string => path.join(root, 'examples', 'sidecar', file);

before(() => {
  ensureLab();
  k('create', 'namespace', NS);
  kOk('label', 'namespace', NS, 'istio-injection=enabled', '--overwrite');
  kOk('apply', '-n', NS, '-f', example('deploy-websrv.yaml'));
  kOk('rollout', 'status', '-n', NS, 'deployment/deploy-websrv', '--timeout=90s');
});
after(() => {
  kOk('delete', 'namespace', NS, '--timeout=120s');
});

function podName(): string {
  return kOk('get', 'po', '-n', NS, '-l', 'app=deploy-websrv', '-o', 'jsonpath={.items[0].metadata.name}');
}
function inProxy(...command: readonly string[]): string {
  return kOk('exec', '-n', NS, podName(), '-c', 'istio-proxy', '--', ...command);
}

test('E1 the pod is 2/2 and describe shows istio-init and istio-proxy', () => {
  assert.match(kOk('get', 'po', '-n', NS), /deploy-websrv-\S+ +2\/2 +Running/);
  const text = kOk('describe', 'pod', '-n', NS, podName());
  assert.match(text, /istio-init:[\s\S]*?Reason: +Completed[\s\S]*?Exit Code: +0/);
  assert.match(text, /istio-proxy:/);
});

test('E2 two containers; the arguments of istio-init', () => {
  assert.equal(
    kOk('get', 'po', '-n', NS, podName(), '-o', 'jsonpath={.spec.containers[*].name}'),
    'deploy-websrv istio-proxy',
  );
  const args = kOk('get', 'po', '-n', NS, podName(), '-o', 'jsonpath={.spec.initContainers[0].args}');
  assert.deepEqual(JSON.parse(args).slice(0, 7), ['istio-iptables', '-p', '15001', '-z', '15006', '-u', '1337']);
});

test('E3 proxy-status', async () => {
  await eventually(() => {
    const text = meltemiOk('proxy-status');
    assert.match(text, /^NAME +CLUSTER +CDS +LDS +EDS +RDS +ECDS +ISTIOD +VERSION$/m);
    const synced = 'SYNCED( \\(\\w+\\))?';
    assert.match(
      text,
      new RegExp(
        `^deploy-websrv-\\S+\\.${NS} +Kubernetes +${synced} +${synced} +${synced} +${synced} +IGNORED +istiod-\\S+ +\\d`,
        'm',
      ),
    );
    assert.match(text, /^istio-ingressgateway-\S+\.istio-system +Kubernetes +SYNCED/m);
  });
});

test('E9 two processes, joined by Unix sockets', () => {
  const ps = inProxy('ps', '-eo', 'comm,args');
  assert.match(ps, /pilot-agent/);
  assert.match(ps, /envoy/);
  const sockets = inProxy('ss', '-xnp');
  assert.match(sockets, /etc\/istio\/proxy\/XDS/);
  assert.match(sockets, /workload-spiffe-uds\/socket/);
});

test('E10 debug --copy-to: a third container', async () => {
  const pod = podName();
  const made = k(
    'debug',
    '-n',
    NS,
    pod,
    '--image=nicolaka/netshoot',
    '-c',
    'netdebug',
    '--share-processes',
    '--copy-to=websrv-debug',
    '--profile=sysadmin',
    '--',
    'sleep',
    '3600',
  );
  assert.equal(made.status, 0, made.stderr);
  await eventually(
    () => assert.match(kOk('get', 'po', '-n', NS, 'websrv-debug'), /websrv-debug +3\/3 +Running/),
    60_000,
  );
  kOk('delete', 'po', '-n', NS, 'websrv-debug', '--grace-period=1');
});

test('E11 proxy-config tables', () => {
  const pod = `${podName()}.${NS}`;
  assert.match(meltemiOk('proxy-config', 'listener', pod), /^ADDRESSES +PORT +MATCH +DESTINATION$[\s\S]*15006/m);
  assert.match(meltemiOk('pc', 'route', pod), /^NAME +VHOST NAME +DOMAINS +MATCH +VIRTUAL SERVICE$/m);
  const clusters = meltemiOk('pc', 'cluster', pod);
  assert.match(clusters, /^SERVICE FQDN +PORT +SUBSET +DIRECTION +TYPE +DESTINATION RULE$/m);
  assert.match(clusters, /catalog\.istioinaction\.svc\.cluster\.local +80 +- +outbound +EDS/);
  assert.match(
    meltemiOk('pc', 'endpoint', pod),
    /^\d+\.\d+\.\d+\.\d+:3000 +HEALTHY +OK +outbound\|80\|\|catalog\.istioinaction\.svc\.cluster\.local$/m,
  );
  const secrets = meltemiOk('pc', 'secret', pod);
  assert.match(secrets, /^RESOURCE NAME +TYPE +STATUS +VALID CERT +SERIAL NUMBER +NOT AFTER +NOT BEFORE$/m);
  assert.match(secrets, /^default +Cert Chain +ACTIVE +true/m);
  assert.match(secrets, /^ROOTCA +CA +ACTIVE +true/m);
  assert.match(meltemiOk('pc', 'bootstrap', pod, '-o', 'json'), /"xds-grpc"/);
  assert.match(meltemiOk('pc', 'all', pod), /cluster\/[\s\S]*listener\/[\s\S]*route\/[\s\S]*endpoint\/[\s\S]*secret\//);
});

/** iptables in the pod's namespace, from a privileged ephemeral container. */
function natRules(...args: readonly string[]): string {
  if (!kOk('get', 'po', '-n', NS, podName(), '-o', 'jsonpath={.spec.ephemeralContainers[*].name}').includes('nat')) {
    const made = k(
      'debug',
      '-n',
      NS,
      podName(),
      '--image=nicolaka/netshoot',
      '--profile=sysadmin',
      '-c',
      'nat',
      '--',
      'sleep',
      '3600',
    );
    assert.equal(made.status, 0, made.stderr);
  }
  return kOk('exec', '-n', NS, podName(), '-c', 'nat', '--', 'iptables', '-t', 'nat', ...args);
}

test('E12 the capture rules', async () => {
  const rules = await eventually(() => natRules('-S'));
  const wanted = [
    '-A PREROUTING -p tcp -j ISTIO_INBOUND',
    '-A OUTPUT -j ISTIO_OUTPUT',
    '-A ISTIO_INBOUND -p tcp -m tcp --dport 15008 -j RETURN',
    '-A ISTIO_INBOUND -p tcp -m tcp --dport 15090 -j RETURN',
    '-A ISTIO_INBOUND -p tcp -m tcp --dport 15021 -j RETURN',
    '-A ISTIO_INBOUND -p tcp -m tcp --dport 15020 -j RETURN',
    '-A ISTIO_INBOUND -p tcp -j ISTIO_IN_REDIRECT',
    '-A ISTIO_IN_REDIRECT -p tcp -j REDIRECT --to-ports 15006',
    '-A ISTIO_OUTPUT -s 127.0.0.6/32 -o lo -j RETURN',
    '-A ISTIO_OUTPUT ! -d 127.0.0.1/32 -o lo -p tcp -m tcp ! --dport 15008 -m owner --uid-owner 1337 -j ISTIO_IN_REDIRECT',
    '-A ISTIO_OUTPUT -o lo -m owner ! --uid-owner 1337 -j RETURN',
    '-A ISTIO_OUTPUT -m owner --uid-owner 1337 -j RETURN',
    '-A ISTIO_OUTPUT -d 127.0.0.1/32 -j RETURN',
    '-A ISTIO_OUTPUT -j ISTIO_REDIRECT',
    '-A ISTIO_REDIRECT -p tcp -j REDIRECT --to-ports 15001',
  ];
  for (const rule of wanted) assert.ok(rules.split('\n').includes(rule), `missing: ${rule}\n${rules}`);
});

/** Packets counted so far by the rule whose text matches. */
function packets(rule: RegExp): number {
  const line = natRules('-S', '-v')
    .split('\n')
    .find((l) => rule.test(l));
  assert.ok(line, `no rule matches ${rule}`);
  return Number(/-c (\d+) /.exec(line)![1]);
}

test('E13 an inbound call is counted by ISTIO_IN_REDIRECT and by the 127.0.0.6 rule', () => {
  const redirect = /^-A ISTIO_IN_REDIRECT /;
  const back = /^-A ISTIO_OUTPUT -s 127\.0\.0\.6\/32/;
  const before = [packets(redirect), packets(back)] as const;
  const ip = kOk('get', 'po', '-n', NS, podName(), '-o', 'jsonpath={.status.podIP}');
  assertCode(
    k(
      '-n',
      'default',
      'exec',
      'deploy/sleep',
      '-c',
      'sleep',
      '--',
      'curl',
      '-s',
      '-o',
      '/dev/null',
      '-w',
      '%{http_code}',
      `http://${ip}`,
    ),
    '200',
  );
  assert.ok(packets(redirect) > before[0], 'ISTIO_IN_REDIRECT did not count');
  assert.ok(packets(back) > before[1], 'the 127.0.0.6 rule did not count');
});

test('E14 an outbound call is counted by ISTIO_REDIRECT and by the uid 1337 rule', () => {
  const redirect = /^-A ISTIO_REDIRECT /;
  const own =
    /^-A ISTIO_OUTPUT( -c \d+ \d+)? -m owner --uid-owner 1337 .*-j RETURN|^-A ISTIO_OUTPUT -m owner --uid-owner 1337 .*RETURN/;
  const before = [packets(redirect), packets(own)] as const;
  const result = k(
    'exec',
    '-n',
    NS,
    podName(),
    '-c',
    'deploy-websrv',
    '--',
    'curl',
    '-s',
    '-o',
    '/dev/null',
    '-w',
    '%{http_code}',
    'http://catalog.istioinaction/items',
  );
  assertCode(result, '200');
  assert.ok(packets(redirect) > before[0], 'ISTIO_REDIRECT did not count');
  assert.ok(packets(own) > before[1], 'the uid 1337 rule did not count');
});

/** The ingress gateway through its NodePort on the host's 127.0.0.1: status, body and headers. */
function ingress(host: string, url: string) {
  const port = kOk(
    'get',
    'svc',
    'istio-ingressgateway',
    '-n',
    'istio-system',
    '-o',
    'jsonpath={.spec.ports[?(@.name=="http2")].nodePort}',
  );
  return run('curl', ['-s', '-i', '-H', `Host: ${host}`, `http://127.0.0.1:${port}${url}`]).stdout;
}

test('E4 to E6 Gateway and VirtualService: the page for its host, 404 for another', async () => {
  kOk('apply', '-n', NS, '-f', example('test-gateway.yaml'));
  assert.match(kOk('get', 'gw,vs', '-n', NS), /virtualservice\S+ +\["test-gateway"\] +\["www\.example\.lab"\]/);
  await eventually(() => {
    const page = ingress('www.example.lab', '/');
    assert.match(page, /^HTTP\/1\.1 200 OK/);
    assert.match(page, /<title>Welcome to nginx!<\/title>/);
    assert.match(page, /server: istio-envoy/);
    assert.match(page, /x-envoy-upstream-service-time: \d+/);
  });
  assert.match(ingress('elsewhere.example', '/'), /^HTTP\/1\.1 404 Not Found[\s\S]*\r\n\r\n$/);
  assert.match(ingress('webapp.istioinaction.io', '/api/catalog'), /^HTTP\/1\.1 200 OK[\s\S]*Elinor Glasses/);
});

test('E7 and E8 the application sees 127.0.0.6, the access log has the mesh line', async () => {
  await eventually(() => {
    assert.match(kOk('logs', '-n', NS, podName(), '-c', 'deploy-websrv'), /^127\.0\.0\.6 .*"GET \/ HTTP\/1\.1" 200/m);
    const line = new RegExp(
      `"GET / HTTP/1\\.1" 200 - via_upstream - "-" .* inbound\\|80\\|\\| 127\\.0\\.0\\.6:\\d+ \\S+:80 \\S+ outbound_\\.80_\\._\\.svc-clusterip\\.${NS}\\.svc\\.cluster\\.local default$`,
      'm',
    );
    assert.match(kOk('logs', '-n', NS, podName(), '-c', 'istio-proxy'), line);
  });
});

test('G3 kubectl get pa -A shows the mode', () => {
  applyOk(
    'apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: default-strict, namespace: default}\nspec: {mtls: {mode: STRICT}}\n',
  );
  const text = kOk('get', 'pa', '-A');
  assert.match(text, /^NAMESPACE +NAME +MODE +AGE$/m);
  assert.match(text, /^default +default-strict +STRICT +\d+m?s$/m);
  kOk('delete', 'pa', 'default-strict', '-n', 'default');
});
