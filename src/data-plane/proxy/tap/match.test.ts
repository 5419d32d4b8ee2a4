// Every predicate, decided while a request goes by and at its end; what a plan refuses.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fromJson, type JsonObject } from '@bufbuild/protobuf';
import { type MatchPredicate, MatchPredicateSchema, TapConfigSchema } from '#proto/envoy/config/tap/v3/common_pb.js';
import { HeaderMap, headerName } from '../http/header-map.ts';
import type { StreamInfo } from '../http/stream-info.ts';
import type { RequestView } from '../route/matchers.ts';
import { Runtime } from '../runtime/runtime.ts';
import { StatsStore } from '../stats/stats.ts';
import { decide, evaluate, NO, readMatch, settle, UNKNOWN, YES } from './match.ts';
import { readTapPlan } from './plan.ts';

const predicate = (json: JsonObject): MatchPredicate => fromJson(MatchPredicateSchema, json);

function view(path: string, headers: Readonly<Record<string, string>> = {}): RequestView {
  const map = new HeaderMap(256);
  for (const [name, value] of Object.entries(headers)) map.add(headerName(name), value);
  return { method: 'GET', path, authority: 'a', scheme: 'http', headers: map, info: {} as StreamInfo };
}

const has = (name: string): JsonObject => ({ headers: [{ name, present_match: true }] });
const status = (code: string): JsonObject => ({ headers: [{ name: ':status', string_match: { exact: code } }] });

test('what is known when', () => {
  const match = readMatch(
    predicate({
      and_match: {
        rules: [
          { http_request_headers_match: has('x-a') },
          { not_match: { http_response_headers_match: status('503') } },
        ],
      },
    }),
    'm',
  );
  const states = () => new Uint8Array(match.leaves.length);
  const refused = states();
  decide(match, refused, 'request', view('/'));
  assert.equal(evaluate(match, refused), NO, 'known at once');
  const shown = states();
  decide(match, shown, 'request', view('/', { 'x-a': '1' }));
  assert.equal(evaluate(match, shown), UNKNOWN);
  const failed = shown.slice();
  decide(match, shown, 'response', view('200'));
  assert.equal(evaluate(match, shown), YES);
  decide(match, failed, 'response', view('503'));
  assert.equal(evaluate(match, failed), NO);
});

test('what never came does not match at the end', () => {
  const trailers = readMatch(predicate({ http_request_trailers_match: has('x-t') }), 'm');
  assert.equal(settle(trailers, new Uint8Array(1)), false);
  const none = readMatch(predicate({ not_match: { http_response_trailers_match: has('x-t') } }), 'm');
  assert.equal(settle(none, new Uint8Array(1)), true);
  const either = readMatch(
    predicate({ or_match: { rules: [{ any_match: true }, { http_request_trailers_match: has('x') }] } }),
    'm',
  );
  assert.equal(evaluate(either, new Uint8Array(1)), YES);
});

test('what a plan refuses', () => {
  const runtime = new Runtime(undefined, {
    stats: new StatsStore(),
    files: { read: () => undefined, watch: () => () => {} } as never,
    serviceCluster: '',
  });
  const read = (config: JsonObject) => () => readTapPlan(fromJson(TapConfigSchema, config), runtime);
  const sinks = [{ streaming_admin: {} }];
  const any = { match: { any_match: true } };
  assert.throws(read({ output_config: { sinks } }), /Neither match nor match_config is set in TapConfig/);
  assert.throws(
    read({ ...any, output_config: { sinks: [{ file_per_tap: { path_prefix: '/x' } }] } }),
    /^ConfigError: tap_config\.output_config\.sinks\[0\]\.file_per_tap: field of/,
  );
  assert.throws(
    read({ ...any, output_config: { sinks: [{ format: 'PROTO_BINARY', streaming_admin: {} }] } }),
    /PROTO_BINARY is not supported/,
  );
  assert.throws(read({ ...any, output_config: { sinks, max_buffered_rx_bytes: 1 << 30 } }), /at most 1048576 bytes/);
  assert.throws(
    read({ ...any, output_config: { sinks: [{ buffered_admin: { max_traces: 5000 } }] } }),
    /max_traces: this proxy collects at most 1000/,
  );
  assert.throws(
    read({
      match: { http_request_generic_body_match: { patterns: [{ string_match: 'x' }] } },
      output_config: { sinks },
    }),
    /bodies are not matched by this proxy/,
  );
  const plan = read({ ...any, output_config: { sinks } })();
  assert.deepEqual(
    [plan.maxRx, plan.maxTx, plan.streaming, plan.bodyAs, plan.collect],
    [1024, 1024, false, 'bytes', undefined],
  );
});
