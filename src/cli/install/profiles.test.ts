import assert from 'node:assert/strict';
import { test } from 'node:test';
import { stringify } from 'yaml';
import { parseSet, profileTree, resolveInstall } from './profiles.ts';

function spec(input: Partial<Parameters<typeof resolveInstall>[0]>) {
  const result = resolveInstall({ profile: undefined, files: [], sets: [], ...input });
  assert.equal(result.kind, 'ok', JSON.stringify(result));
  return result.kind === 'ok' ? result.spec : assert.fail();
}
function messages(input: Partial<Parameters<typeof resolveInstall>[0]>): string {
  const result = resolveInstall({ profile: undefined, files: [], sets: [], ...input });
  return result.kind === 'invalid' ? result.diagnostics.map((d) => d.message).join('\n') : assert.fail('was accepted');
}

test('demo has both gateways, an access log and RSA keys', () => {
  const demo = spec({ profile: 'demo' });
  assert.deepEqual(demo.ingressGateways, [{ name: 'istio-ingressgateway', enabled: true }]);
  assert.deepEqual(demo.egressGateways, [{ name: 'istio-egressgateway', enabled: true }]);
  assert.equal(demo.meshConfig.accessLogFile, '/dev/stdout');
  assert.deepEqual(demo.meshConfig.defaultConfig, { proxyMetadata: { MELTEMI_WORKLOAD_KEY: 'rsa' } });
});

test('a dumped profile is accepted back as a file', () => {
  const tree = profileTree('demo');
  assert.equal(tree.kind, 'ok');
  const text = stringify({ kind: 'IstioOperator', spec: tree.kind === 'ok' ? tree.tree : {} });
  assert.deepEqual(spec({ files: [{ name: 'f', text }] }), spec({ profile: 'demo' }));
});

test('--set changes one field, by name or by index, over file and profile', () => {
  const set = spec({
    sets: ['profile=demo', 'values.global.proxy.privileged=true', 'components.egressGateways[0].enabled=false'],
  });
  const proxy = (set.values.global as { proxy: { privileged: boolean; resources: object } }).proxy;
  assert.equal(proxy.privileged, true);
  assert.ok(proxy.resources, 'the rest of the profile stays');
  assert.equal(set.egressGateways[0]!.enabled, false);
  assert.deepEqual(parseSet('a.b=1.5'), { a: { b: 1.5 } });
});

test('every mistake is named', () => {
  assert.match(messages({ profile: 'dmeo' }), /unknown profile "dmeo"/);
  assert.match(messages({ profile: 'ambient' }), /ambient.*not supported.*ztunnel/);
  assert.match(messages({ sets: ['nonsense'] }), /expected PATH=VALUE/);
  assert.match(messages({ sets: ['components.cni.enabled=true'] }), /components\.cni.*not supported/);
  assert.match(
    messages({ sets: ['values.global.proxy.priviledged=true'] }),
    /values\.global\.proxy\.priviledged: has no effect/,
  );
  assert.match(messages({ sets: ['compnents.x=1'] }), /compnents: unknown field/);
  assert.match(messages({ files: [{ name: 'x.yaml', text: 'kind: Pod' }] }), /x\.yaml: expected kind IstioOperator/);
  assert.match(messages({ files: [{ name: 'x.yaml', text: 'a: [b' }] }), /x\.yaml: /);
});
