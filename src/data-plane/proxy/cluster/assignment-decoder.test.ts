import assert from 'node:assert/strict';
import { test } from 'node:test';
import { equals, fromBinary, fromJson, type JsonObject, toBinary } from '@bufbuild/protobuf';
import fc from 'fast-check';
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

test('a length that reaches beyond its message is read as by the usual decoder', () => {
  const bytes = assignment(120);
  const at = Buffer.from(bytes).indexOf(Buffer.from([10, 1, 97]));
  bytes[at + 1] = 5;
  assert.throws(() => fromBinary(ClusterLoadAssignmentSchema, bytes));
  assert.throws(() => decodeAssignment(bytes));
});

test('whatever the bytes are, both decoders agree', () => {
  const base = assignment(120);
  const edit = fc.tuple(fc.nat(base.length - 1), fc.nat(255), fc.constantFrom('set', 'drop', 'insert'));
  const outcome = (decode: (bytes: Uint8Array) => ReturnType<typeof decodeAssignment>, bytes: Uint8Array) => {
    try {
      return decode(bytes);
    } catch {
      return undefined;
    }
  };
  fc.assert(
    fc.property(fc.array(edit, { minLength: 1, maxLength: 6 }), fc.nat(200), (edits, cut) => {
      const bytes = [...base];
      for (const [at, byte, how] of edits) {
        if (how === 'set') bytes[at] = byte;
        else bytes.splice(at, how === 'drop' ? 1 : 0, ...(how === 'drop' ? [] : [byte]));
      }
      const mutated = Uint8Array.from(bytes.slice(0, cut > 100 ? bytes.length : bytes.length - cut));
      const usual = outcome((given) => fromBinary(ClusterLoadAssignmentSchema, given), mutated);
      const ours = outcome(decodeAssignment, mutated);
      assert.equal(ours === undefined, usual === undefined);
      if (ours && usual) assert.ok(equals(ClusterLoadAssignmentSchema, ours, usual));
    }),
    { numRuns: 2_000 },
  );
});
