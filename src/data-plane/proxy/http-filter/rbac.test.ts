// The HTTP RBAC filter: metadata of shadow and enforced policies, the hint of LOG, per-route settings, a bounded table of
// counters. What policies mean is tested in src/rbac; what clients see in test/conformance/proxy/cases/rbac.yaml.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fromJson, type JsonObject } from '@bufbuild/protobuf';
import { RBACSchema } from '#proto/envoy/extensions/filters/http/rbac/v3/rbac_pb.js';
import { silentLog } from '../../../base/runtime/log.ts';
import { filterBench } from '../testing/filters.ts';
import { createRbacFilter, readRbac } from './rbac.ts';

const GET = {
  permissions: [{ header: { name: ':method', string_match: { exact: 'GET' } } }],
  principals: [{ any: true }],
};

function bench(config: JsonObject) {
  return filterBench(({ stats }) => [
    createRbacFilter(readRbac(fromJson(RBACSchema, config), 'rbac'), {
      name: 'rbac',
      stats,
      log: silentLog,
      statPrefix: 'http.test.',
    }),
  ]);
}

test('shadow policies leave what they would have done, under the prefix they were given', () => {
  const one = bench({
    rules: { action: 'DENY', policies: {} },
    shadow_rules: { policies: { 'get it': GET } },
    shadow_rules_stat_prefix: 'istio_dry_run_allow_',
  });
  const allowed = one.request('GET /');
  assert.ok(allowed.upstream());
  assert.deepEqual(allowed.stream.info.metadata?.get('envoy.filters.http.rbac'), {
    istio_dry_run_allow_shadow_engine_result: 'allowed',
    istio_dry_run_allow_shadow_effective_policy_id: 'get it',
    enforced_engine_result: 'allowed',
  });
  const denied = one.request('PUT /');
  assert.ok(denied.upstream());
  assert.deepEqual(denied.stream.info.metadata?.get('envoy.filters.http.rbac'), {
    istio_dry_run_allow_shadow_engine_result: 'denied',
    enforced_engine_result: 'allowed',
  });
  assert.equal(one.counter('http.test.rbac.istio_dry_run_allow_.shadow_allowed'), 1);
  assert.equal(one.counter('http.test.rbac.istio_dry_run_allow_.shadow_denied'), 1);
  assert.equal(one.counter('http.test.rbac.allowed'), 2);
});

test('LOG sets the hint for access logs', () => {
  const one = bench({ rules: { action: 'LOG', policies: { get: GET } } });
  const hint = (head: string) => one.request(head).stream.info.metadata?.get('envoy.common');
  assert.deepEqual(hint('GET /'), { access_log_hint: true });
  assert.deepEqual(hint('PUT /'), { access_log_hint: false });
});

test('a refusal is the answer with the policy in its details', () => {
  const refused = bench({ rules: { action: 'DENY', policies: { 'a b': GET } } }).request('GET /');
  assert.deepEqual([refused.status(), refused.body()], [403, 'RBAC: access denied']);
  assert.equal(refused.stream.info.responseDetails, 'rbac_access_denied_matched_policy[a_b]');
  assert.equal(refused.upstream(), undefined);
});

test('audit loggers and CEL are refused by name', () => {
  const refuse = (rules: JsonObject, wanted: RegExp) => assert.throws(() => bench({ rules }), wanted);
  refuse({ audit_logging_options: { audit_condition: 'ON_DENY' } }, /rbac\.rules\.audit_logging_options: field of/);
  refuse({ policies: { p: { ...GET, condition: {} } } }, /rbac\.rules\.policies\[p\]\.condition/);
});
