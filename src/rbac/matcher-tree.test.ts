// The unified matcher with RBAC actions: lists, maps, address tries, fall-backs, and what is refused.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createRegistry, type DescMessage, fromJson, type JsonObject } from '@bufbuild/protobuf';
import { ActionSchema } from '#proto/envoy/config/rbac/v3/rbac_pb.js';
import {
  DestinationPortInputSchema,
  SourceIPInputSchema,
} from '#proto/envoy/extensions/matching/common_inputs/network/v3/network_inputs_pb.js';
import { UriSanInputSchema } from '#proto/envoy/extensions/matching/common_inputs/ssl/v3/ssl_inputs_pb.js';
import { IpSchema } from '#proto/envoy/extensions/matching/input_matchers/ip/v3/ip_pb.js';
import { HttpRequestHeaderMatchInputSchema } from '#proto/envoy/type/matcher/v3/http_inputs_pb.js';
import { HttpAttributesCelMatchInputSchema } from '#proto/xds/type/matcher/v3/http_inputs_pb.js';
import { IPMatcherSchema } from '#proto/xds/type/matcher/v3/ip_pb.js';
import { MatcherSchema } from '#proto/xds/type/matcher/v3/matcher_pb.js';
import { createMatcherEngine } from './engine.ts';
import { type Facts, NO_FACTS } from './facts.ts';

const known: readonly DescMessage[] = [
  ActionSchema,
  DestinationPortInputSchema,
  SourceIPInputSchema,
  UriSanInputSchema,
  IpSchema,
  HttpRequestHeaderMatchInputSchema,
  HttpAttributesCelMatchInputSchema,
  IPMatcherSchema,
];
const registry = createRegistry(...known);

const typed = (schema: DescMessage, fields: JsonObject = {}): JsonObject => ({
  name: schema.name,
  typed_config: { '@type': `type.googleapis.com/${schema.typeName}`, ...fields },
});
const action = (name: string, what = 'ALLOW'): JsonObject => ({ action: typed(ActionSchema, { name, action: what }) });
const path = typed(HttpRequestHeaderMatchInputSchema, { header_name: ':path' });

function decide(matcher: JsonObject, facts: Partial<Facts>) {
  const engine = createMatcherEngine(fromJson(MatcherSchema, matcher, { registry }), 'matcher');
  const { allowed, policy } = engine.decide({ ...NO_FACTS, ...facts });
  return `${allowed ? 'allow' : 'deny'} ${policy}`.trim();
}

test('an exact map decides, else on_no_match, else it is a refusal without a policy', () => {
  const map = {
    matcher_tree: { input: path, exact_match_map: { map: { '/a': action('A'), '/b': action('B', 'DENY') } } },
  };
  assert.equal(decide(map, { path: '/a' }), 'allow A');
  assert.equal(decide(map, { path: '/b' }), 'deny B');
  assert.equal(decide(map, { path: '/c' }), 'deny');
  assert.equal(decide({ ...map, on_no_match: action('rest') }, { path: '/c' }), 'allow rest');
  assert.equal(decide({}, {}), 'deny');
});

test('the longest prefix wins, and gives way when its own matcher finds nothing', () => {
  const inner = {
    matcher: { matcher_tree: { input: path, exact_match_map: { map: { '/a/b/c': action('deep', 'DENY') } } } },
  };
  const map = { matcher_tree: { input: path, prefix_match_map: { map: { '/': action('root'), '/a/b': inner } } } };
  assert.equal(decide(map, { path: '/a/b/c' }), 'deny deep');
  assert.equal(decide(map, { path: '/a/b/x' }), 'allow root');
});

test('lists: first predicate that holds; and, or, not', () => {
  const port = (exact: string): JsonObject => ({
    single_predicate: { input: typed(DestinationPortInputSchema), value_match: { exact } },
  });
  const admin: JsonObject = { single_predicate: { input: path, value_match: { prefix: '/admin' } } };
  const list: JsonObject = {
    matcher_list: {
      matchers: [
        { predicate: { and_matcher: { predicate: [port('80'), { not_matcher: admin }] } }, on_match: action('web') },
        { predicate: { or_matcher: { predicate: [port('81'), port('82')] } }, on_match: action('ops', 'LOG') },
      ],
    },
  };
  const at = (portNumber: number, where = '/') =>
    decide(list, { destination: { ip: '', port: portNumber }, path: where });
  assert.deepEqual([at(80), at(80, '/admin'), at(82), at(83)], ['allow web', 'deny', 'allow ops', 'deny']);
});

test('a tree with a LOG action notes every decision', () => {
  const tree = createMatcherEngine(
    fromJson(
      MatcherSchema,
      { matcher_tree: { input: path, exact_match_map: { map: { '/a': action('A', 'LOG'), '/b': action('B') } } } },
      { registry },
    ),
    '',
  );
  const log = (where: string) => tree.decide({ ...NO_FACTS, path: where }).log;
  assert.deepEqual([log('/a'), log('/b'), log('/c')], [true, false, false]);
});

test('address tries: most specific first, exclusive ranges do not give way', () => {
  const never = { matcher: { matcher_tree: { input: path, exact_match_map: { map: { '/never': action('never') } } } } };
  const trie = (exclusive: boolean): JsonObject => ({
    matcher_tree: {
      input: typed(SourceIPInputSchema),
      custom_match: typed(IPMatcherSchema, {
        range_matchers: [
          { ranges: [{ address_prefix: '10.0.0.0', prefix_len: 8 }], on_match: action('wide') },
          { ranges: [{ address_prefix: '10.1.0.0', prefix_len: 16 }], on_match: never, exclusive },
        ],
      }),
    },
  });
  const from = (ip: string, exclusive = false) => decide(trie(exclusive), { remote: { ip, port: 1 } });
  assert.deepEqual(
    [from('10.2.0.1'), from('10.1.0.1'), from('10.1.0.1', true), from('11.0.0.1')],
    ['allow wide', 'allow wide', 'deny', 'deny'],
  );
});

test('an unproved name is no name', () => {
  const map = {
    matcher_tree: { input: typed(UriSanInputSchema), exact_match_map: { map: { 'spiffe://a': action('A') } } },
  };
  assert.equal(decide(map, { peerUris: ['spiffe://a'], peerVerified: true }), 'allow A');
  assert.equal(decide(map, { peerUris: ['spiffe://a'] }), 'deny');
});

test('what is not supported is refused by path', () => {
  const refuse = (matcher: JsonObject, wanted: RegExp) => assert.throws(() => decide(matcher, {}), wanted);
  const map = { map: { a: action('A') } };
  refuse(
    { matcher_tree: { input: typed(HttpAttributesCelMatchInputSchema), exact_match_map: map } },
    /matcher\.matcher_tree\.input: Didn't find a registered implementation for 'HttpAttributesCelMatchInput'/,
  );
  refuse(
    { matcher_tree: { input: path, exact_match_map: { map: { a: { action: typed(IpSchema) } } } } },
    /action type/,
  );
  refuse({ matcher_tree: { input: path, exact_match_map: { map: {} } } }, /at least 1 pair/);
  refuse({ matcher_list: { matchers: [] } }, /at least 1 item/);
});
