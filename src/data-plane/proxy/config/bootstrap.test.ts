// Loading and merging of bootstraps.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parse } from 'yaml';
import { loadBootstrap } from './bootstrap.ts';

const options = { parseYaml: (text: string) => parse(text), allowUnknownFields: false };
const yaml = (text: string) => ({ name: 't', text, kind: 'yaml' as const });

const FILE = `
node: {id: a, metadata: {X: 1}}
admin: {address: {socket_address: {address: 127.0.0.1, port_value: 9901}}}
static_resources:
  clusters: [{name: one, connect_timeout: 1s}]
`;

test('the text is merged over the file: messages by field, lists appended', () => {
  const merged = loadBootstrap(
    [
      yaml(FILE),
      yaml(
        '{node: {cluster: c}, admin: {address: {socket_address: {port_value: 9902}}}, static_resources: {clusters: [{name: two}]}}',
      ),
    ],
    options,
  );
  assert.deepEqual([merged.node?.id, merged.node?.cluster], ['a', 'c']);
  const address = merged.admin?.address?.address;
  assert.ok(address?.case === 'socketAddress');
  assert.deepEqual([address.value.address, address.value.portSpecifier.value], ['127.0.0.1', 9902]);
  assert.deepEqual(
    merged.staticResources?.clusters.map((cluster) => cluster.name),
    ['one', 'two'],
  );
});

test('errors name the message, the field and the place', () => {
  assert.throws(() => loadBootstrap([yaml('{nope: 1}')], options), /envoy\.config\.bootstrap\.v3\.Bootstrap.*nope/);
  assert.throws(() => loadBootstrap([yaml('a: [')], options), /Unable to parse YAML/);
  assert.throws(
    () => loadBootstrap([yaml('{flags_path: /x}')], options),
    /^ConfigError: flags_path: field of envoy\.config\.bootstrap\.v3\.Bootstrap is not supported/,
  );
  assert.throws(
    () => loadBootstrap([yaml('{bootstrap_extensions: [{name: wasm}]}')], options),
    /registered implementation for 'wasm'/,
  );
  assert.throws(() => loadBootstrap([], options), /At least one of/);
  const relaxed = loadBootstrap([yaml('{nope: 1, node: {id: a}}')], { ...options, allowUnknownFields: true });
  assert.equal(relaxed.node?.id, 'a');
});
