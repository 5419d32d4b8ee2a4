// Tests of what a client outside the mesh may not say about itself.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { HeaderMap, headerName } from './header-map.ts';
import { clientAddress } from './request-headers.ts';
import type { ConnectionInfo } from './stream-info.ts';

const CLIENT: ConnectionInfo = {
  id: 1,
  local: { kind: 'ip', ip: '10.0.0.1', port: 80 },
  directLocal: { kind: 'ip', ip: '10.0.0.1', port: 80 },
  remote: { kind: 'ip', ip: '203.0.113.9', port: 5000 },
  directRemote: { kind: 'ip', ip: '203.0.113.9', port: 5000 },
  requestedServerName: '',
  transportProtocol: 'raw_buffer',
  alpn: [],
  tls: undefined,
  listenerName: 'l',
  chainName: '',
  direction: 'inbound',
  state: new Map(),
  metadata: new Map(),
};

test('an edge removes the internal headers of a client it does not trust, those of the access log among them', () => {
  const names = ['x-envoy-original-path', 'x-envoy-original-dst-host', 'x-envoy-retry-on', 'x-envoy-internal'];
  const forged = (): HeaderMap => {
    const headers = new HeaderMap();
    for (const name of names) headers.add(headerName(name), 'forged');
    return headers;
  };
  const left = (headers: HeaderMap) => names.filter((name) => headers.get(headerName(name)) === 'forged');
  const settings = { useRemoteAddress: true, trustedHops: 0, skipXffAppend: false };
  const outside = forged();
  assert.equal(clientAddress(outside, CLIENT, settings), false);
  assert.deepEqual(left(outside), []);
  // A sidecar stands behind an edge that has done it.
  const inside = forged();
  clientAddress(inside, CLIENT, { ...settings, useRemoteAddress: false });
  assert.deepEqual(left(inside), names.slice(0, 3));
});
