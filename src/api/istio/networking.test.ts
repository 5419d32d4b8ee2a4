// What admission says about mistakes in the networking kinds, field by field.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Parsed } from '../../base/runtime/diagnostics.ts';
import { parseDestinationRule } from './destination-rule.ts';
import { parseGateway } from './gateway.ts';
import { parseServiceEntry, parseWorkloadEntry } from './service-entry.ts';
import { parseVirtualService } from './virtual-service.ts';

type Case = readonly [spec: unknown, path: string, message: RegExp];

function told(parsed: Parsed<unknown>, [, path, message]: Case): void {
  assert.equal(parsed.kind, 'invalid', `${path}: ${message} was let through`);
  const found =
    parsed.kind === 'invalid' ? parsed.diagnostics.find((d) => d.path === path && message.test(d.message)) : 0;
  assert.ok(found, `${path}: ${message} is not among ${JSON.stringify(parsed)}`);
}

const policy = (trafficPolicy: unknown): unknown => ({ host: 'web', trafficPolicy });
const P = 'spec.trafficPolicy';

test('DestinationRule', () => {
  const cases: readonly Case[] = [
    [policy({ loadBalancer: { simple: 'FAST' } }), `${P}.loadBalancer.simple`, /LEAST_REQUEST/],
    [policy({ loadBalancer: { consistentHash: {} } }), `${P}.loadBalancer.consistentHash`, /exactly one of/],
    [
      policy({ loadBalancer: { simple: 'RANDOM', consistentHash: { useSourceIp: true } } }),
      `${P}.loadBalancer`,
      /only one of simple and consistentHash/,
    ],
    [
      policy({ loadBalancer: { consistentHash: { useSourceIp: true, maglev: { tableSize: 100 } } } }),
      `${P}.loadBalancer.consistentHash.maglev.tableSize`,
      /prime/,
    ],
    [
      policy({ loadBalancer: { localityLbSetting: { distribute: [{ from: 'a', to: { a: 50 } }] } } }),
      `${P}.loadBalancer.localityLbSetting.distribute[0].to`,
      /50 != 100/,
    ],
    [
      policy({ loadBalancer: { simple: 'RANDOM', warmupDurationSecs: '1s' } }),
      `${P}.loadBalancer.warmup`,
      /LEAST_REQUEST or ROUND_ROBIN/,
    ],
    [policy({ connectionPool: {} }), `${P}.connectionPool`, /TCP or HTTP/],
    [
      policy({ connectionPool: { tcp: { maxConnections: -1 } } }),
      `${P}.connectionPool.tcp.maxConnections`,
      /in the range/,
    ],
    [
      policy({ connectionPool: { http: { useClientProtocol: true, h2UpgradePolicy: 'UPGRADE' } } }),
      `${P}.connectionPool.http`,
      /UPGRADE/,
    ],
    [policy({ outlierDetection: { interval: '0s' } }), `${P}.outlierDetection.interval`, /greater than 1ms/],
    [
      policy({ outlierDetection: { consecutiveLocalOriginFailures: 3 } }),
      `${P}.outlierDetection.consecutiveLocalOriginFailures`,
      /split/,
    ],
    [policy({ tunnel: {} }), `${P}.tunnel`, /not supported by this version/],
    [
      policy({ portLevelSettings: [{ tls: { mode: 'DISABLE' } }] }),
      `${P}.portLevelSettings[0].port`,
      /must have a port/,
    ],
  ];
  for (const one of cases) told(parseDestinationRule(one[0]), one);
});

test('VirtualService', () => {
  const http = (route: object): unknown => ({
    hosts: ['web'],
    http: [{ route: [{ destination: { host: 'a' } }], ...route }],
  });
  const cases: readonly Case[] = [
    [
      http({ mirror: { host: 'b' }, mirrors: [{ destination: { host: 'c' } }] }),
      'spec.http[0]',
      /both mirror and mirrors/,
    ],
    [http({ mirror: { host: 'b' }, mirrorPercentage: { value: 101 } }), 'spec.http[0].mirrorPercentage', /0..100/],
    [http({ rewrite: { uriRegexRewrite: { match: '(' } } }), 'spec.http[0].rewrite.uriRegexRewrite', /needs both/],
    [http({ fault: { abort: { httpStatus: 500, grpcStatus: 'OK' } } }), 'spec.http[0].fault.abort', /exactly one of/],
    [http({ fault: { abort: { http2Error: 'x' } } }), 'spec.http[0].fault.abort.http2Error', /not supported/],
    [http({ delegate: { name: 'x' } }), 'spec.http[0].delegate', /not supported/],
    [
      { hosts: ['web'], http: [{ redirect: { port: 1, derivePort: 'FROM_REQUEST_PORT' } }] },
      'spec.http[0].redirect',
      /only one of port and derivePort/,
    ],
    [
      {
        hosts: ['a.example'],
        tls: [{ match: [{ sniHosts: ['b.example'] }], route: [{ destination: { host: 'x' } }] }],
      },
      'spec.tls[0].match[0].sniHosts[0]',
      /compatible subset/,
    ],
    [{ hosts: ['a'], tls: [{ route: [{ destination: { host: 'x' } }] }] }, 'spec.tls[0].match', /at least one match/],
    [
      {
        hosts: ['a'],
        tcp: [{ match: [{ destinationSubnets: ['10.0.0.0/99'] }], route: [{ destination: { host: 'x' } }] }],
      },
      'spec.tcp[0].match[0].destinationSubnets[0]',
      /valid subnet/,
    ],
    [{ hosts: ['a'] }, 'spec.http', /http, tcp or tls must be provided/],
  ];
  for (const one of cases) told(parseVirtualService(one[0]), one);
});

test('ServiceEntry and WorkloadEntry', () => {
  const entry = (more: object): unknown => ({
    hosts: ['a.example'],
    ports: [{ number: 80, name: 'http', protocol: 'HTTP' }],
    ...more,
  });
  const cases: readonly Case[] = [
    [entry({ hosts: [] }), 'spec.hosts', /at least one host/],
    [entry({ hosts: ['*'] }), 'spec.hosts[0]', /invalid host \*/],
    [entry({ ports: [] }), 'spec.ports', /at least one port/],
    [entry({ ports: [{ number: 80, name: 'a', protocol: 'SCTP' }] }), 'spec.ports[0].protocol', /one of HTTP/],
    [entry({ resolution: 'DYNAMIC_DNS' }), 'spec.resolution', /not supported/],
    [
      entry({ resolution: 'STATIC', endpoints: [{ address: 'b.example' }] }),
      'spec.endpoints[0].address',
      /must be an IP/,
    ],
    [entry({ resolution: 'NONE', endpoints: [{ address: '1.2.3.4' }] }), 'spec.endpoints', /type none/],
    [entry({ resolution: 'DNS', hosts: ['*.example'] }), 'spec.hosts', /FQDN/],
    [
      entry({ resolution: 'DNS_ROUND_ROBIN', endpoints: [{ address: 'a.b' }, { address: 'c.d' }] }),
      'spec.endpoints',
      /0 or 1 endpoint/,
    ],
    [
      entry({ resolution: 'STATIC', workloadSelector: { labels: { a: 'b' } }, endpoints: [{ address: '1.2.3.4' }] }),
      'spec.workloadSelector',
      /only one of/,
    ],
    [entry({ addresses: ['10.0.0.0/8'] }), 'spec.addresses[0]', /not supported/],
  ];
  for (const one of cases) told(parseServiceEntry(one[0]), one);
  told(parseWorkloadEntry({}), [{}, 'spec.address', /must be set/]);
  told(parseWorkloadEntry({ address: 'unix:///x' }), [{}, 'spec.address', /not supported/]);
});

test('Gateway', () => {
  const server = (port: object, more: object): unknown => ({
    servers: [{ port: { number: 443, name: 'a', protocol: 'HTTPS', ...port }, hosts: ['*'], ...more }],
  });
  const cases: readonly Case[] = [
    [server({}, {}), 'spec.servers[0]', /must have TLS settings/],
    [
      server({ protocol: 'HTTP' }, { tls: { mode: 'SIMPLE', credentialName: 'x' } }),
      'spec.servers[0].tls',
      /plain text/,
    ],
    [server({}, { tls: { mode: 'SIMPLE' } }), 'spec.servers[0].tls.serverCertificate', /requires a server certificate/],
    [
      server({}, { tls: { mode: 'MUTUAL', serverCertificate: 'a', privateKey: 'b' } }),
      'spec.servers[0].tls.caCertificates',
      /client CA bundle/,
    ],
    [
      server({}, { tls: { mode: 'PASSTHROUGH', credentialName: 'x' } }),
      'spec.servers[0].tls.credentialName',
      /of its own/,
    ],
    [server({}, { tls: { mode: 'AUTO_PASSTHROUGH' } }), 'spec.servers[0].tls.mode', /not supported/],
    [
      server({}, { tls: { mode: 'SIMPLE', credentialName: 'x', minProtocolVersion: 'TLSV1_0' } }),
      'spec.servers[0].tls.minProtocolVersion',
      /not supported/,
    ],
  ];
  for (const one of cases) told(parseGateway(one[0]), one);
});

test('retry conditions and command operators that a proxy would refuse', () => {
  const one = (route: object): unknown => ({
    hosts: ['web'],
    http: [{ route: [{ destination: { host: 'a' } }], ...route }],
  });
  const at = 'spec.http[0]';
  const on = (retryOn: string) => one({ retries: { attempts: 1, retryOn } });
  const set = (value: string) => one({ headers: { request: { set: { 'x-a': value } } } });
  const cases: readonly Case[] = [
    [on('gateway-eror'), `${at}.retries.retryOn`, /not a valid retryOn policy.*did you mean "gateway-error"\?/],
    [on('5xx,sometimes'), `${at}.retries.retryOn`, /"sometimes".*one of 5xx, /],
    [on('600'), `${at}.retries.retryOn`, /"600"/],
    [set('100%'), `${at}.headers.request.set[x-a]`, /position 3 .*written "%%"/],
    [set('%PROTOCO%'), `${at}.headers.request.set[x-a]`, /did you mean %PROTOCOL%\?/],
    [set('%REQ%'), `${at}.headers.request.set[x-a]`, /needs an argument/],
    [set('%CEL(request.path)%'), `${at}.headers.request.set[x-a]`, /%CEL% is for access logs/],
    [set('x'.repeat(16_385)), `${at}.headers.request.set[x-a]`, /at most 16384 bytes/],
    [
      one({
        headers: { request: { set: Object.fromEntries(Array.from({ length: 1001 }, (_, i) => [`x-${i}`, 'a'])) } },
      }),
      `${at}.headers.request`,
      /more than 1000 headers/,
    ],
    [
      {
        hosts: ['web'],
        http: [{ route: [{ destination: { host: 'a' }, headers: { response: { add: { b: '%' } } } }] }],
      },
      `${at}.route[0].headers.response.add[b]`,
      /begins no command/,
    ],
  ];
  for (const wrong of cases) told(parseVirtualService(wrong[0]), wrong);
  for (const right of [on('5xx, 503,reset-before-request,unavailable,'), set('%REQ(x?y):3% 100%%'), set('')])
    assert.equal(parseVirtualService(right).kind, 'ok');
  assert.equal(parseVirtualService(one({ headers: { request: { set: { Host: 'a%b' } } } })).kind, 'ok');
});
