// Trace contexts read and written, what is refused, sampling by request id, and spans given to an exporter.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fromJson, type JsonObject } from '@bufbuild/protobuf';
import fc from 'fast-check';
import { HttpConnectionManagerSchema } from '#proto/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js';
import { extensionRegistry } from '../config/bootstrap.ts';
import { HeaderMap, headerName } from '../http/header-map.ts';
import { StreamInfo } from '../http/stream-info.ts';
import { EMPTY_RUNTIME } from '../runtime/runtime.ts';
import { StatsScope, StatsStore } from '../stats/stats.ts';
import { b3Propagation } from './b3.ts';
import { W3C } from './context.ts';
import { compileTracing, type FinishedSpan, Tracer, tracingCounters } from './tracer.ts';

const B3 = b3Propagation({ wide: true, shared: false });

const DEPS = {
  hostname: 'h',
  localAddress: '192.0.2.1',
  variable: (name: string) => (name === 'REGION' ? 'eu' : undefined),
  random: () => 0.5,
  now: () => 0,
};

const OTEL = {
  name: 'otel',
  typed_config: { '@type': 'type.googleapis.com/envoy.config.trace.v3.OpenTelemetryConfig', service_name: 's' },
};

function headersOf(given: Record<string, string>): HeaderMap {
  const headers = new HeaderMap();
  for (const [name, value] of Object.entries(given)) headers.add(headerName(name), value);
  return headers;
}

const bits = (digits: number) =>
  fc
    .string({ unit: fc.constantFrom(...'0123456789abcdef'), minLength: digits, maxLength: digits })
    .filter((text) => !/^0+$/.test(text));

test('what is written is read again, W3C and B3', () => {
  fc.assert(
    fc.property(bits(32), bits(16), fc.boolean(), (traceId, spanId, sampled) => {
      for (const propagation of [W3C, B3]) {
        const headers = new HeaderMap();
        propagation.inject({ traceId, spanId, parentId: '', sampled, state: '' }, headers);
        const read = propagation.extract(headers);
        assert.ok(read.kind === 'context' && read.decided);
        assert.deepEqual([read.context.traceId, read.context.spanId, read.context.sampled], [traceId, spanId, sampled]);
      }
    }),
  );
});

test('no text makes a context that is none', () => {
  const piece = fc.string({ unit: fc.constantFrom('0', '1', 'a', 'f', 'F', '-', 'g', ' '), maxLength: 60 });
  fc.assert(
    fc.property(piece, piece, (a, b) => {
      for (const read of [
        W3C.extract(headersOf({ traceparent: a })),
        B3.extract(headersOf({ b3: a })),
        B3.extract(headersOf({ 'x-b3-traceid': a, 'x-b3-spanid': b })),
      ]) {
        if (read.kind !== 'context') continue;
        assert.match(read.context.traceId, /^(?:[0-9a-f]{16}){1,2}$/);
        assert.match(read.context.spanId, /^[0-9a-f]{16}$/);
      }
    }),
    { numRuns: 2000 },
  );
  const bad = [
    'ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
    '00-00000000000000000000000000000000-b7ad6b7169203331-01',
    '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more',
  ];
  for (const traceparent of bad) assert.equal(W3C.extract(headersOf({ traceparent })).kind, 'invalid', traceparent);
});

test('a B3 context in one header, with parent; it leaves in one', () => {
  const read = B3.extract(headersOf({ b3: '463ac35c9f6413ad-a2fb4a1d1a96d312-1-0020000000000001' }));
  assert.ok(read.kind === 'context');
  assert.equal(read.context.traceId, '463ac35c9f6413ad');
  const next = B3.next(read, false, () => 0.5)!;
  assert.deepEqual([next.parentId, next.sampled], ['a2fb4a1d1a96d312', true]);
  const headers = new HeaderMap();
  B3.inject(next, headers);
  assert.equal(headers.get(headerName('x-b3-parentspanid')), 'a2fb4a1d1a96d312');
  const single = headersOf({ b3: '0' });
  B3.inject(next, single);
  assert.equal(single.get(headerName('b3')), `463ac35c9f6413ad-${next.spanId}-1-a2fb4a1d1a96d312`);
  assert.equal(single.has(headerName('x-b3-traceid')), false);
});

const SCOPE = new StatsScope(new StatsStore(), 'http.in.');

function tracer(tracing: JsonObject, exporter?: { export(span: FinishedSpan): void }, runtime = EMPTY_RUNTIME) {
  const message = fromJson(HttpConnectionManagerSchema, { tracing }, { registry: extensionRegistry });
  return new Tracer(
    compileTracing(message, DEPS, false, 'hcm')!,
    runtime,
    () => 0.25,
    tracingCounters(SCOPE),
    exporter,
  );
}

const ID = '00000032-e29b-4fd4-a716-446655440000';

function started(made: Tracer, given: Record<string, string>) {
  const headers = headersOf(given);
  const info = new StreamInfo(
    { remote: { kind: 'ip', ip: '10.0.0.1', port: 1 }, metadata: new Map(), state: new Map() } as never,
    0,
  );
  info.requestHeaders = headers;
  made.start(headers, info, undefined);
  return { headers, info, reason: headers.get(headerName('x-request-id'))?.[14] };
}

test('the reason stands in the request id, and every hop decides alike by it', () => {
  // 0x32 = 50 of 10,000.
  assert.equal(started(tracer({ random_sampling: { value: 0.5 } }), { 'x-request-id': ID }).reason, '4');
  assert.equal(started(tracer({ random_sampling: { value: 0.51 } }), { 'x-request-id': ID }).reason, '9');
  assert.equal(
    started(tracer({ random_sampling: { value: 0 } }), { 'x-request-id': ID, 'x-envoy-force-trace': '1' }).reason,
    'a',
  );
  assert.equal(
    started(tracer({ random_sampling: { value: 0 } }), { 'x-request-id': ID, 'x-client-trace-id': 'x' }).reason,
    'b',
  );
  const marked = ID.replace('-4fd4', '-9fd4');
  assert.equal(started(tracer({ random_sampling: { value: 0 } }), { 'x-request-id': marked }).reason, '9');
  assert.equal(started(tracer({ overall_sampling: { value: 50 } }), { 'x-request-id': marked }).reason, '4');
  assert.equal(started(tracer({ provider: OTEL }), { 'x-request-id': 'no-uuid' }).info.traced, false);
  assert.equal(started(tracer({ provider: OTEL }), { 'x-request-id': ID }).info.traced, true);
  const runtime = {
    ...EMPTY_RUNTIME,
    share: (key: string, fallback: number) => (key === 'tracing.random_sampling' ? 0 : fallback),
  };
  assert.equal(started(tracer({}, undefined, runtime), { 'x-request-id': ID }).reason, '4');
});

test('contexts are carried and made; spans go to the exporter with their tags', () => {
  const spans: FinishedSpan[] = [];
  const made = tracer(
    {
      provider: OTEL,
      custom_tags: [
        { tag: 'fixed', literal: { value: 'v' } },
        { tag: 'region', environment: { name: 'REGION' } },
        { tag: 'who', request_header: { name: 'x-user', default_value: 'nobody' } },
        { tag: 'none', environment: { name: 'NONE' } },
      ],
    },
    { export: (span) => spans.push(span) },
  );
  const parent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
  const { headers, info } = started(made, { 'x-request-id': ID, traceparent: parent, tracestate: 'a=1' });
  assert.match(headers.get(headerName('traceparent'))!, /^00-0af7651916cd43dd8448eb211c80319c-40{7}40{7}-01$/);
  assert.equal(headers.get(headerName('tracestate')), 'a=1');
  made.finish(info, 'op');
  assert.equal(spans.length, 1);
  assert.deepEqual([spans[0]!.name, spans[0]!.context.parentId], ['op', 'b7ad6b7169203331']);
  assert.deepEqual(spans[0]!.tags, [
    ['fixed', 'v'],
    ['region', 'eu'],
    ['who', 'nobody'],
  ]);
  // What makes no sense is left as it is.
  assert.equal(
    started(made, { 'x-request-id': ID, traceparent: 'junk' }).headers.get(headerName('traceparent')),
    'junk',
  );
});

test('a provider that would have to report is refused by name', () => {
  const typed_config = {
    '@type': 'type.googleapis.com/envoy.config.trace.v3.OpenTelemetryConfig',
    grpc_service: { envoy_grpc: { cluster_name: 'c' } },
  };
  assert.throws(
    () => tracer({ provider: { name: 'otel', typed_config } }),
    /grpc_service: field of .*OpenTelemetryConfig is not supported/,
  );
});
