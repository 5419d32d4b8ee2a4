// Edges of HTTP filters that need a clock, chance, or a state that conformance cases cannot set: throttling, limits of
// faults, health state, token buckets, gRPC counts and gRPC-web. What clients see: test/conformance/proxy/cases.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type DescMessage, fromJson, type JsonObject, type MessageShape } from '@bufbuild/protobuf';
import { BufferSchema } from '#proto/envoy/extensions/filters/http/buffer/v3/buffer_pb.js';
import { HTTPFaultSchema } from '#proto/envoy/extensions/filters/http/fault/v3/fault_pb.js';
import { FilterConfigSchema as GrpcStatsSchema } from '#proto/envoy/extensions/filters/http/grpc_stats/v3/config_pb.js';
import { HealthCheckSchema } from '#proto/envoy/extensions/filters/http/health_check/v3/health_check_pb.js';
import { LocalRateLimitSchema } from '#proto/envoy/extensions/filters/http/local_ratelimit/v3/local_rate_limit_pb.js';
import { EMPTY_RUNTIME } from '../runtime/runtime.ts';
import { StatsStore } from '../stats/stats.ts';
import { filterBench } from '../testing/filters.ts';
import { createBufferFilter, readBuffer } from './buffer.ts';
import { createFaultFilter } from './fault.ts';
import { readFault } from './fault-settings.ts';
import { GrpcFrameCounter } from './grpc-frames.ts';
import { createGrpcStatsFilter } from './grpc-stats.ts';
import { createGrpcWebFilter } from './grpc-web.ts';
import { createHealthCheckFilter } from './health-check.ts';
import { createLocalRateLimitFilter, readLocalRateLimit } from './local-rate-limit.ts';

const read = <D extends DescMessage>(schema: D, json: JsonObject): MessageShape<D> => fromJson(schema, json);
const ALWAYS = { percentage: { numerator: 100 } };

function fault(config: JsonObject) {
  return filterBench((context) => [
    createFaultFilter(readFault(read(HTTPFaultSchema, config), 'f'), {
      name: 'fault',
      statPrefix: 'http.test.',
      ...context,
    }),
  ]);
}

test('a delayed request goes on when the time is over, and a client that left is not waited for', async () => {
  const bench = fault({ delay: { fixed_delay: '2s', ...ALWAYS } });
  const one = bench.request('GET /');
  const gone = bench.request('GET /');
  assert.equal(one.upstream(), undefined);
  assert.equal(bench.counter('http.test.fault.active_faults'), 2);
  gone.stream.onRequestReset('disconnect', 'downstream_remote_disconnect');
  assert.equal(bench.counter('http.test.fault.active_faults'), 1);
  await bench.clock.advance(1_999);
  assert.equal(one.upstream(), undefined);
  await bench.clock.advance(1);
  assert.ok(one.upstream());
  assert.equal(gone.upstream(), undefined);
});

test('no more faults at once than allowed', async () => {
  const bench = fault({ delay: { fixed_delay: '2s', ...ALWAYS }, max_active_faults: 1 });
  const first = bench.request('GET /');
  const second = bench.request('GET /');
  assert.equal(first.upstream(), undefined);
  assert.ok(second.upstream());
  assert.equal(bench.counter('http.test.fault.faults_overflow'), 1);
});

test('a request that is redirected inside ends its fault and may have another', async () => {
  const bench = fault({ delay: { fixed_delay: '2s', ...ALWAYS }, max_active_faults: 1 });
  const { stream } = bench.request('GET /');
  await bench.clock.advance(2_000);
  stream.restart(302, []);
  assert.equal(bench.counter('http.test.fault.delays_injected'), 2);
  assert.equal(bench.counter('http.test.fault.active_faults'), 1);
  stream.onRequestReset('disconnect', 'downstream_remote_disconnect');
  assert.equal(bench.counter('http.test.fault.active_faults'), 0);
});

test('a throttled response leaves at the pace it was given, and its end comes last', async () => {
  const bench = fault({ response_rate_limit: { fixed_limit: { limit_kbps: 1 }, ...ALWAYS } });
  const one = bench.request('GET /');
  one.respond(200, {}, ['x'.repeat(2_048)], { t: '1' });
  const burst = one.body().length;
  assert.ok(burst >= 1_000 && burst <= 1_024, `a second's worth at once, not ${burst}`);
  assert.equal(one.ended(), false);
  await bench.clock.advance(500);
  assert.ok(Math.abs(one.body().length - burst - 512) <= 60, String(one.body().length));
  await bench.clock.advance(2_000);
  assert.deepEqual([one.body().length, one.trailers(), one.ended()], [2_048, { t: '1' }, true]);
});

test('runtime keys override what the configuration says', () => {
  const runtime = {
    ...EMPTY_RUNTIME,
    share: (key: string, fallback: number) => (key === 'my.abort' ? 0 : fallback),
    number: (key: string, fallback: number) => (key === 'fault.http.abort.http_status' ? 599 : fallback),
  };
  const make = (extra: JsonObject) =>
    filterBench(
      (context) => [
        createFaultFilter(readFault(read(HTTPFaultSchema, { abort: { http_status: 400, ...ALWAYS }, ...extra }), 'f'), {
          name: 'fault',
          statPrefix: '',
          ...context,
        }),
      ],
      { runtime },
    );
  assert.equal(make({}).request('GET /').status(), 599);
  assert.ok(make({ abort_percent_runtime: 'my.abort' }).request('GET /').upstream());
});

test('a local rate limit fills again, and a connection may have its own', async () => {
  const config = {
    stat_prefix: 's',
    token_bucket: { max_tokens: 1, tokens_per_fill: 1, fill_interval: '1s' },
    filter_enabled: { default_value: { numerator: 100 } },
    filter_enforced: { default_value: { numerator: 100 } },
  };
  const make = (extra: JsonObject) =>
    filterBench((context) => [
      createLocalRateLimitFilter(
        readLocalRateLimit(
          read(LocalRateLimitSchema, { ...config, ...extra }),
          { runtime: EMPTY_RUNTIME, clock: context.clock },
          'l',
        ),
        {
          name: 'limit',
          ...context,
        },
      ),
    ]);
  const shared = make({});
  const allowed = () => shared.request('GET /').upstream() !== undefined;
  assert.deepEqual([allowed(), allowed()], [true, false]);
  await shared.clock.advance(1_000);
  assert.deepEqual([allowed(), allowed()], [true, false]);
  assert.equal(shared.counter('s.http_local_rate_limit.enforced'), 2);
  assert.equal(shared.counter('s.http_local_rate_limit.ok'), 2);
  const own = make({ local_rate_limit_per_downstream_connection: true });
  assert.deepEqual([own.request('GET /').status(), own.request('GET /').status()], [0, 0]);
});

test('a buffered request is refused as soon as it is too large, and none is held for ever', () => {
  const bench = filterBench(() => [
    createBufferFilter(readBuffer(read(BufferSchema, { max_request_bytes: 3 }), 'b'), { name: 'b' }),
  ]);
  const one = bench.request('POST /', {}, { body: true });
  one.send('ab');
  one.send('cd');
  assert.deepEqual([one.status(), one.body()], [413, 'Payload Too Large']);
  assert.equal(one.upstream(), undefined);
  assert.throws(() => readBuffer(read(BufferSchema, { max_request_bytes: 1_000_000_000 }), 'b'), /keeps at most/);
});

test('health checks fail when the proxy was told to fail, and every response says so', () => {
  let failed = false;
  const bench = filterBench(({ clock }) => [
    createHealthCheckFilter(
      read(HealthCheckSchema, {
        pass_through_mode: false,
        headers: [{ name: ':path', string_match: { exact: '/hc' } }],
      }),
      {
        name: 'hc',
        clock,
        stats: new StatsStore(),
        statPrefix: 'http.in.',
        clusters: { find: () => undefined },
        healthFailed: () => failed,
        serviceCluster: 'me',
      },
      'hc',
    ),
  ]);
  const ok = bench.request('GET /hc');
  assert.deepEqual([ok.status(), ok.headers()['x-envoy-upstream-healthchecked-cluster']], [200, 'me']);
  failed = true;
  const bad = bench.request('GET /hc');
  assert.deepEqual([bad.status(), bad.headers()['x-envoy-immediate-health-check-fail']], [503, 'true']);
  const other = bench.request('GET /x');
  other.respond(200);
  assert.equal(other.headers()['x-envoy-immediate-health-check-fail'], 'true');
});

test('gRPC messages are counted across any split of bytes', () => {
  const bytes = Buffer.from([0, 0, 0, 0, 3, 1, 2, 3, 0, 0, 0, 0, 0, 1, 0, 0, 1, 0, ...new Array<number>(256).fill(7)]);
  for (let size = 1; size < 20; size++) {
    const counter = new GrpcFrameCounter();
    for (let at = 0; at < bytes.length; at += size) counter.add(bytes, at, Math.min(bytes.length, at + size));
    assert.equal(counter.messages, 3, `in pieces of ${size}`);
  }
});

test('gRPC calls are counted by cluster and method; unlisted methods together', () => {
  const bench = filterBench(({ stats }) => [
    createGrpcStatsFilter(
      read(GrpcStatsSchema, {
        individual_method_stats_allowlist: { services: [{ name: 'a.S', method_names: ['M'] }] },
        replace_dots_in_grpc_service_name: true,
        emit_filter_state: true,
      }),
      { name: 'g', stats },
      'g',
    ),
  ]);
  const call = (path: string, status: string) => {
    const one = bench.request(`POST ${path}`, { 'content-type': 'application/grpc' }, { body: true });
    one.stream.info.upstreamCluster = 'app';
    one.send('\0\0\0\0\x01x');
    one.end();
    one.respond(200, { 'content-type': 'application/grpc' }, ['\0\0\0\0\0', '\0\0\0\0\0'], { 'grpc-status': status });
    return one;
  };
  const one = call('/a.S/M', '0');
  call('/a.S/Other', '5');
  assert.equal(bench.counter('cluster.app.grpc.a_S.M.success'), 1);
  assert.equal(bench.counter('cluster.app.grpc.a_S.M.0'), 1);
  assert.equal(bench.counter('cluster.app.grpc.a_S.M.request_message_count'), 1);
  assert.equal(bench.counter('cluster.app.grpc.a_S.M.response_message_count'), 2);
  assert.equal(bench.counter('cluster.app.grpc.failure'), 1);
  assert.equal(bench.counter('cluster.app.grpc.5'), 1);
  assert.equal(one.stream.info.filterState?.get('envoy.filters.http.grpc_stats'), '1,2');
});

test('gRPC-web: text in, text out, trailers as the last frame', () => {
  const bench = filterBench(() => [createGrpcWebFilter({ name: 'w' })]);
  const one = bench.request('POST /s/m', { 'content-type': 'application/grpc-web-text' }, { body: true });
  const text = Buffer.from('\0\0\0\0\x02hi', 'latin1').toString('base64');
  one.send(text.slice(0, 5));
  one.send(text.slice(5));
  one.end();
  assert.equal(one.upstream()?.body, '\0\0\0\0\x02hi');
  assert.equal(one.upstream()?.headers['content-type'], 'application/grpc');
  one.respond(200, { 'content-type': 'application/grpc' }, ['\0\0\0\0\x01', 'a'], { 'grpc-status': '0' });
  assert.equal(one.headers()['content-type'], 'application/grpc-web-text+proto');
  const groups = one.body().match(/[A-Za-z0-9+/]+={0,2}/g) ?? [];
  const decoded = Buffer.concat(groups.map((group) => Buffer.from(group, 'base64'))).toString('latin1');
  assert.equal(decoded, '\0\0\0\0\x01a\x80\0\0\0\x0fgrpc-status:0\r\n');
  assert.equal(one.trailers(), undefined);
  const bad = bench.request('POST /s/m', { 'content-type': 'application/grpc-web-text' }, { body: true });
  bad.send('!!!!');
  assert.equal(bad.upstream()?.body, '');
  assert.ok(bad.stream.finished);
});
