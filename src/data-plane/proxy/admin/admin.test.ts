// The admin interface over HTTP: every page, in the shapes of the stock binary.
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import type { JsonObject } from '@bufbuild/protobuf';
import {
  ask,
  bootstrap,
  createCa,
  hcm,
  listener,
  routes,
  socketAddress,
  startEngine,
  staticCluster,
  toCluster,
  until,
} from '../testing/engine.ts';
import { redact } from './config-dump.ts';

async function start(t: TestContext, extra: JsonObject = {}, clusters = [staticCluster('a', [1])]) {
  const proxy = await startEngine(
    t,
    bootstrap([listener('in', [{ filters: [hcm(routes([toCluster('a')]))] }])], clusters, {
      node: { id: 'n', cluster: 'c' },
      ...extra,
      admin: { address: socketAddress(0), ...(extra.admin as JsonObject) },
    }),
  );
  const address = proxy.engine.adminAddress;
  assert.ok(address?.kind === 'ip');
  const { port } = address;
  return { proxy, get: (path: string) => ask(port, path), post: (path: string) => ask(port, path, { method: 'POST' }) };
}

test('clusters, listeners, help, errors', async (t) => {
  const { proxy, get, post } = await start(t);
  const bad = await ask(proxy.port('in'), '/');
  assert.equal(bad.status, 503);
  const text = await get('/clusters');
  for (const line of [
    'a::observability_name::a',
    'a::default_priority::max_connections::1024',
    'a::high_priority::max_retries::3',
    'a::added_via_api::false',
    'a::127.0.0.1:1::cx_connect_fail::1',
    'a::127.0.0.1:1::rq_pending_active::0',
    'a::127.0.0.1:1::health_flags::healthy',
    'a::127.0.0.1:1::weight::1',
    'a::127.0.0.1:1::success_rate::-1',
  ])
    assert.ok(text.body.split('\n').includes(line), `${line}\n${text.body}`);
  assert.equal(text.headers['content-type'], 'text/plain; charset=UTF-8');
  assert.equal((await get('/clusters?filter=zz')).body, '');
  const json = await get('/clusters?format=json');
  assert.equal(json.headers['content-type'], 'application/json');
  const [status] = JSON.parse(json.body).cluster_statuses;
  assert.deepEqual(
    status.circuit_breakers.thresholds.map((each: JsonObject) => each.priority),
    [undefined, 'HIGH'],
  );
  assert.deepEqual(status.host_statuses[0].stats[1], { value: '1', name: 'cx_total' });
  assert.equal((await get('/listeners')).body, `in::127.0.0.1:${proxy.port('in')}\n`);
  const unknown = await get('/tap');
  assert.equal(unknown.status, 404);
  assert.match(unknown.body, /^invalid path\. admin commands are:\n {2}\/: Admin home page\n/);
  for (const path of [
    '/logging',
    '/quitquitquit',
    '/reset_counters',
    '/drain_listeners',
    '/healthcheck/fail',
    '/runtime_modify?a=b',
    '/cpuprofiler?enable=y',
    '/reopen_logs',
  ]) {
    const refused = await get(path);
    assert.equal(refused.status, 405, path);
    assert.equal(refused.body, 'Method GET not allowed, POST required.');
  }
  assert.equal((await get('/heap_dump')).status, 200);
  assert.equal((await get('/peak_heap_dump')).status, 501);
  await post('/stats/recentlookups/enable');
  proxy.engine.stats.counter('somebody.looked');
  assert.match(
    (await get('/stats/recentlookups')).body,
    /^ {3}Count Lookup\n[\s\S]* 1 somebody\.looked\n[\s\S]*\ntotal: \d+\n$/,
  );
  await post('/stats/recentlookups/disable');
  assert.match((await get('/stats/recentlookups')).body, /^Lookup tracking is not enabled/);
  assert.equal((await post('/runtime_modify')).status, 400);
  assert.equal((await post('/runtime_modify?a=b')).body, 'No admin layer specified');
  assert.match((await get('/')).headers['content-type'] ?? '', /^text\/html/);
  assert.equal((await get('/hot_restart_version')).body, 'disabled');
  assert.deepEqual(JSON.parse((await get('/init_dump')).body), {});
  assert.deepEqual(JSON.parse((await get('/runtime')).body), { layers: [], entries: {} });
  assert.deepEqual(Object.keys(JSON.parse((await get('/memory')).body)), [
    'allocated',
    'heap_size',
    'pageheap_unmapped',
    'pageheap_free',
    'total_thread_cache',
    'total_physical_bytes',
  ]);
  const { node } = JSON.parse((await get('/server_info')).body);
  assert.deepEqual(
    [node.id, node.user_agent_name, node.user_agent_build_version.metadata['revision.sha']],
    ['n', 'envoy', 'test'],
  );
  const dumped = JSON.parse((await get('/config_dump?mask=bootstrap')).body).configs[0].bootstrap.node;
  assert.deepEqual(dumped.user_agent_build_version.metadata, node.user_agent_build_version.metadata);
  const used = (await get('/stats?usedonly')).body;
  assert.match(used, /^cluster\.a\.upstream_rq_pending_active: 0$/m, 'a gauge that was used');
  assert.doesNotMatch(used, /^http\.test\.downstream_cx_ssl_active/m, 'and one that was not');
});

test('config dump: whole, one resource, masks, names', async (t) => {
  const many = Array.from({ length: 300 }, (_, i) => staticCluster(i === 0 ? 'a' : `c${i}`, [1]));
  const { get } = await start(t, {}, many);
  const whole = JSON.parse((await get('/config_dump')).body) as { configs: JsonObject[] };
  assert.deepEqual(
    whole.configs.map((each) => String(each['@type']).replace('type.googleapis.com/envoy.admin.v3.', '')),
    [
      'BootstrapConfigDump',
      'ClustersConfigDump',
      'ListenersConfigDump',
      'ScopedRoutesConfigDump',
      'RoutesConfigDump',
      'SecretsConfigDump',
    ],
  );
  assert.equal((whole.configs[1]!.static_clusters as JsonObject[]).length, 300);
  const eds = JSON.parse((await get('/config_dump?include_eds')).body) as { configs: JsonObject[] };
  assert.equal(eds.configs[2]!['@type'], 'type.googleapis.com/envoy.admin.v3.EndpointsConfigDump');
  assert.deepEqual(
    JSON.parse((await get('/config_dump?resource=static_clusters&mask=cluster.name&name_regex=a')).body),
    {
      configs: [
        {
          '@type': 'type.googleapis.com/envoy.admin.v3.ClustersConfigDump.StaticCluster',
          cluster: { '@type': 'type.googleapis.com/envoy.config.cluster.v3.Cluster', name: 'a' },
        },
      ],
    },
  );
  assert.deepEqual(JSON.parse((await get('/config_dump?mask=bootstrap.node.id')).body), {
    configs: [{ '@type': 'type.googleapis.com/envoy.admin.v3.BootstrapConfigDump', bootstrap: { node: { id: 'n' } } }],
  });
  assert.equal((await get('/config_dump?resource=dynamic_listeners')).body, '{}\n');
  for (const [path, status, body] of [
    ['?resource=nope', 404, 'nope not found in config dump'],
    ['?resource=bootstrap', 400, 'bootstrap is not a repeated field. Use ?mask=bootstrap to get only this field'],
    ['?mask=zz', 400, 'FieldMask zz could not be successfully applied to any configs.'],
    ['?name_regex=(', 400, 'INVALID_ARGUMENT: Error while parsing name_regex from (: missing ): ('],
  ] as const)
    assert.deepEqual(
      [(await get(`/config_dump${path}`)).status, (await get(`/config_dump${path}`)).body],
      [status, body],
    );
});

test('keys are redacted wherever they stand', async (t) => {
  const ca = await createCa();
  const identity = await ca.issue('spiffe://cluster.local/ns/a/sa/b');
  const secret = {
    name: 's',
    tls_certificate: {
      certificate_chain: { inline_string: identity.certificate },
      private_key: { inline_string: identity.key },
    },
  };
  const { get } = await start(t, {
    static_resources: {
      clusters: [staticCluster('a', [1])],
      listeners: [listener('in', [{ filters: [hcm(routes([toCluster('a')]))] }])],
      secrets: [secret],
    },
  });
  for (const path of [
    '/config_dump',
    '/config_dump?resource=static_secrets',
    '/config_dump?mask=bootstrap',
    '/certs',
    '/stats',
    '/server_info',
  ]) {
    const { body } = await get(path);
    assert.ok(!body.includes('PRIVATE KEY'), path);
  }
  assert.match(
    (await get('/config_dump?resource=static_secrets')).body,
    /"private_key": \{\n\s+"inline_string": "\[redacted\]"/,
  );
  assert.deepEqual(redact({ a: [{ password: 'x', private_key: { inline_bytes: 'eHg=', filename: '/k' } }] }), {
    a: [{ password: '[redacted]', private_key: { inline_bytes: 'W3JlZGFjdGVkXQ==', filename: '[redacted]' } }],
  });
});

test('statistics in every format', async (t) => {
  const { proxy, get } = await start(t, {
    stats_config: { histogram_bucket_settings: [{ match: { prefix: 'http.test.' }, buckets: [100_000, 1] }] },
  });
  await ask(proxy.port('in'), '/');
  proxy.engine.stats.turn();
  const text = await get('/stats?filter=^http.test.downstream_rq_(5xx|time)$');
  assert.match(text.body, /^http\.test\.downstream_rq_5xx: 1\nhttp\.test\.downstream_rq_time: P0\(\d[^)]*\) P25\(/);
  const buckets = await get('/stats?filter=downstream_rq_time$&histogram_buckets=cumulative');
  assert.match(buckets.body, /^http\.test\.downstream_rq_time: B1\(\d,\d\) B100000\(1,1\)\n$/);
  const json = JSON.parse((await get('/stats?format=json&filter=downstream_rq_time$&histogram_buckets=disjoint')).body);
  assert.deepEqual(
    json.stats[0].histograms[0].buckets.map((each: JsonObject) => each.upper_bound),
    [1, 100_000],
  );
  const summary = JSON.parse((await get('/stats?format=json&filter=downstream_rq_time$')).body);
  assert.deepEqual(Object.keys(summary.stats[0].histograms), ['supported_quantiles', 'computed_quantiles']);
  assert.match(
    (await get('/stats?filter=downstream_rq_time$&histogram_buckets=detailed')).body,
    /:\n {2}totals=.*\n {2}intervals=.*\n {2}summary=P0/,
  );
  assert.doesNotMatch((await get('/stats?type=Gauges')).body, /downstream_rq_5xx/);
  assert.doesNotMatch((await get('/stats?usedonly')).body, /_total: 0$/m);
  assert.match((await get('/stats?format=html&filter=<b>')).body, /value="&lt;b&gt;"/);
  const prometheus = await get('/stats/prometheus?filter=downstream_rq_time$');
  assert.equal(prometheus.headers['content-type'], 'text/plain; charset=UTF-8');
  assert.match(
    prometheus.body,
    /^# TYPE envoy_http_downstream_rq_time histogram\nenvoy_http_downstream_rq_time_bucket\{envoy_http_conn_manager_prefix="test",le="1"\}/,
  );
  assert.match(
    (await get('/stats?format=prometheus&filter=downstream_rq_time$&histogram_buckets=summary')).body,
    /# TYPE \S+ summary\n\S+,quantile="0"\} /,
  );
  assert.equal((await get('/stats?hidden=only')).body, '');
  assert.match((await get('/stats?format=active-html&filter="x')).body, /value="&quot;x"[\s\S]*<script>/);
  const { port } = proxy.engine.adminAddress as { readonly port: number };
  const native = await ask(port, '/stats/prometheus?filter=downstream_rq_time$&histogram_buckets=prometheusnative', {
    headers: { accept: 'application/vnd.google.protobuf;q=0.7,text/plain;q=0.3' },
  });
  assert.match(native.headers['content-type']!, /^application\/vnd\.google\.protobuf; proto=/);
  assert.match(native.body, /envoy_http_downstream_rq_time[\s\S]*envoy_http_conn_manager_prefix[\s\S]*test/);
  for (const [path, body] of [
    ['?histogram_buckets=prometheusnative', 'Invalid histogram_buckets type for non prometheus stats type'],
    [
      '?format=prometheus&histogram_buckets=prometheusnative',
      'unsupported prometheusnative histogram type when not using protobuf exposition format',
    ],
    ['/prometheus?histogram_buckets=disjoint', 'unsupported prometheus histogram bucket mode'],
    ['?hidden=x', 'usage: /stats?hidden=(include|only|exclude)\n\n'],
    ['?type=x', 'invalid &type= param'],
    ['?format=x', 'usage: /stats?format=(html|active-html|json|prometheus|text)\n\n'],
    ['?filter=(', 'Invalid re2 regex: missing ): ('],
  ] as const)
    assert.deepEqual([(await get(`/stats${path}`)).status, (await get(`/stats${path}`)).body], [400, body]);
});

test('loggers, health, reset, profile, access log', async (t) => {
  const { proxy, get, post } = await start(t, {
    admin: { access_log_path: '/admin.log', profile_path: '/nowhere/at/all' },
  });
  assert.match((await post('/logging?admin=trace&b=c')).body, /^error: invalid number of parameters\n\nusage: /);
  assert.match((await post('/logging?nope=info')).body, /^error: unknown logger name\n/);
  assert.equal((await get('/ready')).body, 'LIVE\n');
  assert.equal((await post('/healthcheck/fail')).body, 'OK\n');
  const failing = await get('/ready');
  assert.deepEqual([failing.status, failing.body], [503, 'DRAINING\n']);
  await post('/healthcheck/ok');
  assert.equal((await get('/ready')).status, 200);
  await post('/reset_counters');
  assert.equal(proxy.counter('listener_manager.listener_added'), 0);
  assert.equal((await post('/cpuprofiler?enable=y')).body, 'OK\n');
  assert.match((await post('/cpuprofiler?enable=n')).body, /^failure to write the profile: ENOENT/);
  await until(() => (proxy.lines.get('/admin.log') ?? []).length >= 4, 'lines of the admin access log');
  assert.match(proxy.lines.get('/admin.log')!.join('\n'), /"POST \/healthcheck\/fail HTTP\/1\.1" 200 - 0 3 /);
});
