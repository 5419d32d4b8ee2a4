// Command operators about TLS: server names and fingerprints of clients.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type ConnectionInfo, StreamInfo } from '../http/stream-info.ts';
import { CONNECTION } from '../testing/filters.ts';
import { compileFormat } from './format.ts';

function print(text: string, connection: Partial<ConnectionInfo>, authority = ''): string {
  const info = new StreamInfo({ ...CONNECTION, ...connection }, 0);
  info.authority = authority;
  return compileFormat(text, '')(info);
}

test('a server name that is none is not printed as it came', () => {
  const named = (requestedServerName: string): string => print('%REQUESTED_SERVER_NAME%', { requestedServerName });
  assert.equal(named('outbound_.80_._.a.b'), 'outbound_.80_._.a.b');
  assert.equal(named('a b"\n\u00e9:1'), 'invalid:a_b____1');
  assert.equal(named(''), '-');
});

test('the host before or behind the server name, with its port', () => {
  const both = '%REQUESTED_SERVER_NAME(HOST_FIRST)% %REQUESTED_SERVER_NAME(SNI_FIRST:HOST)%';
  assert.equal(print(both, { requestedServerName: 'sni' }, 'host:80'), 'host:80 sni');
  assert.equal(print(both, { requestedServerName: 'sni' }), 'sni sni');
  assert.equal(print(both, {}, 'host:80'), 'host:80 host:80');
});

test('fingerprints where somebody computed them', () => {
  const both = '%TLS_JA3_FINGERPRINT% %TLS_JA4_FINGERPRINT%';
  assert.equal(print(both, {}), '- -');
  assert.equal(print(both, { fingerprints: { ja3: '', ja4: 't13' } }), '- t13');
});
