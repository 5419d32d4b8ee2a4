// Policies from a broken control plane: whatever the bytes are, they are a ConfigError or an engine that decides every
// request without throwing, and decides alike with and without its index.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  type DescMessage,
  fromBinary,
  fromJson,
  type JsonObject,
  type MessageShape,
  toBinary,
} from '@bufbuild/protobuf';
import { RBACSchema } from '#proto/envoy/config/rbac/v3/rbac_pb.js';
import { MatcherSchema } from '#proto/xds/type/matcher/v3/matcher_pb.js';
import { ConfigError } from '../../src/base/envoy-api/fields.ts';
import { extensionRegistry } from '../../src/data-plane/proxy/config/bootstrap.ts';
import { and } from '../../src/rbac/compile.ts';
import { createEngine, createMatcherEngine, type PolicyEngine } from '../../src/rbac/engine.ts';
import { explain } from '../../src/rbac/explain.ts';
import { toTest } from '../../src/rbac/expression.ts';
import { type Facts, NO_FACTS } from '../../src/rbac/facts.ts';
import { corpus, fuzz } from './mutate.ts';

const text = (exact: string): JsonObject => ({ string_match: { exact } });
const RULES = fromJson(
  RBACSchema,
  {
    action: 'DENY',
    policies: {
      a: {
        permissions: [
          {
            and_rules: {
              rules: [{ header: { name: ':method', ...text('GET') } }, { url_path: { path: { prefix: '/a' } } }],
            },
          },
          { not_rule: { destination_port: 80 } },
        ],
        principals: [
          { authenticated: { principal_name: { safe_regex: { regex: '.*/ns/a/.*' } } } },
          { remote_ip: { address_prefix: '10.0.0.0', prefix_len: 8 } },
        ],
      },
      b: {
        permissions: [
          { metadata: { filter: 'f', path: [{ key: 'k' }], value: text('v') } },
          { destination_port_range: { start: 1, end: 9 } },
        ],
        principals: [
          { or_ids: { ids: [{ any: true }, { header: { name: 'x', range_match: { start: 1, end: 5 } } }] } },
        ],
      },
      c: {
        permissions: [{ requested_server_name: { suffix: '.x' } }],
        principals: [{ filter_state: { key: 'k', ...text('v') } }],
      },
    },
  },
  { registry: extensionRegistry },
);
const typed = (name: string, fields: JsonObject) => ({
  name: 'n',
  typed_config: { '@type': `type.googleapis.com/${name}`, ...fields },
});
const TREE = fromJson(
  MatcherSchema,
  {
    matcher_tree: {
      input: typed('envoy.type.matcher.v3.HttpRequestHeaderMatchInput', { header_name: ':path' }),
      prefix_match_map: {
        map: { '/a': { action: typed('envoy.config.rbac.v3.Action', { name: 'p', action: 'LOG' }) } },
      },
    },
    on_no_match: { action: typed('envoy.config.rbac.v3.Action', { name: 'q', action: 'DENY' }) },
  },
  { registry: extensionRegistry },
);

const REQUESTS: readonly Facts[] = [
  NO_FACTS,
  {
    ...NO_FACTS,
    path: '/a/b?c',
    header: () => ['3', '9'],
    destination: { ip: '10.0.0.1', port: 80 },
    remote: { ip: '10.1.2.3', port: 1 },
    tls: true,
    peerVerified: true,
    peerUris: ['spiffe://t/ns/a/sa/b'],
    serverName: 'a.x',
    metadata: () => ({ k: 'v' }),
    filterState: () => 'v',
  },
  { ...NO_FACTS, http: false, direct: { ip: 'nonsense', port: 70_000 } },
];

function decide<D extends DescMessage>(
  schema: D,
  bytes: Uint8Array,
  make: (message: MessageShape<D>) => PolicyEngine,
): void {
  let message: MessageShape<D>;
  try {
    message = fromBinary(schema, bytes);
  } catch {
    // No message at all: the stream's decoder refuses it.
    return;
  }
  let engine: PolicyEngine;
  try {
    engine = make(message);
  } catch (error) {
    if (error instanceof ConfigError) return;
    throw error;
  }
  for (const facts of REQUESTS) {
    const { policy } = engine.decide(facts);
    explain(engine, facts);
    const { rules } = engine;
    if (!rules) continue;
    const first = rules.policies.find((one) => toTest(and([one.permissions, one.principals]))(facts));
    assert.equal(policy, first?.name ?? '');
  }
}

test('no bytes make an engine that cannot decide', async () => {
  const run = (bytes: Buffer): void => {
    decide(RBACSchema, bytes, (message) => createEngine(message, 'rules'));
    decide(MatcherSchema, bytes, (message) => createMatcherEngine(message, 'matcher'));
  };
  const seeds = [toBinary(RBACSchema, RULES), toBinary(MatcherSchema, TREE)].map((bytes) => Buffer.from(bytes));
  await fuzz([...seeds, ...corpus('rbac')], 4_000, run);
});
