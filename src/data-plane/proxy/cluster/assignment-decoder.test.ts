import assert from 'node:assert/strict';
import { test } from 'node:test';
import { equals, fromBinary, fromJson, type JsonObject, toBinary } from '@bufbuild/protobuf';
import { ClusterLoadAssignmentSchema } from '#proto/envoy/config/endpoint/v3/endpoint_pb.js';
import { decodeAssignment } from './assignment-decoder.ts';
import { readEndpoints } from './endpoints.ts';

function assignment(count: number, weights: Record<number, number> = {}, extra: JsonObject = {}): Uint8Array {
  const endpoint = (n: number): JsonObject => ({
    endpoint: { address: { socket_address: { address: `10.0.${n >> 8}.${n & 255}`, port_value: 80 } } },
    metadata: { filter_metadata: { istio: { workload: `w-${n}` } } },
    load_balancing_weight: weights[n] ?? 1,
  });
  const all = Array.from({ length: count }, (_, n) => endpoint(n));
  const half = count >> 1;
  return toBinary(
    ClusterLoadAssignmentSchema,
    fromJson(ClusterLoadAssignmentSchema, {
      cluster_name: 'c',
      endpoints: [
        { locality: { region: 'a' }, lb_endpoints: all.slice(0, half), priority: 0, load_balancing_weight: 3 },
        { locality: { region: 'b' }, lb_endpoints: all.slice(half), priority: 1 },
      ],
      policy: { overprovisioning_factor: 150 },
      ...extra,
    }),
  );
}

test('the message is what the usual decoder makes', () => {
  for (const bytes of [assignment(2), assignment(200), assignment(200, { 7: 3 })])
    assert.ok(
      equals(ClusterLoadAssignmentSchema, decodeAssignment(bytes), fromBinary(ClusterLoadAssignmentSchema, bytes)),
    );
});

test('endpoints that have not changed are the same objects, and so are their specs', () => {
  const first = decodeAssignment(assignment(200));
  const second = decodeAssignment(assignment(200, { 5: 9 }));
  const changed = second.endpoints[0]!.lbEndpoints.filter((one, i) => one !== first.endpoints[0]!.lbEndpoints[i]);
  assert.equal(changed.length, 1);
  assert.equal(changed[0]!.loadBalancingWeight, 9);
  const before = readEndpoints(first, 'p', false).specs;
  const after = readEndpoints(second, 'p', false).specs;
  assert.equal(after.filter((spec, i) => spec !== before[i]).length, 1);
  assert.equal(after[0]!.group, before[0]!.group);
});

test('the same endpoint in another locality or priority is another', () => {
  const first = readEndpoints(decodeAssignment(assignment(200)), 'p', false).specs;
  const moved = decodeAssignment(assignment(200));
  moved.endpoints[0]!.priority = 2;
  const specs = readEndpoints(moved, 'p', false).specs;
  assert.equal(specs[0]!.priority, 2);
  assert.equal(first[0]!.priority, 0);
  assert.equal(specs[150], first[150]);
});

test('broken bytes are refused like elsewhere', () => {
  const bytes = assignment(200);
  for (const broken of [bytes.subarray(0, bytes.length - 3), Buffer.concat([bytes, Buffer.from([0xff])])])
    assert.throws(() => decodeAssignment(broken));
});
