// Expressions as a log prints them: attributes, the rules of errors, operators and functions, what is refused.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { HeaderMap, headerName, utf8Bytes } from '../http/header-map.ts';
import { type ConnectionInfo, FLAG, StreamInfo } from '../http/stream-info.ts';
import { MAX_CEL_CHARS, MAX_CEL_RESULT_CHARS } from '../limits.ts';
import { CONNECTION } from '../testing/filters.ts';
import { celFilter, celOperator, typedCelOperator } from './expression.ts';

const connection: ConnectionInfo = {
  ...CONNECTION,
  id: 7,
  local: { kind: 'ip', ip: '10.244.1.9', port: 3000 },
  directLocal: { kind: 'ip', ip: '10.244.1.9', port: 15006 },
  remote: { kind: 'ip', ip: '10.244.1.4', port: 52710 },
  directRemote: { kind: 'ip', ip: '10.244.1.4', port: 52710 },
  requestedServerName: 'a.test',
  transportProtocol: 'tls',
  listenerName: 'virtualInbound',
  chainName: 'chain',
  direction: 'inbound',
};

function sample(): StreamInfo {
  const info = new StreamInfo(connection, Date.UTC(2026, 0, 5, 3, 4, 5, 678));
  info.method = 'GET';
  info.path = '/api/items?a=1';
  info.authority = 'catalog';
  info.scheme = 'http';
  info.protocol = 'HTTP/1.1';
  info.requestHeaders = new HeaderMap();
  info.requestHeaders.add(headerName('x-a'), 'one');
  info.requestHeaders.add(headerName('x-a'), 'two');
  info.responseHeaders = new HeaderMap();
  info.responseCode = 503;
  info.responseDetails = 'via_upstream';
  info.flags = FLAG.UDO;
  info.bytesSent = 357;
  info.duration = 3.25;
  info.addMetadata('ns', { s: 'é', n: 7.5, l: ['a', 1], m: { x: 'y' }, z: null });
  return info;
}

const print = (expression: string, info = sample()): unknown => celOperator(utf8Bytes(expression), 'p')(info);
const typed = (expression: string): unknown => {
  const value = typedCelOperator(utf8Bytes(expression), 'p')(sample());
  return typeof value === 'object' ? JSON.parse(value.json) : value;
};

test('attributes', () => {
  const cases: readonly (readonly [string, string | undefined])[] = [
    ['request.path', '/api/items?a=1'],
    ['request["url_path"]', '/api/items'],
    ['request.query', 'a=1'],
    ['request.headers["x-a"]', 'one,two'],
    ['request.headers["X-A"]', 'one,two'],
    ['request.headers[":authority"]', 'catalog'],
    ['request.headers[request.method]', undefined],
    ['request.headers["x-none"]', undefined],
    ['request.nope', undefined],
    ['nope', undefined],
    ['request.time', '2026-01-05T03:04:05.678+00:00'],
    ['request.duration', '3.25ms'],
    ['request.duration < duration("4ms")', 'true'],
    ['response.code', '503'],
    ['response.flags', String(2 ** 29)],
    ['response.grpc_status', '14'],
    ['size(request.headers)', '5'],
    ['"HOST" in request.headers && request.headers[["host"][0]] == "catalog"', 'true'],
    ['request.headers[["X-A"][0]]', 'one,two'],
    ['request.headers == request.headers', 'true'],
    ['size(response.headers)', '1'],
    ['metadata.filter_metadata["ns"]["z"]', 'NULL'],
    ['response.backend_latency', undefined],
    ['connection.id', '7'],
    ['connection.id == 7', 'true'],
    ['connection.mtls', 'false'],
    ['connection.tls_version', undefined],
    ['source.address', '10.244.1.4:52710'],
    ['destination.port', '3000'],
    ['xds.listener_direction', '1'],
    ['xds.filter_chain_name', 'chain'],
    ['xds.cluster_name', undefined],
    ['metadata.filter_metadata["ns"]["s"]', utf8Bytes('é')],
    ['metadata.filter_metadata["ns"].m.x', 'y'],
    ['metadata.filter_metadata["ns"]["n"]', '7.5'],
    ['metadata.filter_metadata["ns"]["__proto__"]', undefined],
    ['metadata.filter_metadata["constructor"]', undefined],
    ['filter_state["a"]', undefined],
  ];
  for (const [expression, text] of cases) assert.equal(print(expression), text, expression);
});

test('TCP has no request', () => {
  const info = new StreamInfo(connection, 0);
  assert.equal(print('request.path', info), undefined);
  assert.equal(print('has(request.headers.host) || request.size == 0', info), 'true');
  assert.equal(print('response.code', info), undefined);
});

test('an error is passed over where the other side decides', () => {
  const cases: readonly (readonly [string, string | undefined])[] = [
    ['nope || true', 'true'],
    ['true || nope', 'true'],
    ['nope && false', 'false'],
    ['nope && true', undefined],
    ['1 || true', 'true'],
    ['1 || false', undefined],
    ['true ? 1 : nope', '1'],
    ['nope ? 1 : 2', undefined],
    ['[nope]', undefined],
    ['nope == nope', undefined],
    ['has(nope.a)', undefined],
    ['has(request.nope)', 'false'],
    // Nothing passes over a match of what is no text, as in Envoy.
    ['nope.matches("a") || true', undefined],
    ['true || nope.matches("a")', 'true'],
    ['[nope.matches("a")] == [] || true', undefined],
    ['has({"a": {"b": nope.matches("a")}}.a.b) || true', undefined],
    ['(nope.matches("a") ? 1 : 2) == 1 || true', undefined],
  ];
  for (const [expression, text] of cases) assert.equal(print(expression), text, expression);
});

test('numbers keep their kind, and are compared across kinds', () => {
  const cases: readonly (readonly [string, string | undefined])[] = [
    ['1 + 2 * 3', '7'],
    ['-7 / 2', '-3'],
    ['1 + 1.0', undefined],
    ['1 == 1.0', 'true'],
    ['1u < 1.5', 'true'],
    ['9223372036854775807 + 1', undefined],
    ['-9223372036854775808', '-9223372036854775808'],
    ['1u - 2u', undefined],
    ['1 / 0', undefined],
    ['1.0 / 0.0', 'inf'],
    ['1234567.0', '1.23457e+06'],
    ['0.00001', '1e-05'],
    ['0.1 + 0.2', '0.3'],
    ['9007199254740993 == 9007199254740992.0', 'false'],
    ['"1" == 1', 'false'],
    ['"1" < 1', undefined],
    ['2 in [1, 2]', 'true'],
    ['duration("0") in {"a": 1}', undefined],
  ];
  for (const [expression, text] of cases) assert.equal(print(expression), text, expression);
});

test('expressions are matched in linear time, by characters and not by bytes', () => {
  assert.equal(print('"aé".matches("^a.$")'), 'true');
  assert.equal(print('size("aé")'), '2');
  assert.equal(print('request.path.matches("(a|a?)+$") || true'), 'true');
});

test('times are read as they are written, and printed in full', () => {
  const cases: readonly (readonly [string, string | undefined])[] = [
    ['duration(".5s")', '500ms'],
    ['duration("1h2m3.5s")', '1h2m3.5s'],
    ['duration("-90m")', '-1h30m'],
    ['duration("1d")', undefined],
    ['duration("999999999999h")', undefined],
    ['timestamp("2020-02-29T00:00:00.5+01:00")', '2020-02-28T23:00:00.5+00:00'],
    ['timestamp("2020-02-30T00:00:00Z")', undefined],
    ['timestamp("1969-12-31T23:59:59.5Z")', '1969-12-31T23:59:59.5+00:00'],
    ['timestamp("0001-01-01T00:00:00Z") - duration("1s")', '0-12-31T23:59:59+00:00'],
    ['timestamp("9999-12-31T23:59:59Z") + duration("1s")', '10000-01-01T00:00:00+00:00'],
    ['timestamp("2020-12-31T00:00:00Z").getDayOfYear()', '365'],
    ['int(timestamp("1969-12-31T23:59:59.5Z"))', '-1'],
  ];
  for (const [expression, text] of cases) assert.equal(print(expression), text, expression);
});

test('in JSON a typed value is what it is', () => {
  const cases: readonly (readonly [string, unknown])[] = [
    ['response.code', 503],
    ['request.method', 'GET'],
    ['connection.mtls', false],
    ['metadata.filter_metadata["ns"]', { l: ['a', 1], m: { x: 'y' }, n: 7.5, s: utf8Bytes('é'), z: null }],
    ['[1, "a", {"b": 1u}]', [1, 'a', { b: 1 }]],
    ['b"ab"', 'YWI='],
    ['duration("1.5s")', '1.500s'],
    ['timestamp("2020-01-01T00:00:00.5Z")', '2020-01-01T00:00:00.500Z'],
    ['timestamp("0001-01-01T00:00:00Z")', '0001-01-01T00:00:00Z'],
    ['timestamp("9999-12-31T23:59:59Z") + duration("1s")', null],
    [
      'request.headers',
      { ':authority': 'catalog', ':method': 'GET', ':path': '/api/items?a=1', ':scheme': 'http', 'x-a': 'one,two' },
    ],
    ['[1.0 / 0.0]', [null]],
    ['request', null],
    ['request.nope', undefined],
  ];
  for (const [expression, value] of cases) assert.deepEqual(typed(expression), value, expression);
});

test('a filter keeps what is true', () => {
  const keeps = (expression: string): boolean => celFilter(expression, 'p')(sample());
  assert.equal(keeps('response.code >= 400'), true);
  assert.equal(keeps('response.code < 400'), false);
  for (const other of ['request.path', 'nope', '1']) assert.equal(keeps(other), false, other);
});

test('what Envoy has switched off, and what is not known here, is refused by name', () => {
  const refused: readonly (readonly [string, RegExp])[] = [
    ['1 +', /^p: Not able to parse expression: /],
    ['', /^p: Not able to parse expression: /],
    ['99999999999999999999', /invalid int literal/],
    ['foo(1)', /failed to create an expression: .*foo/],
    ['string(1)', /failed to create an expression: .*string/],
    ['[1].exists(x, x == 1)', /Comprehension support is disabled/],
    ['request.path.matches(request.method)', /no literal/],
    ['request.time.getHours("UTC")', /getHours\(\) with a time zone is not supported/],
    ['xds.node', /'xds\.node' is not supported/],
    ['metadata', /'metadata' as a whole is not supported/],
    ['true ? xds.route_metadata : 1', /'xds\.route_metadata' as a whole/],
    ['has(request)', /has\(\) argument must be a field selection/],
    ['"a".matches("(")', /failed to create an expression: invalid regular expression: /],
    [`"a".matches("${'a'.repeat(200)}")`, /regular expression exceeds max allowed size/],
    ['re.extract("a", "b", "c")', /'re\.extract' is not supported/],
    [`"${'a'.repeat(MAX_CEL_CHARS)}"`, /expression longer than/],
    ['('.repeat(500), /Not able to parse/],
  ];
  for (const [expression, reason] of refused)
    assert.throws(() => celOperator(expression, 'p'), { name: 'ConfigError', message: reason }, expression);
});

test('what an expression prints is bounded', () => {
  const info = sample();
  info.requestHeaders!.add(headerName('x-long'), 'a'.repeat(2 * MAX_CEL_RESULT_CHARS));
  assert.equal(String(print('request.headers["x-long"]', info)).length, MAX_CEL_RESULT_CHARS);
  const json = typedCelOperator('[request.headers["x-long"]]', 'p')(info) as { readonly json: string };
  assert.equal(json.json, 'null');
});

test('whatever is written is compiled or refused, and never throws for a request', () => {
  const word = fc.constantFrom(
    ...['request', '.', 'path', '[', ']', '"a"', '1', '1u', '2.5', '+', '-', '*', '/', '%', '==', '<', '&&', '||', '!'],
    ...['?', ':', '(', ')', 'has', 'size', '.size()', '{', '}', ',', 'in', 'null', 'true', '.contains', 'metadata'],
  );
  fc.assert(
    fc.property(fc.array(word, { maxLength: 12 }), (words) => {
      const expression = words.join(' ');
      let operator: ReturnType<typeof typedCelOperator>;
      try {
        operator = typedCelOperator(expression, 'p');
      } catch (error) {
        assert.equal((error as Error).name, 'ConfigError');
        return;
      }
      const value = operator(sample());
      assert.ok(['undefined', 'object', 'string'].includes(typeof value));
    }),
  );
});
