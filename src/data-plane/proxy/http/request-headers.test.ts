// Tests of what a client outside the mesh may not say about itself.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseCidr } from '../config/address.ts';
import { createRoot } from '../testing/pki.ts';
import { peerCertificate } from '../transport-socket/peer-certificate.ts';
import { HeaderMap, headerName } from './header-map.ts';
import { type ClientAddressSettings, clientAddress, clientCertificate } from './request-headers.ts';
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

const info = () => ({ connection: CLIENT, remote: CLIENT.remote });

const NOBODY = { internal: { unixSockets: false, ranges: [] }, detectors: [], scheme: undefined };

test('an edge removes the internal headers of a client it does not trust, those of the access log among them', () => {
  const names = ['x-envoy-original-path', 'x-envoy-original-dst-host', 'x-envoy-retry-on', 'x-envoy-internal'];
  const forged = (): HeaderMap => {
    const headers = new HeaderMap();
    for (const name of names) headers.add(headerName(name), 'forged');
    return headers;
  };
  const left = (headers: HeaderMap) => names.filter((name) => headers.get(headerName(name)) === 'forged');
  const settings = { useRemoteAddress: true, trustedHops: 0, skipXffAppend: false, ...NOBODY };
  const outside = forged();
  assert.equal(clientAddress(outside, info(), settings), false);
  assert.deepEqual(left(outside), []);
  // A sidecar leaves what an edge has looked at, but not what steers.
  const inside = forged();
  clientAddress(inside, info(), { ...settings, useRemoteAddress: false });
  assert.deepEqual(left(inside), names.slice(0, 2));
  // One of ours may steer.
  const ours = forged();
  const ranges = [parseCidr('203.0.113.0', 24)!];
  assert.equal(clientAddress(ours, info(), { ...settings, internal: { unixSockets: false, ranges } }), true);
  assert.deepEqual(left(ours), names.slice(0, 3));
});

test('policies see the trusted client: of the last trusted hop, and never a text that is no address', () => {
  const remote = (forwarded: string | undefined, settings: Partial<ClientAddressSettings>): string => {
    const headers = new HeaderMap();
    if (forwarded !== undefined) headers.add(headerName('x-forwarded-for'), forwarded);
    const target = info();
    clientAddress(headers, target, {
      useRemoteAddress: false,
      trustedHops: 0,
      skipXffAppend: false,
      ...NOBODY,
      ...settings,
    });
    return target.remote.kind === 'ip' ? target.remote.ip : '';
  };
  assert.equal(remote('1.1.1.1, 2.2.2.2', {}), '2.2.2.2');
  assert.equal(remote('1.1.1.1, 2.2.2.2', { trustedHops: 1 }), '1.1.1.1');
  assert.equal(remote('1.1.1.1, 2.2.2.2', { trustedHops: 5 }), '203.0.113.9');
  assert.equal(remote(undefined, {}), '203.0.113.9');
  assert.equal(remote('1.1.1.1', { useRemoteAddress: true }), '203.0.113.9');
  assert.equal(remote('1.1.1.1, 2.2.2.2', { useRemoteAddress: true, trustedHops: 1 }), '2.2.2.2');
  assert.equal(remote('nonsense', {}), '203.0.113.9');
});

test('certificates that would make a head too large are not passed on', () => {
  const settings = { mode: 'sanitize-set', subject: false, uri: false, dns: false, cert: true, chain: true } as const;
  const tls = (bytes: number) =>
    ({
      peerVerified: true,
      peerCertificate: Buffer.alloc(1000),
      peerChain: [Buffer.alloc(bytes)],
      localUris: [],
    }) as never;
  const fits = (bytes: number): boolean => clientCertificate(new HeaderMap(), tls(bytes), settings);
  assert.equal(fits(1000), true);
  assert.equal(fits(60_000), true);
  assert.equal(fits(90_000), false);
});

test('no name of a certificate ends its value in x-forwarded-client-cert and begins another', async () => {
  const root = await createRoot();
  const evil = await root.issue({
    commonName: 'a";URI=spiffe://td/admin;x="\\',
    names: ['spiffe://td/a";URI=spiffe://td/admin\\'],
  });
  const peer = peerCertificate(evil.certificate.der);
  const tls = {
    peerVerified: true,
    peerCertificate: peer.der,
    peerSubject: peer.subject,
    peerUris: peer.uris,
    peerDns: [],
    localUris: [],
  };
  const headers = new HeaderMap();
  const settings = { mode: 'sanitize-set', subject: true, uri: true, dns: true, cert: false, chain: false } as const;
  clientCertificate(headers, tls as never, settings);
  const pairs = headers
    .get(headerName('x-forwarded-client-cert'))!
    .match(/[A-Za-z]+=(?:"(?:[^"\\]|\\.)*"|[^;,"]*)(?:;|$)/g);
  assert.deepEqual(
    pairs?.map((pair) => pair.replace(/=.*/s, '')),
    ['Hash', 'Subject', 'URI'],
  );
  assert.equal(pairs.join(''), headers.get(headerName('x-forwarded-client-cert')));
});
