import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { HeaderName } from '../../http/header-map.ts';
import { grpcQuestion, type HttpAnswer, httpQuestion } from './http-probe.ts';
import type { HttpCheck } from './settings.ts';

const CHECK: HttpCheck = {
  kind: 'http',
  path: '/',
  host: '',
  method: 'GET',
  http2: false,
  expected: [{ from: 200, to: 201 }],
  retriable: [{ from: 429, to: 430 }],
  add: [],
  remove: [],
  serviceName: undefined,
  send: undefined,
  receive: [],
  bodyBytes: 1024,
};
function answer(
  status: number,
  headers: Record<string, string> = {},
  body: string | Buffer = '',
  trailers = {},
): HttpAnswer {
  const get = (from: Record<string, string>) => (name: HeaderName) => from[name.text];
  return { status, header: get(headers), trailer: get(trailers), body: Buffer.from(body) };
}
const judge = (check: Partial<HttpCheck>, given: HttpAnswer) =>
  httpQuestion({ ...CHECK, ...check }, 'a', () => {}).judge(given);

test('answers of an HTTP check', () => {
  assert.equal(judge({}, answer(200)).kind, 'healthy');
  assert.deepEqual(judge({}, answer(503)), { kind: 'failed', why: 'active', retriable: false, exclude: false });
  assert.deepEqual(judge({}, answer(429)), { kind: 'failed', why: 'active', retriable: true, exclude: false });
  assert.equal(judge({}, answer(200, { 'x-envoy-degraded': '' })).kind, 'degraded');
  const excluded = judge({}, answer(503, { 'x-envoy-immediate-health-check-fail': 'true' }));
  assert.ok(excluded.kind === 'failed' && excluded.exclude);
});

test('the service must be the one that is meant', () => {
  const check = { serviceName: (text: string) => text.startsWith('web') };
  const header = 'x-envoy-upstream-healthchecked-cluster';
  assert.equal(judge(check, answer(200, { [header]: 'web-1' })).kind, 'healthy');
  assert.equal(judge(check, answer(200, { [header]: 'db-1' })).kind, 'failed');
  assert.equal(judge(check, answer(200)).kind, 'failed');
});

test('the body must hold what is expected', () => {
  const check = { receive: [Buffer.from('o'), Buffer.from('k')] };
  assert.equal(judge(check, answer(200, {}, 'is ok')).kind, 'healthy');
  assert.equal(judge(check, answer(200, {}, 'ko')).kind, 'failed');
});

test('a gRPC check asks in frames and reads the status', () => {
  const question = grpcQuestion({ kind: 'grpc', service: 's', authority: '', add: [] }, 'a');
  assert.deepEqual(question.body, Buffer.from([0, 0, 0, 0, 3, 10, 1, 115]));
  const frame = (status: number) => Buffer.from([0, 0, 0, 0, 2, 8, status]);
  const ok = { 'grpc-status': '0' };
  assert.equal(question.judge(answer(200, {}, frame(1), ok)).kind, 'healthy');
  assert.equal(question.judge(answer(200, {}, frame(2), ok)).kind, 'failed');
  assert.equal(question.judge(answer(200, { 'grpc-status': '5' })).kind, 'failed');
  assert.equal(question.judge(answer(200, {}, Buffer.from([0, 0, 0, 0, 0]), ok)).kind, 'failed');
  assert.equal(question.judge(answer(200, {}, Buffer.from([1, 0]), ok)).kind, 'failed');
  assert.deepEqual(grpcQuestion({ kind: 'grpc', service: '', authority: '', add: [] }, 'a').body, Buffer.alloc(5));
});
