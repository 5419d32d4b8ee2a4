import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readDump } from './dump.ts';
import { clusterTable, endpointTable, listenerTable, routeTable, secretTable } from './tables.ts';

const HCM = 'type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager';
const TCP = 'type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy';
const section = (name: string, fields: object) => ({
  '@type': `type.googleapis.com/envoy.admin.v3.${name}ConfigDump`,
  ...fields,
});
const http = (extra: object) => [{ typed_config: { '@type': HCM, ...extra } }];
const tcp = (cluster: string) => [{ typed_config: { '@type': TCP, cluster } }];

const dump = readDump(
  JSON.stringify({
    configs: [
      section('Clusters', {
        static_clusters: [{ cluster: { name: 'xds-grpc', type: 'STATIC' } }],
        dynamic_active_clusters: [
          {
            cluster: {
              name: 'outbound|80|v1|web.foo.svc.cluster.local',
              type: 'EDS',
              metadata: {
                filter_metadata: {
                  istio: { config: '/apis/networking.istio.io/v1alpha3/namespaces/foo/destination-rule/web' },
                },
              },
            },
          },
          { cluster: { name: 'inbound|8080||', type: 'ORIGINAL_DST' } },
        ],
      }),
      section('Listeners', {
        dynamic_listeners: [
          {
            active_state: {
              listener: {
                address: { socket_address: { address: '0.0.0.0', port_value: 15006 } },
                filter_chains: [
                  {
                    filter_chain_match: {
                      destination_port: 8080,
                      transport_protocol: 'tls',
                      application_protocols: ['istio-http/1.0', 'istio-http/1.1', 'istio-h2'],
                    },
                    filters: http({
                      route_config: {
                        virtual_hosts: [{ routes: [{ match: { prefix: '/' }, route: { cluster: 'inbound|8080||' } }] }],
                      },
                    }),
                  },
                  {
                    filter_chain_match: { transport_protocol: 'raw_buffer' },
                    filters: tcp('InboundPassthroughCluster'),
                  },
                ],
              },
            },
          },
          {
            active_state: {
              listener: {
                address: { socket_address: { address: '0.0.0.0', port_value: 80 } },
                filter_chains: [{ filters: http({ rds: { route_config_name: '80' } }) }],
                default_filter_chain: { filters: tcp('outbound|80||db.foo.svc.cluster.local') },
              },
            },
          },
        ],
      }),
      section('Routes', {
        dynamic_route_configs: [
          {
            route_config: {
              name: '80',
              virtual_hosts: [
                {
                  name: 'web.foo.svc.cluster.local:80',
                  domains: ['web.foo.svc.cluster.local', 'web', 'web.foo'],
                  routes: [
                    {
                      match: { prefix: '/' },
                      metadata: {
                        filter_metadata: { istio: { config: '/apis/x/namespaces/foo/virtual-service/web' } },
                      },
                    },
                  ],
                },
              ],
            },
          },
          { route_config: { name: 'http.8080' } },
        ],
      }),
      section('Secrets', {
        dynamic_active_secrets: [
          { name: 'ROOTCA', secret: { validation_context: { trusted_ca: { inline_bytes: 'bm90IGEgY2VydA==' } } } },
        ],
      }),
    ],
  }),
);

test('clusters: name parts, type, the DestinationRule, filters', () => {
  assert.deepEqual(clusterTable(dump, {}).rows, [
    ['', '8080', '-', 'inbound', 'ORIGINAL_DST', ''],
    ['web.foo.svc.cluster.local', '80', 'v1', 'outbound', 'EDS', 'web.foo'],
    ['xds-grpc', '-', '-', '-', 'STATIC', ''],
  ]);
  assert.equal(clusterTable(dump, { direction: 'outbound' }).rows.length, 1);
});

test('listeners: match and destination texts', () => {
  assert.deepEqual(listenerTable(dump, {}).rows, [
    ['0.0.0.0', '80', 'ALL', 'Route: 80'],
    ['0.0.0.0', '80', 'ALL', 'Cluster: outbound|80||db.foo.svc.cluster.local'],
    ['0.0.0.0', '15006', 'Trans: tls; App: HTTP TLS; Addr: *:8080', 'Cluster: inbound|8080||'],
    ['0.0.0.0', '15006', 'Trans: raw_buffer', 'InboundPassthroughCluster'],
  ]);
});

test('routes: two shortest domains, 404 for an empty configuration', () => {
  assert.deepEqual(routeTable(dump, {}).rows, [
    ['80', 'web.foo.svc.cluster.local:80', 'web, web.foo + 1 more...', '/*', 'web.foo'],
    ['http.8080', '', '', '/*', '404'],
  ]);
});

test('secrets: one that is no certificate is not valid', () => {
  assert.deepEqual(secretTable(dump, new Date(0)).rows, [['ROOTCA', 'CA', 'ACTIVE', 'false', '', '', '']]);
});

test('endpoints from /clusters, with filters', () => {
  const host = (address: string, health: object) => ({
    address: { socket_address: { address, port_value: 80 } },
    health_status: health,
  });
  const clusters = JSON.stringify({
    cluster_statuses: [
      {
        name: 'a',
        host_statuses: [
          host('10.0.0.2', { eds_health_status: 'HEALTHY' }),
          host('10.0.0.1', { eds_health_status: 'UNHEALTHY', failed_outlier_check: true }),
        ],
      },
    ],
  });
  assert.deepEqual(endpointTable(clusters, {}).rows, [
    ['10.0.0.1:80', 'UNHEALTHY', 'FAILED', 'a'],
    ['10.0.0.2:80', 'HEALTHY', 'OK', 'a'],
  ]);
  assert.equal(endpointTable(clusters, { status: 'healthy' }).rows.length, 1);
  assert.equal(endpointTable(clusters, { cluster: 'b' }).rows.length, 0);
});
