import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as dnsPacket from 'dns-packet';
import type { EndpointSlice } from '../../api/kubernetes/endpoint-slice.ts';
import type { Service } from '../../api/kubernetes/service.ts';
import { respond } from './dns-server.ts';
import { createRecords } from './records.ts';

const service = (name: string, spec: Service['spec']): Service => ({
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { name, namespace: 'ns' },
  spec,
});
const slice: EndpointSlice = {
  apiVersion: 'discovery.k8s.io/v1',
  kind: 'EndpointSlice',
  metadata: { name: 'db-1', namespace: 'ns', labels: { 'kubernetes.io/service-name': 'db' } },
  addressType: 'IPv4',
  endpoints: [
    { addresses: ['10.244.0.5'], hostname: 'db-0', conditions: { ready: true } },
    { addresses: ['10.244.0.6'], conditions: { ready: true } },
    { addresses: ['10.244.0.7'], conditions: { ready: false } },
  ],
  ports: [{ name: 'pg', port: 5432, protocol: 'TCP' }],
};
const records = createRecords(
  [
    service('web', { clusterIP: '10.96.1.1', ports: [{ name: 'http', port: 80 }] }),
    service('db', { clusterIP: 'None', ports: [{ name: 'pg', port: 5432 }] }),
    service('out', { type: 'ExternalName', externalName: 'www.example.com.' }),
    service('alias', { type: 'ExternalName', externalName: 'web.ns.svc.cluster.local' }),
    service('loop', { type: 'ExternalName', externalName: 'loop.ns.svc.cluster.local' }),
  ],
  [slice],
  'cluster.local',
);
const options = { domain: 'cluster.local', random: () => 0 };

function ask(name: string, type: dnsPacket.RecordType = 'A'): { code: string; answers: string[]; extra: number } {
  const query = dnsPacket.encode({ type: 'query', id: 7, flags: 0x100, questions: [{ name, type }] });
  const answer = dnsPacket.decode(respond(query, records, options, false)!) as dnsPacket.DecodedPacket & {
    readonly rcode: string;
  };
  assert.equal(answer.id, 7);
  const show = (data: unknown): string =>
    typeof data === 'object' && data && 'target' in data && 'port' in data
      ? `${data.target}:${data.port}`
      : String(data);
  const answers = (answer.answers ?? []).map((a) => ('data' in a ? `${a.type} ${show(a.data)}` : a.type));
  return { code: answer.rcode, answers, extra: answer.additionals?.length ?? 0 };
}

test('a Service with a ClusterIP', () => {
  assert.deepEqual(ask('web.ns.svc.cluster.local').answers, ['A 10.96.1.1']);
  assert.deepEqual(ask('WEB.ns.svc.Cluster.Local').answers, ['A 10.96.1.1']);
  assert.deepEqual(ask('web.ns.svc.cluster.local', 'AAAA'), { code: 'NOERROR', answers: [], extra: 0 });
  assert.deepEqual(ask('_http._tcp.web.ns.svc.cluster.local', 'SRV'), {
    code: 'NOERROR',
    answers: ['SRV web.ns.svc.cluster.local:80'],
    extra: 1,
  });
  assert.deepEqual(ask('1.1.96.10.in-addr.arpa', 'PTR').answers, ['PTR web.ns.svc.cluster.local']);
});

test('a headless Service answers with its ready pods, and each by name', () => {
  assert.deepEqual(ask('db.ns.svc.cluster.local').answers, ['A 10.244.0.5', 'A 10.244.0.6']);
  assert.deepEqual(ask('db-0.db.ns.svc.cluster.local').answers, ['A 10.244.0.5']);
  assert.deepEqual(ask('10-244-0-6.db.ns.svc.cluster.local').answers, ['A 10.244.0.6']);
  assert.deepEqual(ask('_pg._tcp.db.ns.svc.cluster.local', 'SRV').answers, [
    'SRV db-0.db.ns.svc.cluster.local:5432',
    'SRV 10-244-0-6.db.ns.svc.cluster.local:5432',
  ]);
  assert.deepEqual(ask('5.0.244.10.in-addr.arpa', 'PTR').answers, ['PTR db-0.db.ns.svc.cluster.local']);
});

test('ExternalName, followed inside the cluster and never for ever', () => {
  assert.deepEqual(ask('out.ns.svc.cluster.local').answers, ['CNAME www.example.com']);
  assert.deepEqual(ask('alias.ns.svc.cluster.local').answers, ['CNAME web.ns.svc.cluster.local', 'A 10.96.1.1']);
  assert.equal(ask('loop.ns.svc.cluster.local').code, 'NOERROR');
});

test('what exists without records is empty, what does not exist is denied', () => {
  assert.deepEqual(ask('10-244-0-5.ns.pod.cluster.local').answers, ['A 10.244.0.5']);
  assert.equal(ask('10-244-0-5.nowhere.pod.cluster.local').code, 'NXDOMAIN');
  assert.equal(ask('10-244-0-999.ns.pod.cluster.local').code, 'NXDOMAIN');
  assert.deepEqual(ask('ns.svc.cluster.local'), { code: 'NOERROR', answers: [], extra: 0 });
  for (const name of [
    'none.ns.svc.cluster.local',
    'web.ns.svc.cluster.local.ns.svc.cluster.local',
    'www.example.com',
    'web',
  ])
    assert.equal(ask(name).code, 'NXDOMAIN', name);
});

test('too large for a datagram is marked as truncated and whole over TCP; EDNS raises the limit', () => {
  const many = Array.from({ length: 20 }, (_, i) => ({
    addresses: [`10.244.0.${i + 2}`],
    conditions: { ready: true },
  }));
  const big = createRecords([service('db', { clusterIP: 'None' })], [{ ...slice, endpoints: many }], 'cluster.local');
  const query = (additionals: dnsPacket.Answer[]): Buffer =>
    dnsPacket.encode({
      type: 'query',
      id: 1,
      questions: [{ name: 'db.ns.svc.cluster.local', type: 'A' }],
      additionals,
    });
  const cut = dnsPacket.decode(respond(query([]), big, options, false)!);
  assert.deepEqual(
    [cut.answers?.length, (cut.flags ?? 0) & dnsPacket.TRUNCATED_RESPONSE],
    [0, dnsPacket.TRUNCATED_RESPONSE],
  );
  assert.equal(dnsPacket.decode(respond(query([]), big, options, true)!).answers?.length, 20);
  const opt = { type: 'OPT', name: '.', udpPayloadSize: 4096, flags: 0, options: [] } as unknown as dnsPacket.Answer;
  assert.equal(dnsPacket.decode(respond(query([opt]), big, options, false)!).answers?.length, 20);
});

test('garbage, answers and other operations', () => {
  assert.equal(respond(Buffer.from([1, 2, 3]), records, options, false), undefined);
  const answer = dnsPacket.encode({ type: 'response', id: 1, questions: [{ name: 'web', type: 'A' }] });
  assert.equal(respond(answer, records, options, false), undefined);
  const garbage = Buffer.concat([Buffer.from([0, 9, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]), Buffer.alloc(40, 0xff)]);
  const refused = respond(garbage, records, options, false)!;
  assert.deepEqual([refused.readUInt16BE(0), refused[3]! & 0xf], [9, 1]);
  const update = dnsPacket.encode({ type: 'query', id: 3, questions: [{ name: 'web', type: 'A' }] });
  update[2] = 5 << 3;
  assert.equal(respond(update, records, options, false)![3]! & 0xf, 4);
  const early = dnsPacket.encode({ type: 'query', id: 3, questions: [{ name: 'web', type: 'A' }] });
  assert.equal(respond(early, undefined, options, false)![3]! & 0xf, 2);
});
