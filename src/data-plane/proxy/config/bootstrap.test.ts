// Bootstrap files: the four formats, protobuf MergeFrom, and mistakes named as Envoy names them.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { toBinary, toJson } from '@bufbuild/protobuf';
import fc from 'fast-check';
import { BootstrapSchema } from '#proto/envoy/config/bootstrap/v3/bootstrap_pb.js';
import { type BootstrapSource, extensionRegistry, loadBootstrap } from './bootstrap.ts';
import { parseTextProto } from './text-proto.ts';
import { parseYaml, plain } from './yaml.ts';

const warned: string[] = [];
const options = {
  parseYaml,
  parseTextProto,
  allowUnknownFields: false,
  onUnknownField: (text: string) => void warned.push(text),
};
const yaml = (text: string): BootstrapSource => ({ name: 'test', text, kind: 'yaml' });
const json = (text: string): BootstrapSource => ({ name: 'test', text, kind: 'json' });
const shown = (...sources: BootstrapSource[]) =>
  toJson(BootstrapSchema, loadBootstrap(sources, options), { useProtoFieldName: true, registry: extensionRegistry });

test('the text is merged over the file: scalars and oneofs replace, messages merge, lists append', () => {
  const file = yaml(`
node: {id: a, cluster: c, metadata: {x: 1, y: {z: 1}}}
admin: {address: {socket_address: {address: 0.0.0.0, port_value: 9901}}}
stats_config: {stats_tags: [{tag_name: one, regex: a}], use_all_default_tags: true}
static_resources: {clusters: [{name: one}]}`);
  const text = yaml(`
node: {id: b, metadata: {y: {q: 2}}}
admin: {address: {socket_address: {address: 127.0.0.1, port_value: 9902}}}
stats_config: {stats_tags: [{tag_name: two, fixed_value: v}], use_all_default_tags: false}
static_resources: {clusters: [{name: two}]}`);
  assert.deepEqual(shown(file, text), {
    node: { id: 'b', cluster: 'c', metadata: { x: 1, y: { q: 2 } } },
    admin: { address: { socket_address: { address: '127.0.0.1', port_value: 9902 } } },
    // The wrapped `false` is the default of a scalar: MergeFrom does not see it.
    stats_config: {
      stats_tags: [
        { tag_name: 'one', regex: 'a' },
        { tag_name: 'two', fixed_value: 'v' },
      ],
      use_all_default_tags: true,
    },
    static_resources: { clusters: [{ name: 'one' }, { name: 'two' }] },
  });
  const pipe = shown(file, yaml('admin: {address: {pipe: {path: /x}}}')) as Record<string, unknown>;
  assert.deepEqual(pipe.admin, { address: { pipe: { path: '/x' } } });
});

test('a binary and a text file say the same as YAML', () => {
  const source = yaml(
    'node: {id: a, locality: {zone: z}}\nstats_flush_interval: 5s\nstatic_resources: {clusters: [{name: x, lb_policy: RANDOM}]}',
  );
  const wanted = shown(source);
  const bytes = toBinary(BootstrapSchema, loadBootstrap([source], options));
  assert.deepEqual(shown({ name: 'x.pb', text: '', bytes, kind: 'pb' }), wanted);
  const text = `# a comment
    node { id: "a" locality < zone: 'z' > }
    stats_flush_interval { seconds: 5 }
    static_resources: { clusters: [{ name: "\\x78", lb_policy: RANDOM }] }`;
  assert.deepEqual(shown({ name: 'x.pb_text', text, kind: 'pb_text' }), wanted);
});

test('the text format: expanded Any, maps, and mistakes with their line', () => {
  const text = (body: string): BootstrapSource => ({ name: 'f', text: body, kind: 'pb_text' });
  const any = shown(
    text(
      `default_regex_engine { name: "re" typed_config { [type.googleapis.com/envoy.extensions.regex_engines.v3.GoogleRE2] {} } }`,
    ),
  ) as { default_regex_engine: { typed_config: Record<string, unknown> } };
  assert.equal(
    any.default_regex_engine.typed_config['@type'],
    'type.googleapis.com/envoy.extensions.regex_engines.v3.GoogleRE2',
  );
  for (const [body, message] of [
    [
      'node { idd: "x" }',
      /Unable to parse file "f" as a text protobuf \(type envoy\.config\.bootstrap\.v3\.Bootstrap\): line 1: .* has no field 'idd'/,
    ],
    ['node {\n id: "x"\n', /line \d: '\}' is missing/],
    ['node { id: 5 }', /text in quotes is expected/],
    ['node "x"', /'\{' is expected/],
    ['\u0001', /unexpected character/],
  ] as const)
    assert.throws(() => loadBootstrap([text(body)], options), message);
});

test('mistakes are named by path, in the words of Envoy', () => {
  const B = 'envoy.config.bootstrap.v3.Bootstrap';
  for (const [text, message] of [
    [
      'elephant: 1',
      `Protobuf message (type ${B} reason INVALID_ARGUMENT: invalid JSON in ${B}: no such field: 'elephant') has unknown fields`,
    ],
    [
      'static_resources: {foo: 1}',
      `Protobuf message (type ${B} reason INVALID_ARGUMENT: invalid JSON in ${B} @ static_resources: message ${B}.StaticResources: no such field: 'foo') has unknown fields`,
    ],
    [
      'node: {id: 5}',
      `Unable to parse JSON as proto (INVALID_ARGUMENT: invalid JSON in ${B} @ node.id: string: unexpected character: '5'; expected '"'); put it in quotes`,
    ],
    [
      'stats_flush_interval: xyz',
      `Unable to parse JSON as proto (INVALID_ARGUMENT: invalid JSON in ${B} @ stats_flush_interval: message google.protobuf.Duration: duration must start with an integer)`,
    ],
    [
      'static_resources: {listeners: [{filter_chains: [{filters: [{typed_config: {"@type": type.googleapis.com/a.B}}]}]}]}',
      `Unable to parse JSON as proto (INVALID_ARGUMENT: invalid JSON in ${B} @ static_resources.listeners[0].filter_chains[0].filters[0].typed_config: could not find @type 'type.googleapis.com/a.B'); this proxy has no such type`,
    ],
    [
      'static_resources: {listeners: [{filter_chains: [{filters: [{typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxi}}]}]}]}',
      `Unable to parse JSON as proto (INVALID_ARGUMENT: invalid JSON in ${B} @ static_resources.listeners[0].filter_chains[0].filters[0].typed_config: could not find @type 'type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxi'); did you mean 'envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy'?`,
    ],
    [
      'static_resources: {clusters: [{type: FOO}]}',
      `Protobuf message (type ${B} reason INVALID_ARGUMENT: invalid JSON in ${B} @ static_resources.clusters[0].type: unknown enum value: 'FOO') has unknown fields`,
    ],
    ['a: [', 'yaml: error at line 1, column 5: the [ of line 1, column 4 is not closed'],
    ['node: &a {id: a}\nadmin: *b', 'yaml: error at line 2, column 8: the referenced anchor is not defined: b'],
    ['flags_path: /x', `flags_path: field of ${B} is not supported by this proxy`],
    ['header_prefix: x-mine', "header_prefix: only 'x-envoy' is supported by this proxy"],
    [
      'bootstrap_extensions: [{name: wasm, typed_config: {"@type": type.googleapis.com/google.protobuf.Struct, value: {}}}]',
      "bootstrap_extensions[0]: Didn't find a registered implementation for 'wasm'",
    ],
    [
      'cluster_manager: {local_cluster_name: x}',
      'cluster_manager.local_cluster_name: field of envoy.config.bootstrap.v3.ClusterManager is not supported by this proxy',
    ],
    ['', 'Unable to convert YAML as JSON: it is empty'],
    ['hello', 'Unable to convert YAML as JSON: hello'],
  ] as const)
    assert.throws(() => loadBootstrap([yaml(text)], options), { message }, text);
  assert.throws(() => loadBootstrap([json('{"node":')], options), /Unable to parse JSON as proto \(INVALID_ARGUMENT: /);
  assert.throws(() => loadBootstrap([], options), /At least one of/);
});

test('a mistake beside a key does not show the key', () => {
  const secret = 'MIIBVgIBADANBgkqhkiG';
  const kinds = ['json', 'yaml', 'pb_text'] as const;
  for (const text of [
    `{"private_key": "${secret}" x`,
    `{"private_key": "${secret}"  "${secret}"}`,
    `{"a": ["${secret}", nope]}`,
    `{"static_resources":{"secrets":[{"tls_certificate":{"private_key":{"inline_string":"${secret}"},"nope":1}}]}}`,
    `-----BEGIN PRIVATE KEY-----\n${secret}\n`,
    `static_resources { secrets { "${secret}" } }`,
    `node { id: "a" "b" ${'"'}${secret}${'"'} } "${secret}"`,
    `static_resources { clusters { type: "${secret}" } }`,
  ])
    for (const kind of kinds)
      assert.throws(
        () => loadBootstrap([{ name: 'f', text, kind }], options),
        (error: Error) => !error.message.includes(secret.slice(0, 8)),
        `${kind}: ${text}`,
      );
});

test('unknown fields may be allowed, and are told', () => {
  warned.length = 0;
  const relaxed = { ...options, allowUnknownFields: true };
  assert.equal(loadBootstrap([yaml('{nope: 1, node: {id: a}}')], relaxed).node?.id, 'a');
  // Field 900, varint 1.
  const bytes = new Uint8Array([0xa0, 0x38, 1]);
  assert.throws(
    () => loadBootstrap([{ name: 'b.pb', text: '', bytes, kind: 'pb' }], options),
    /with unknown field set \{900\}\) has unknown fields/,
  );
  loadBootstrap([{ name: 'b.pb', text: '', bytes, kind: 'pb' }], relaxed);
  assert.equal(warned.length, 2);
});

test('plain scalars are what yaml-cpp makes of them', () => {
  for (const [text, value] of [
    ['yes', true],
    ['off', false],
    ['y', true],
    ['~', null],
    ['', null],
    ['5', 5],
    ['0x10', 16],
    ['010', 8],
    ['-3', -3],
    ['1.5', '1.5'],
    ['12345678901234567890', '12345678901234567890'],
    ['yEs', 'yEs'],
    ['1_000', '1_000'],
    ['2026-01-01', '2026-01-01'],
  ] as const)
    assert.deepEqual(plain(text), value, text);
  assert.deepEqual(parseYaml('a: "5"\nb: &x [1]\nc: *x\n!ignore d: 1\n"e": |\n  yes\n'), {
    a: '5',
    b: [1],
    c: [1],
    e: 'yes\n',
  });
});

test('aliases that multiply are bounded', () => {
  let text = 'a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n';
  for (let i = 1; i < 9; i++) text += `a${i}: &a${i} [${`*a${i - 1}, `.repeat(10)}]\n`;
  assert.throws(() => parseYaml(text), /yaml: more than \d+ nodes/);
  assert.throws(() => parseYaml('a: &a [1, *a]\n'), /^ConfigError: yaml: more than \d+ levels/);
});

test('many aliases cost no more than other nodes, and stand for the anchor before them', () => {
  const text = `a: &a [1]\nb: [${'*a,'.repeat(5_000)}]\n`;
  const began = performance.now();
  assert.equal((parseYaml(text) as { b: unknown[] }).b.length, 5_000);
  // Seconds, when each of them searches the document.
  assert.ok(performance.now() - began < 1_500);
  assert.deepEqual(parseYaml('a: &x 1\nb: *x\nc: &x 2\nd: *x\n'), { a: 1, b: 1, c: 2, d: 2 });
  assert.throws(() => parseYaml('a: *x\nb: &x 1\n'), /line 1, column 4: the referenced anchor is not defined: x/);
});

test('no text makes a reader fail in another way than by its error', () => {
  fc.assert(
    fc.property(fc.string(), fc.constantFrom('json', 'yaml', 'pb_text', 'pb'), (text, kind) => {
      try {
        loadBootstrap([{ name: 'f', text, bytes: Buffer.from(text, 'latin1'), kind } as BootstrapSource], options);
      } catch (error) {
        assert.equal((error as Error).name, 'ConfigError');
      }
    }),
    { numRuns: 300 },
  );
});
