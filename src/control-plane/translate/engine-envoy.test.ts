import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { JsonValue } from '@bufbuild/protobuf';
import { TYPE_URL } from '../../base/xds/type-urls.ts';
import { resourcesToJson } from '../serve/resource-json.ts';
import { generate } from './generate.ts';
import { goldenCase, goldenCases } from './golden.ts';

/** Every text of a JSON value with the keys that lead to it. */
function texts(value: JsonValue, at = ''): [string, string][] {
  if (typeof value === 'string') return [[at, value]];
  if (typeof value !== 'object' || value === null) return [];
  return Object.entries(value).flatMap(([key, item]) => texts(item as JsonValue, `${at}/${key}`));
}

for (const name of goldenCases())
  test(`nothing of ${name} is only known to Istio's build of Envoy`, () => {
    const { snapshot, proxy } = goldenCase(name, 'envoy');
    const resources = [TYPE_URL.cluster, TYPE_URL.listener].flatMap((type) => generate(snapshot, proxy, type, []));
    const all = texts(resourcesToJson(resources) as JsonValue);
    assert.ok(all.length > 10);
    assert.deepEqual(
      all.filter(([, text]) => text.startsWith('type.googleapis.com/') && !/\.com\/(envoy|xds|google)\./.test(text)),
      [],
      'types',
    );
    assert.deepEqual(
      all.filter(([at, text]) => text === 'istio-peer-exchange' && !at.includes('application_protocols')),
      [],
      'the TCP exchange is offered',
    );
    assert.deepEqual(
      all.filter(([at, text]) => at.endsWith('/name') && text.startsWith('istio.')),
      [],
      'filters',
    );
  });

test('a stock client names itself to servers of the mesh and offers what istio.alpn would', () => {
  const { snapshot, proxy } = goldenCase('outbound-auto-mtls', 'envoy');
  const json = (type: string) =>
    texts(resourcesToJson(generate(snapshot, proxy, type, [])) as JsonValue).map(([, text]) => text);
  const listeners = json(TYPE_URL.listener);
  assert.ok(listeners.includes('x-envoy-peer-metadata') && listeners.includes(proxy.nodeId));
  const clusters = json(TYPE_URL.cluster);
  assert.ok(clusters.includes('istio-http/1.1'), 'HTTP clusters');
});

test('resources of our own proxy are left alone, and a stock form is made once', () => {
  const own = goldenCase('outbound-auto-mtls');
  const stock = goldenCase('outbound-auto-mtls', 'envoy');
  const listeners = (of: typeof own) => generate(of.snapshot, of.proxy, TYPE_URL.listener, []);
  assert.ok(JSON.stringify(resourcesToJson(listeners(own))).includes('istio.metadata_exchange'));
  const [first, second] = [listeners(stock), listeners(stock)];
  assert.ok(first.some((one, i) => one === second[i]));
  assert.deepEqual(
    first.map((one) => one.version),
    second.map((one) => one.version),
  );
});
