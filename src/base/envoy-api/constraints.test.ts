// Constraints of Envoy's API: the first that is violated, in the words of the stock binary.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fromJson, type JsonValue } from '@bufbuild/protobuf';
import { BootstrapSchema } from '#proto/envoy/config/bootstrap/v3/bootstrap_pb.js';
import { ClusterSchema } from '#proto/envoy/config/cluster/v3/cluster_pb.js';
import { RouteSchema } from '#proto/envoy/config/route/v3/route_components_pb.js';
import { checkConstraints } from './constraints.ts';

test('what is violated is named through all messages around it', () => {
  const bootstrap = (json: JsonValue) => () => checkConstraints(BootstrapSchema, fromJson(BootstrapSchema, json), '');
  for (const [json, chain] of [
    [
      { static_resources: { clusters: [{ name: 'a' }, { connect_timeout: '1s' }] } },
      'BootstrapValidationError.StaticResources: embedded message failed validation | caused by StaticResourcesValidationError.Clusters[1]: embedded message failed validation | caused by ClusterValidationError.Name: value length must be at least 1 characters',
    ],
    [
      { admin: { address: { socket_address: { address: '127.0.0.1', port_value: 70000 } } } },
      'BootstrapValidationError.Admin: embedded message failed validation | caused by AdminValidationError.Address: embedded message failed validation | caused by AddressValidationError.SocketAddress: embedded message failed validation | caused by SocketAddressValidationError.PortValue: value must be less than or equal to 65535',
    ],
    [
      { admin: { address: { socket_address: { address: 'x' } } } },
      'BootstrapValidationError.Admin: embedded message failed validation | caused by AdminValidationError.Address: embedded message failed validation | caused by AddressValidationError.SocketAddress: embedded message failed validation | caused by field: "port_specifier", reason: is required',
    ],
  ] as const)
    assert.throws(bootstrap(json as JsonValue), { message: `Proto constraint validation failed (${chain})` });
  bootstrap({ node: { id: 'a' }, static_resources: { clusters: [{ name: 'a', connect_timeout: '0.25s' }] } })();
});

test('durations, lists, oneofs, header names', () => {
  const cluster = (json: JsonValue) => () => checkConstraints(ClusterSchema, fromJson(ClusterSchema, json), 'here');
  assert.throws(cluster({ name: 'a', connect_timeout: '0s' }), {
    message:
      'here: Proto constraint validation failed (ClusterValidationError.ConnectTimeout: value must be greater than 0s)',
  });
  assert.throws(
    cluster({ name: 'a', type: 99 }),
    /ClusterValidationError\.Type: value must be one of the defined enum values/,
  );
  const route = (json: JsonValue) => () => checkConstraints(RouteSchema, fromJson(RouteSchema, json), '');
  assert.throws(route({ match: { prefix: '/' } }), /\(field: "action", reason: is required\)/);
  assert.throws(route({ match: {}, redirect: {} }), /field: "path_specifier", reason: is required/);
  assert.throws(route({ redirect: {} }), /\(RouteValidationError\.Match: value is required\)/);
  assert.throws(
    route({ match: { prefix: '/' }, route: { cluster: 'a' }, request_headers_to_remove: ['a\nb'] }),
    /\(RouteValidationError\.RequestHeadersToRemove\[0\]: value does not match regex pattern/,
  );
  assert.throws(
    route({ match: { prefix: '/' }, route: { weighted_clusters: { clusters: [] } } }),
    /WeightedClusterValidationError\.Clusters: value must contain at least 1 item\(s\)/,
  );
  route({ match: { safe_regex: { regex: 'a' } }, direct_response: { status: 200 } })();
});
