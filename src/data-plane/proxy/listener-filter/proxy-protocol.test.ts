// What the listener makes of PROXY protocol headers beside reading them: TLV rules, counters, versions. Reading itself is
// fuzzed in test/fuzz; what clients see: test/conformance/proxy/cases/proxy-protocol.yaml.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fromJson, type JsonObject } from '@bufbuild/protobuf';
import { type ListenerFilter, ListenerFilterSchema } from '#proto/envoy/config/listener/v3/listener_components_pb.js';
import { ProxyProtocolSchema } from '#proto/envoy/extensions/filters/listener/proxy_protocol/v3/proxy_protocol_pb.js';
import { extensionRegistry } from '../config/bootstrap.ts';
import { StatsStore } from '../stats/stats.ts';
import { proxyCounters, readProxyProtocol, takeProxyHeader, tlvMetadata, writeProxyHeader } from './proxy-protocol.ts';
import { listenerFilters } from './settings.ts';

const filtersOf = (messages: readonly ListenerFilter[]) =>
  listenerFilters(
    messages,
    {
      subscribe() {
        throw new Error('nothing is discovered here');
      },
    },
    'l',
  ).current();
const settings = (json: JsonObject) => readProxyProtocol(fromJson(ProxyProtocolSchema, json), 'pp');
const FROM = { kind: 'ip', ip: '1.2.3.4', port: 5 } as const;
const TO = { kind: 'ip', ip: '5.6.7.8', port: 9 } as const;

test('TLVs become metadata by rules, the first of a type counts, bytes that are no text are marked', () => {
  const rules = settings({
    rules: [
      { tlv_type: 2, on_tlv_present: { key: 'authority' } },
      { tlv_type: 0xea, on_tlv_present: { metadata_namespace: 'aws', key: 'vpc' } },
      { tlv_type: 9, on_tlv_present: { key: 'none' } },
    ],
  });
  const tlvs = [
    { type: 2, value: Buffer.from('a.example') },
    { type: 2, value: Buffer.from('b.example') },
    { type: 0xea, value: Buffer.from([0x61, 0xff]) },
  ];
  assert.deepEqual(Object.fromEntries(tlvMetadata(rules, tlvs)), {
    'envoy.filters.listener.proxy_protocol': { authority: 'a.example' },
    aws: { vpc: 'a!' },
  });
});

test('of two rules for a type the last counts, of two values for a key the first', () => {
  const rules = settings({
    rules: [
      { tlv_type: 2, on_tlv_present: { key: 'old' } },
      { tlv_type: 2, on_tlv_present: { key: 'k' } },
      { tlv_type: 3, on_tlv_present: { key: 'k' } },
      { tlv_type: 4, on_tlv_present: { key: '__proto__' } },
    ],
  });
  const value = (text: string) => Buffer.from(text);
  const made = tlvMetadata(rules, [
    { type: 3, value: value('three') },
    { type: 2, value: value('two') },
    { type: 4, value: value('p') },
    { type: 4, value: value('q') },
  ]).get('envoy.filters.listener.proxy_protocol')!;
  assert.deepEqual(Object.entries(made), [
    ['k', 'three'],
    ['__proto__', 'p'],
  ]);
});

test('which TLVs go on: all, some, none', () => {
  const passes = (json: JsonObject | undefined): string => {
    const config = settings(json ? { pass_through_tlvs: json } : {}).passes;
    return [0, 2, 234, 255].filter((type) => config?.(type)).join();
  };
  assert.equal(passes(undefined), '');
  assert.equal(passes({}), '0,2,234,255');
  assert.equal(passes({ match_type: 'INCLUDE_ALL', tlv_type: [2] }), '0,2,234,255');
  assert.equal(passes({ match_type: 'INCLUDE', tlv_type: [2, 255] }), '2,255');
  assert.equal(passes({ match_type: 'INCLUDE' }), '');
});

test('counters by version, and under a prefix', () => {
  const stats = new StatsStore();
  const config = settings({
    disallowed_versions: ['V2'],
    stat_prefix: 'x',
    allow_requests_without_proxy_protocol: true,
  });
  const counters = proxyCounters(config, stats);
  const take = (bytes: Buffer) => takeProxyHeader(bytes, config, counters);
  assert.equal(take(writeProxyHeader(2, FROM, TO)), 'refused');
  assert.notEqual(take(writeProxyHeader(1, FROM, TO)), 'refused');
  assert.equal(take(Buffer.from('PROXY TCP5 x\r\n')), 'refused');
  assert.deepEqual(take(Buffer.from('GET /')), { kind: 'none' });
  assert.equal(take(Buffer.from('PRO')), undefined);
  const value = (name: string) => stats.counters.get(`proxy_proto.x.${name}`)?.value;
  assert.deepEqual(
    [
      'versions.v2.disallowed',
      'versions.v1.found',
      'versions.v1.error',
      'not_found_allowed',
      'not_found_disallowed',
    ].map(value),
    [1, 1, 1, 1, 0],
  );
});

test('the header comes before what inspectors look at; an original destination behind it wins', () => {
  const filter = (type: string) =>
    fromJson(
      ListenerFilterSchema,
      { name: type, typed_config: { '@type': `type.googleapis.com/envoy.extensions.filters.listener.${type}` } },
      { registry: extensionRegistry },
    );
  const proxy = filter('proxy_protocol.v3.ProxyProtocol');
  const tls = filter('tls_inspector.v3.TlsInspector');
  const original = filter('original_dst.v3.OriginalDst');
  assert.throws(() => filtersOf([tls, proxy]), /proxy_protocol must stand before/);
  assert.equal(filtersOf([original, proxy, tls])?.originalDstLast, false);
  assert.equal(filtersOf([proxy, original])?.originalDstLast, true);
});

test('TLVs that do not fit a header are left out, and told of', () => {
  let tooLong = 0;
  const write = (size: number): number =>
    writeProxyHeader(2, FROM, TO, [{ type: 1, value: Buffer.alloc(size) }], () => {
      tooLong += 1;
    }).length;
  assert.equal(write(65_535 - 12 - 3), 16 + 65_535);
  assert.equal(tooLong, 0);
  assert.equal(write(65_535 - 12 - 2), 16 + 12);
  assert.equal(tooLong, 1);
});

test('types are one byte', () => {
  assert.throws(
    () => settings({ pass_through_tlvs: { tlv_type: [1, 256] } }),
    /pp\.pass_through_tlvs\.tlv_type\[1\]: value must be less than 256/,
  );
  assert.throws(
    () => settings({ rules: [{ tlv_type: 300, on_tlv_present: { key: 'x' } }] }),
    /tlv_type: value must be less/,
  );
});
