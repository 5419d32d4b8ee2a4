// Command operators: Istio's line field by field, lengths, alternatives, missing values, and what is refused.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { HeaderMap, headerName } from '../http/header-map.ts';
import { type ConnectionInfo, FLAG, StreamInfo } from '../http/stream-info.ts';
import { compileFormat, compileJsonValue } from './format.ts';

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

test('JSON values keep their type; missing ones have none', () => {
  assert.equal(compileJsonValue('%RESPONSE_CODE%', '')(sample()), 200);
  assert.equal(compileJsonValue('%RESP(A)%', '')(sample()), undefined);
  assert.equal(compileJsonValue('%PROTOCOL%!', '')(sample()), 'HTTP/1.1!');
});

test('unknown operators are refused by name', () => {
  assert.throws(() => compileFormat('%NOPE%', 'p'), /p: Not supported field in StreamInfo: NOPE/);
  assert.throws(() => compileFormat('50% of', 'p'), /is not a command operator/);
});
