// What a stock Envoy 1.40 makes of these names.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { create } from '@bufbuild/protobuf';
import { StatsConfigSchema } from '#proto/envoy/config/metrics/v3/stats_pb.js';
import { readTags, takeTags } from './tags.ts';

const shown = (stat: string, tags = readTags(undefined, [])): string => {
  const { name, labels } = takeTags(stat, tags);
  return `${name}{${labels}}`;
};

test("Envoy's default tags", () => {
  for (const [stat, wanted] of [
    ['cluster.app.upstream_rq_200', 'envoy_cluster_upstream_rq{envoy_response_code="200",envoy_cluster_name="app"}'],
    [
      'cluster.app.external.upstream_rq_2xx',
      'envoy_cluster_external_upstream_rq_xx{envoy_response_code_class="2",envoy_cluster_name="app"}',
    ],
    [
      'cluster.outbound|80||a.b.svc.cluster.local.upstream_cx_total',
      'envoy_cluster_b_svc_cluster_local_upstream_cx_total{envoy_cluster_name="outbound|80||a"}',
    ],
    [
      'cluster.tls.client_ssl_socket_factory.ssl_context_update_by_sds',
      'envoy_cluster_client_ssl_socket_factory_ssl_context_update_by_sds{envoy_cluster_name="tls"}',
    ],
    [
      'cluster.tls.ssl.ciphers.TLS_AES_128_GCM_SHA256',
      'envoy_cluster_ssl_ciphers{cipher_suite="TLS_AES_128_GCM_SHA256",envoy_cluster_name="tls"}',
    ],
    [
      'listener.127.0.0.1_80.ssl.ciphers.TLS_AES_128_GCM_SHA256',
      'envoy_listener_ssl_ciphers{envoy_ssl_cipher="TLS_AES_128_GCM_SHA256",envoy_listener_address="127.0.0.1_80"}',
    ],
    [
      'listener.127.0.0.1_80.ssl.versions.TLSv1.3',
      'envoy_listener_ssl_versions{envoy_ssl_version="TLSv1.3",envoy_listener_address="127.0.0.1_80"}',
    ],
    [
      'listener.lis.pre.http.in.downstream_rq_1xx',
      'envoy_listener_pre_http_downstream_rq_xx{envoy_response_code_class="1",envoy_http_conn_manager_prefix="in",envoy_listener_address="lis"}',
    ],
    ['http.in.gress.no_route', 'envoy_http_gress_no_route{envoy_http_conn_manager_prefix="in"}'],
    [
      'http.in.fault.dsc.aborts_injected',
      'envoy_http_fault_aborts_injected{envoy_fault_downstream_cluster="dsc",envoy_http_conn_manager_prefix="in"}',
    ],
    ['http.in.fault.aborts_injected', 'envoy_http_fault_aborts_injected{envoy_http_conn_manager_prefix="in"}'],
    [
      'http.in.rbac.rsp.policy.my.policy.allowed',
      'envoy_http_rbac_policy_my_policy_allowed{envoy_rbac_http_prefix="rsp",envoy_http_conn_manager_prefix="in"}',
    ],
    [
      'http.in.rbac.policy.my.policy.allowed',
      'envoy_http_rbac_policy_my_policy_allowed{envoy_http_conn_manager_prefix="in"}',
    ],
    ['nrbac.rbac.shad.shadow_allowed', 'envoy_rbac_shad_shadow_allowed{envoy_rbac_prefix="nrbac"}'],
    [
      'hlr.http_local_rate_limit.enabled',
      'envoy_http_local_rate_limit_enabled{envoy_local_http_ratelimit_prefix="hlr"}',
    ],
    [
      'local_rate_limit.nlr.rate_limited',
      'envoy_local_rate_limit_rate_limited{envoy_local_network_ratelimit_prefix="nlr"}',
    ],
    [
      'connection_limit.ncl.active_connections',
      'envoy_connection_limit_active_connections{envoy_connection_limit_prefix="ncl"}',
    ],
    ['tcp.t.downstream_cx_total', 'envoy_tcp_downstream_cx_total{envoy_tcp_prefix="t"}'],
    [
      'http.in.rds.my.rds.name.update_success',
      'envoy_http_rds_update_success{envoy_rds_route_config="my.rds.name",envoy_http_conn_manager_prefix="in"}',
    ],
    [
      'vhost.v.vcluster.c.upstream_rq_2xx',
      'envoy_vhost_vcluster_upstream_rq_xx{envoy_response_code_class="2",envoy_virtual_cluster="c",envoy_virtual_host="v"}',
    ],
    [
      'vhost.v.route.r.upstream_rq_total',
      'envoy_vhost_route_upstream_rq_total{envoy_virtual_host="v",envoy_route="r"}',
    ],
    [
      'proxy_proto.p.versions.v1.found',
      'envoy_proxy_proto_found{envoy_proxy_protocol_prefix="p",envoy_proxy_protocol_version="1"}',
    ],
    ['proxy_proto.versions.v2.found', 'envoy_proxy_proto_found{envoy_proxy_protocol_version="2"}'],
    ['proxy_proto.not_found_allowed', 'envoy_proxy_proto_not_found_allowed{}'],
    ['server.live', 'envoy_server_live{}'],
  ] as const)
    assert.equal(shown(stat), wanted);
});

test('tags of the configuration stand before the defaults, or instead of them', () => {
  const config = create(StatsConfigSchema, {
    statsTags: [
      { tagName: 'mesh', tagValue: { case: 'fixedValue', value: 'm' } },
      { tagName: 'cluster_name', tagValue: { case: 'regex', value: '^cluster\\.((.+?(\\..+?\\.svc)?)\\.)' } },
    ],
  });
  assert.equal(
    shown('cluster.a.b.svc.x', readTags(config, ['zone:z'])),
    'envoy_cluster_x{zone="z",mesh="m",cluster_name="a.b.svc",envoy_cluster_name="a"}',
  );
  config.useAllDefaultTags = false;
  assert.equal(shown('cluster.a.b.svc.x', readTags(config, [])), 'envoy_cluster_x{mesh="m",cluster_name="a.b.svc"}');
});
