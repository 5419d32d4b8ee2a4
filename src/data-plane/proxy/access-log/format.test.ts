// Command operators: Istio's line field by field, lengths, alternatives, missing values, and what is refused.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { JsonObject } from '@bufbuild/protobuf';
import { ARGUMENT_OPERATORS, formatMistake, PLAIN_OPERATORS } from '../../../base/envoy-api/command-operators.ts';
import { HeaderMap, headerName } from '../http/header-map.ts';
import { type ConnectionInfo, FLAG, StreamInfo } from '../http/stream-info.ts';
import { noteConnectTimes } from '../transport-socket/connect-times.ts';
import type { Transport } from '../transport-socket/transport.ts';
import { MADE, WITH_ARGUMENTS } from './argument-operators.ts';
import { compileFormat } from './format.ts';
import { jsonFormat } from './json-format.ts';
import { LOG_NEEDS } from './needs.ts';
import { SIMPLE } from './operators.ts';
import { numberText } from './values.ts';

const connection: ConnectionInfo = {
  id: 7,
  local: { kind: 'ip', ip: '10.244.1.9', port: 3000 },
  directLocal: { kind: 'ip', ip: '10.244.1.9', port: 15006 },
  remote: { kind: 'ip', ip: '10.244.1.4', port: 52710 },
  directRemote: { kind: 'ip', ip: '10.244.1.4', port: 52710 },
  requestedServerName: 'outbound_.80_._.catalog',
  transportProtocol: 'tls',
  alpn: [],
  tls: undefined,
  listenerName: 'virtualInbound',
  chainName: '0.0.0.0_3000',
  direction: 'inbound',
  state: new Map(),
  metadata: new Map(),
};

const WORLD = {
  hostname: 'h.test',
  localAddress: '192.0.2.1',
  variable: (name: string) => (name === 'HOME' ? '/root' : undefined),
  random: () => 0.3,
  now: () => 0,
};

function sample(): StreamInfo {
  const info = new StreamInfo(connection, Date.UTC(2026, 0, 5, 3, 4, 5, 678));
  info.method = 'GET';
  info.path = '/api/items';
  info.authority = 'catalog.istioinaction';
  info.protocol = 'HTTP/1.1';
  info.requestHeaders = new HeaderMap();
  info.requestHeaders.add(headerName('user-agent'), 'curl/8.5.0');
  info.responseCode = 200;
  info.responseDetails = 'via_upstream';
  info.bytesSent = 357;
  info.duration = 3.4;
  info.upstreamCluster = 'inbound|3000||';
  info.upstreamHost = { kind: 'ip', ip: '10.244.1.9', port: 3000 };
  info.upstreamLocal = { kind: 'ip', ip: '127.0.0.6', port: 41233 };
  info.routeName = 'default';
  return info;
}

const ISTIO =
  '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% "%UPSTREAM_TRANSPORT_FAILURE_REASON%" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" "%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%" %UPSTREAM_CLUSTER_RAW% %UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%\n';

test("Istio's default line", () => {
  assert.equal(
    compileFormat(ISTIO, '')(sample()),
    '[2026-01-05T03:04:05.678Z] "GET /api/items HTTP/1.1" 200 - via_upstream - "-" 0 357 3 - "-" "curl/8.5.0" "-" "catalog.istioinaction" "10.244.1.9:3000" inbound|3000|| 127.0.0.6:41233 10.244.1.9:3000 10.244.1.4:52710 outbound_.80_._.catalog default\n',
  );
});

test('operators one by one', () => {
  const info = sample();
  info.flags = FLAG.UF | FLAG.URX;
  info.responseDetails = 'with spaces';
  const print = (text: string) => compileFormat(text, '')(info);
  assert.equal(
    print('%RESPONSE_FLAGS% %RESPONSE_FLAGS_LONG%'),
    'UF,URX UpstreamConnectionFailure,UpstreamRetryLimitExceeded',
  );
  assert.equal(print('%RESPONSE_CODE_DETAILS%'), 'with_spaces');
  assert.equal(print('%REQ(USER-AGENT):4%|%REQ(NONE?USER-AGENT)%|%RESP(A)%'), 'curl|curl/8.5.0|-');
  assert.equal(print('%START_TIME(%Y/%m/%dT%H:%M:%S%z %s)%'), '2026/01/05T03:04:05+0000 1767582245');
  assert.equal(print('100%% %DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %CONNECTION_ID%'), '100% 10.244.1.4 7');
  assert.equal(compileFormat('%RESP(A)%', '', '')(info), '');
});

test('JSON values keep their type; missing ones are null or left out', () => {
  const print = (template: JsonObject, omit = false) => jsonFormat(template, omit, WORLD, '')(sample());
  assert.equal(
    print({ n: '%RESPONSE_CODE%', m: '%RESP(A)%', t: '%PROTOCOL%!', x: { b: [true, null, 1e5, '%RESP(A)%'], a: '' } }),
    '{"m":null,"n":200,"t":"HTTP/1.1!","x":{"a":"","b":[true,null,1e+05,null]}}\n',
  );
  assert.equal(
    print(
      { m: '%RESP(A)%', t: '<%RESP(A)%>', x: { a: '%RESP(A)%' }, l: ['%RESP(A)%', 'y'], n: null, p: '%PROTOCOL%' },
      true,
    ),
    '{"l":["y"],"p":"HTTP/1.1","t":"<>"}\n',
  );
  assert.equal(print({ a: '%RESP(A)%' }, true), '{}\n');
});

test('bytes of clients stay as they are; in JSON, what is no UTF-8 is told byte by byte', () => {
  const info = sample();
  info.routeName = 'rôute';
  info.requestHeaders!.add(headerName('good'), '\xc3\xa9"');
  info.requestHeaders!.add(headerName('bad'), '\xe9\t"\\<');
  const text = compileFormat('%REQ(GOOD)%|%REQ(BAD)%|%ROUTE_NAME%', '');
  assert.equal(text(info), '\xc3\xa9"|\xe9\t"\\<|r\xc3\xb4ute');
  assert.equal(
    jsonFormat({ g: '%REQ(GOOD)%', b: 'é%REQ(BAD)%', r: '%ROUTE_NAME%', c: '%REQ(GOOD):1%' }, false, WORLD, '')(info),
    '{"b":"\xc3\xa9\\u00e9\\u0009\\u0022\\u005c<","c":"\\u00c3","g":"\xc3\xa9\\"","r":"r\xc3\xb4ute"}\n',
  );
});

test('numbers that are no counts are printed in the shorter notation', () => {
  const cases: [number, string][] = [
    [0, '0'],
    [100, '100'],
    [10_000, '10000'],
    [100_000, '1e+05'],
    [120_000, '120000'],
    [0.001, '0.001'],
    [0.0001, '1e-04'],
    [1e-7, '1e-07'],
    [-1.5, '-1.5'],
    [123456789.12345679, '123456789.12345679'],
    [1.2345678901234567e19, '12345678901234567168'],
    [-(2 ** 63), '-9223372036854775808'],
    [1e21, '1e+21'],
    [1.5e300, '1.5e+300'],
    [0.30000000000000004, '0.30000000000000004'],
  ];
  for (const [value, text] of cases) assert.equal(numberText(value), text);
});

test('operators with arguments', () => {
  const info = sample();
  info.path = '/new?a=b%20c&d';
  info.requestHeaders!.add(headerName('x-envoy-original-path'), '/old?a=b%20c');
  info.addMetadata('f', { k: { n: [1, 'x'] }, t: 'text' });
  info.filterState = new Map([['s', 'va"l']]);
  info.requestHeaders!.add(headerName('x-forwarded-client-cert'), 'By=a;Subject="CN=\\"x,y\\"",By=b;URI=u');
  info.routeMetadata = { r: { a: 1 } };
  const print = (text: string) => compileFormat(text, '', '-', WORLD)(info);
  assert.equal(print('%PATH% %PATH(NQ)% %PATH(NQ:PATH)% %PATH(WQ:ORIG)%'), '/old?a=b%20c /old /new /old?a=b%20c');
  assert.equal(print('%QUERY_PARAM(a)% %QUERY_PARAM(z)% %QUERY_PARAMS(ORIG):3%'), 'b c - a=b');
  assert.equal(print('%DYNAMIC_METADATA(f:k:n)% %DYNAMIC_METADATA(f:t):2% %DYNAMIC_METADATA(g)%'), '[1,"x"] te -');
  assert.equal(
    print('%METADATA(ROUTE:r:a)% %FILTER_STATE(s:PLAIN)% %FILTER_STATE(s:PLAIN):2% %FILTER_STATE(s:FIELD:x)%'),
    '1 va"l va -',
  );
  assert.equal(print('%XFCC_VALUE(by)% %XFCC_VALUE(SUBJECT):1% %XFCC_VALUE(uri)% %XFCC_VALUE(dns)%'), 'a CN="x,y" u -');
  assert.equal(
    print('%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT(8)% %DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT(99)%'),
    '10.0.0.0/8 10.244.1.4/32',
  );
  assert.equal(print('%HOSTNAME% %ENVIRONMENT(HOME):3% %ENVIRONMENT(NONE)%'), 'h.test /ro -');
  assert.equal(print('%COALESCE({"operators":[{"command":"REQ","param":"none"},"PROTOCOL"]})%'), 'HTTP/1.1');
  assert.match(print('%UNIQUE_ID%'), /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  info.upstreamTxBegin = info.startTime + 2;
  info.upstreamRxBegin = info.startTime + 5;
  assert.equal(
    print('%COMMON_DURATION(US_TX_BEG:US_RX_BEG:us)% %COMMON_DURATION(DS_RX_BEG:DS_RX_END)% %COMMON_DURATION(x:y:ns)%'),
    '3000 - -',
  );
  assert.equal(print('%REQUESTED_SERVER_NAME(HOST_FIRST)%'), 'catalog.istioinaction');
  assert.equal(
    print('%START_TIME(%E*S %3f %1f %9f %j %a %b %p %I %y %e %R %D)%'),
    '05.678 678 6 678000000 005 Mon Jan AM 03 26  5 03:04 01/05/26',
  );
  assert.equal(
    print('%START_TIME(%c|%r|%k|%P|%C|%U|%W|%V|%G|%^a|%-d|%_d|%04d|%q|%E3S|%ET|%:z|%)%'),
    'Mon Jan  5 03:04:05 2026|03:04:05 AM| 3|am|20|01|01|02|2026|MON|5| 5|0005|%q|05.678|T|+00:00|%',
  );
});

test('moments of an exchange: those that came, in any precision', () => {
  const at = Date.UTC(2026, 0, 5);
  const info = new StreamInfo({ ...connection, acceptedAt: at - 10, helloAt: at - 8, handshakeAt: at - 2.5 }, at);
  const span = (text: string) => compileFormat(`%COMMON_DURATION(${text})%`, '', '-', WORLD)(info);
  assert.equal(span('DS_CX_BEG:DS_HS_BEG'), '2');
  assert.equal(span('DS_HS_BEG:DS_HS_END:us'), '5500');
  assert.equal(span('DS_HS_BEG:DS_HS_END:ms'), '5', 'cut, not rounded');
  assert.equal(span('DS_RX_BEG:DS_HS_BEG'), '-', 'never negative');
  assert.equal(compileFormat('%DOWNSTREAM_HANDSHAKE_DURATION%', '')(info), '-2', 'but from the request it may be');
  for (const name of ['DS_CX_END', 'DS_RX_HDR_END', 'DS_RX_END', 'US_CX_BEG', 'US_CX_END', 'US_HS_END', 'US_TX_BEG'])
    assert.equal(span(`${name}:${name}`), '-', name);
  info.requestHeaders = new HeaderMap();
  info.duration = 7;
  info.responseBegin = at + 6;
  assert.equal(span('DS_RX_HDR_END:DS_TX_BEG:ns'), '6000000');
  assert.equal(span('DS_CX_BEG:DS_TX_END'), '17');
  const transport = {} as Transport;
  info.setUpstream(transport);
  noteConnectTimes(transport, { begin: at + 1, connected: at + 2, secured: at + 4 });
  info.upstreamAsked = at;
  assert.equal(`${span('DS_RX_BEG:US_CX_BEG')} ${span('US_CX_BEG:US_CX_END')} ${span('US_CX_END:US_HS_END')}`, '1 1 2');
  assert.equal(compileFormat('%UPSTREAM_CONNECTION_POOL_READY_DURATION%', '')(info), '4');
});

test('how connections ended: said of connections, never of a request', () => {
  const ends = compileFormat(
    '%DOWNSTREAM_LOCAL_CLOSE_REASON% %DOWNSTREAM_DETECTED_CLOSE_TYPE% %UPSTREAM_LOCAL_CLOSE_REASON% %UPSTREAM_DETECTED_CLOSE_TYPE%',
    '',
  );
  const over = { ...connection, localCloseReason: 'over_connection_limit', resetBy: 'RemoteReset' } as const;
  const tcp = new StreamInfo(over, 0);
  assert.equal(ends(tcp), 'over_connection_limit RemoteReset - -');
  tcp.upstreamCloseType = 'LocalReset';
  tcp.upstreamCloseReason = 'tcp_session_idle_timeout';
  assert.equal(ends(tcp), 'over_connection_limit RemoteReset tcp_session_idle_timeout LocalReset');
  const http = new StreamInfo(over, 0);
  http.requestHeaders = new HeaderMap();
  assert.equal(ends(http), '- Normal - -');
  http.upstreamHost = { kind: 'ip', ip: '10.0.0.1', port: 1 };
  assert.equal(ends(http), '- Normal - Normal');
});

test('what costs something is wanted only when a format asks', () => {
  LOG_NEEDS.bodyBegin = false;
  LOG_NEEDS.fineTime = false;
  compileFormat('%COMMON_DURATION(DS_RX_BEG:US_RX_BEG:ms)% %START_TIME% %START_TIME(%s.%3f)%', '', '-', WORLD);
  assert.deepEqual(LOG_NEEDS, { bodyBegin: false, fineTime: false });
  compileFormat('%COMMON_DURATION(DS_RX_BEG:US_RX_BODY_BEG:ms)%', '');
  assert.deepEqual(LOG_NEEDS, { bodyBegin: true, fineTime: false });
  for (const fine of ['%COMMON_DURATION(a:b:us)%', '%START_TIME(%6f)%', '%START_TIME(%f)%', '%START_TIME(%E*S)%']) {
    LOG_NEEDS.fineTime = false;
    compileFormat(fine, '', '-', WORLD);
    assert.ok(LOG_NEEDS.fineTime, fine);
  }
  LOG_NEEDS.bodyBegin = false;
  LOG_NEEDS.fineTime = false;
});

test('gRPC status by name and number, only of gRPC requests', () => {
  const info = sample();
  const print = (text: string) => compileFormat(text, '')(info);
  assert.equal(print('%GRPC_STATUS%'), '-');
  info.requestHeaders!.add(headerName('content-type'), 'application/grpc');
  info.responseTrailers = new HeaderMap();
  info.responseTrailers.add(headerName('grpc-status'), '4');
  assert.equal(
    print('%GRPC_STATUS% %GRPC_STATUS(SNAKE_STRING)% %GRPC_STATUS(NUMBER)% %GRPC_STATUS_NUMBER%'),
    'DeadlineExceeded DEADLINE_EXCEEDED 4 4',
  );
});

test('what an operator does not take is refused', () => {
  const refused: [string, RegExp][] = [
    ['%REQ%', /REQ requires parameters/],
    ['%PROTOCOL(a)%', /PROTOCOL does not take any parameters or length/],
    ['%PROTOCOL:3%', /PROTOCOL does not take any parameters or length/],
    ['%START_TIME(x):3%', /START_TIME does not allow length to be specified/],
    ['%REQ(A?B?C)%', /More than 1 alternative header/],
    ['%METADATA(X:y)%', /X is not supported type of metadata/],
    ['%PATH(a)%', /only 'WQ'\/'NQ' are allowed/],
    ['%REQUESTED_SERVER_NAME(HOST_ONLY)%', /only 'SNI_ONLY'\/'SNI_FIRST'\/'HOST_FIRST' are allowed/],
    ['%REQUESTED_SERVER_NAME(SNI_FIRST:constructor)%', /only 'ORIG_OR_HOST'\/'HOST'\/'ORIG' are allowed/],
    ['%TLS_JA4_FINGERPRINT:3%', /TLS_JA4_FINGERPRINT does not take any parameters or length/],
    ['%constructor%', /Couldn't find valid command/],
    ['%HOSTNAME%', /is not supported here by this proxy/],
    ['%HOSTNAME(x)%', /HOSTNAME does not take any parameters or length/],
    ['%COMMON_DURATION(DS_RX_BEG)%', /Invalid common duration configuration: DS_RX_BEG\.$/],
    ['%COMMON_DURATION(a:b:s)%', /Invalid common duration precision: s\.$/],
    ['%REQ(a b)%', /Format string contains invalid characters/],
    ['%START_TIME(%n)%', /Format string contains newline/],
    ['%FILTER_STATE(a:X)%', /only support PLAIN\/TYPED\/FIELD\.$/],
    ['%FILTER_STATE(a:FIELD)%', /FIELD should be used with the field name\.$/],
    ['%FILTER_STATE(a:PLAIN:b)%', /FIELD should be used with the field name\.$/],
    ['%XFCC_VALUE(x)%', /XFCC_VALUE command does not support subcommand: x/],
    ['%REQUESTED_SERVER_NAME(SNI_FIRST:x)%', /only 'ORIG_OR_HOST'\/'HOST'\/'ORIG' are allowed/],
    ['%COALESCE({"operators":["NOPE"]})%', /operator at index 0: unknown command: 'NOPE'/],
    ['%COALESCE({"operators":[{"command":"REQ","param":"a","max_length":0}]})%', /must be a positive integer/],
  ];
  for (const [text, reason] of refused) assert.throws(() => compileFormat(text, 'p'), reason, text);
});

test('unknown operators are refused by name', () => {
  assert.throws(() => compileFormat('%NOPE%', 'p'), /p: Not supported field in StreamInfo: NOPE/);
  assert.throws(() => compileFormat('50% of', 'p'), /Couldn't find valid command at position 2/);
});

test('START_TIME without a format is ISO 8601 in UTC, to the millisecond', () => {
  const print = compileFormat('%START_TIME%', 'test');
  for (const ms of [0, 1, 999, 1_000, 1_767_582_245_678, 1_767_582_245_999.9, 1_767_582_246_000]) {
    assert.equal(print(new StreamInfo(connection, ms)), new Date(ms).toISOString());
  }
});

test('admission and the proxy know the same operators', () => {
  assert.deepEqual([...PLAIN_OPERATORS].sort(), [...Object.keys(SIMPLE), ...Object.keys(MADE)].sort());
  assert.deepEqual([...ARGUMENT_OPERATORS.keys()].sort(), Object.keys(WITH_ARGUMENTS).sort());
  for (const [name, { length }] of ARGUMENT_OPERATORS)
    assert.equal(length, WITH_ARGUMENTS[name]?.length !== false, name);
  const READ_BY_PROXY = new Set(['COALESCE', 'CEL', 'TYPED_CEL']);
  const names = [...PLAIN_OPERATORS, ...ARGUMENT_OPERATORS.keys(), 'FOO', 'req', ''];
  const args = [
    'a',
    'a?b',
    'a?b?c',
    '?',
    '%Y',
    '%q',
    '%E',
    'NQ',
    'NQ:PATH',
    'x:PLAIN',
    'x:y',
    'ROUTE:a',
    'FOO:a',
    'NUMBER',
  ];
  const more = [
    'ORIG',
    'DS_RX_BEG:US_TX_END:ms',
    'DS_RX_BEG:x:ms',
    'SNI_FIRST',
    'ALLOW_WHITESPACES',
    '',
    ':',
    'NQ:',
    'a b',
  ];
  for (const name of names)
    for (const argument of [undefined, ...args, ...more])
      for (const length of ['', ':3']) {
        const text = `%${name}${argument === undefined ? '' : `(${argument})`}${length}%`;
        // What it reads is looked at by the proxy alone.
        if (!READ_BY_PROXY.has(name) && formatMistake(text) === undefined)
          assert.doesNotThrow(() => compileFormat(text, 'p', '-', WORLD), text);
      }
  for (const text of [
    '100%',
    '% a',
    '%REQ(a)',
    '%REQ%',
    '%REQ()%',
    '%req(a)%',
    '%FOO%',
    '%PROTOCOL:3%',
    '%START_TIME:3%',
  ])
    assert.ok(formatMistake(text), text);
  for (const text of ['100%%', '%%', '%REQ(a?b):3%', '%START_TIME(%Y-%m)%', '%PROTOCOL%-%DURATION%', 'plain'])
    assert.equal(formatMistake(text), undefined, text);
});
