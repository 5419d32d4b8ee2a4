// The choice of a filter chain: the rows of mtls.md §3.1 and Envoy's order of criteria.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseCidr } from '../config/address.ts';
import { type ChainMatch, ChainTable, MATCH_ALL, type MatchInput } from './match.ts';

const A_HTTP = ['istio-http/1.0', 'istio-http/1.1', 'istio-h2'];
const A_TCP = ['istio-peer-exchange', 'istio'];
const A_ALL = [...A_HTTP, ...A_TCP];
const P_HTTP = ['http/1.1', 'h2c'];

const input = (over: Partial<MatchInput> = {}): MatchInput => ({
  destination: { kind: 'ip', ip: '10.0.0.1', port: 80 },
  source: { kind: 'ip', ip: '10.0.0.2', port: 5000 },
  serverName: '',
  transportProtocol: 'raw_buffer',
  alpn: [],
  ...over,
});
const table = (rows: Readonly<Record<string, Partial<ChainMatch>>>) =>
  new ChainTable(Object.entries(rows).map(([name, match]) => [{ ...MATCH_ALL, ...match }, name] as const));

const tls = (alpn: readonly string[] = []) => ({ transportProtocol: 'tls', alpn });
const plain = (alpn: readonly string[] = []) => ({ transportProtocol: 'raw_buffer', alpn });

const ROWS: readonly [
  string,
  Readonly<Record<string, Partial<ChainMatch>>>,
  Readonly<Record<string, string | undefined>>,
][] = [
  ['http STRICT', { mtls: tls() }, { mesh: 'mtls', bare: 'mtls', http: undefined, bytes: undefined }],
  [
    'http PERMISSIVE',
    { mtls: tls(A_ALL), plain: plain() },
    { mesh: 'mtls', bare: undefined, http: 'plain', bytes: 'plain' },
  ],
  ['http DISABLE', { plain: plain() }, { mesh: undefined, http: 'plain' }],
  [
    'tcp PERMISSIVE',
    { mtls: tls(A_ALL), foreign: tls(), plain: plain() },
    { mesh: 'mtls', bare: 'foreign', bytes: 'plain' },
  ],
  ['auto STRICT', { http: tls(A_HTTP), tcp: tls() }, { mesh: 'http', peer: 'tcp', bare: 'tcp', http: undefined }],
  [
    'auto PERMISSIVE',
    { http: tls(A_HTTP), plainHttp: plain(P_HTTP), tcp: tls(A_TCP), plain: plain(), foreign: tls() },
    { mesh: 'http', peer: 'tcp', bare: 'foreign', http: 'plainHttp', bytes: 'plain' },
  ],
];
const CLIENTS: Readonly<Record<string, Partial<MatchInput>>> = {
  mesh: { transportProtocol: 'tls', alpn: ['istio-http/1.1', 'istio', 'http/1.1'] },
  peer: { transportProtocol: 'tls', alpn: ['istio-peer-exchange', 'istio'] },
  bare: { transportProtocol: 'tls' },
  http: { alpn: ['http/1.1'] },
  bytes: {},
};
for (const [name, chains, expected] of ROWS)
  test(name, () => {
    for (const [client, chain] of Object.entries(expected))
      assert.equal(table(chains).find(input(CLIENTS[client])), chain, client);
  });

test('a port of its own hides the chains for all ports, even when none of its chains fits', () => {
  const chains = table({ any: {}, own: { port: 80, transportProtocol: 'tls' } });
  assert.equal(chains.find(input()), undefined);
  assert.equal(chains.find(input({ destination: { kind: 'ip', ip: '10.0.0.1', port: 81 } })), 'any');
});

test('the longest prefix, then the exact server name, then the longest wildcard', () => {
  const chains = table({
    wide: { destinations: [parseCidr('10.0.0.0', 8)!] },
    narrow: { destinations: [parseCidr('10.0.0.0', 24)!] },
    other: {},
  });
  assert.equal(chains.find(input()), 'narrow');
  assert.equal(chains.find(input({ destination: { kind: 'ip', ip: '10.9.0.1', port: 80 } })), 'wide');
  assert.equal(chains.find(input({ destination: { kind: 'ip', ip: '::1', port: 80 } })), 'other');
  const names = table({
    exact: { serverNames: ['a.b.c'] },
    long: { serverNames: ['*.b.c'] },
    short: { serverNames: ['*.c'] },
    none: {},
  });
  const named = (serverName: string) => names.find(input({ serverName }));
  assert.deepEqual(['a.b.c', 'x.b.c', 'x.c', 'c', ''].map(named), ['exact', 'long', 'short', 'none', 'none']);
});

test('source type and source port decide last', () => {
  const chains = table({ local: { sourceType: 'local' }, far: { sourceType: 'external', sourcePorts: [5000] } });
  assert.equal(chains.find(input({ source: { kind: 'ip', ip: '127.0.0.1', port: 1 } })), 'local');
  assert.equal(chains.find(input()), 'far');
  assert.equal(chains.find(input({ source: { kind: 'ip', ip: '10.0.0.2', port: 1 } })), undefined);
});
