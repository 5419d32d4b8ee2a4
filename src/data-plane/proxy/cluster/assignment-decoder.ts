// Decodes a ClusterLoadAssignment so that endpoints which have not changed since the last one of that name are the same
// objects: of a large cluster that changes often, only what is new is decoded, read and compared. Called for EDS.
import { fromBinary, toBinary } from '@bufbuild/protobuf';
import {
  type LbEndpoint,
  LbEndpointSchema,
  LocalityLbEndpointsSchema,
} from '#proto/envoy/config/endpoint/v3/endpoint_components_pb.js';
import {
  type ClusterLoadAssignment,
  ClusterLoadAssignmentSchema,
} from '#proto/envoy/config/endpoint/v3/endpoint_pb.js';
import { MAX_REMEMBERED_ASSIGNMENTS } from '../limits.ts';

/** Field numbers on the wire. */
const ENDPOINTS = 2;
const LB_ENDPOINTS = 2;
const LENGTH_DELIMITED = 2;
/** Smaller assignments are not worth remembering. */
const MIN_BYTES = 4_096;

type Endpoints = Map<string, LbEndpoint>;

/** By cluster name; the one that was used last stands at the end. Messages are never changed, so sharing is safe. */
const remembered = new Map<string, Endpoints>();

/** Gives and throws what fromBinary does. */
export function decodeAssignment(bytes: Uint8Array): ClusterLoadAssignment {
  let message: ClusterLoadAssignment | undefined;
  if (bytes.length >= MIN_BYTES)
    try {
      message = decodeInPieces(bytes);
    } catch {
      // The usual decoder is more lenient with broken lengths, and says better what is wrong.
    }
  return message ?? fromBinary(ClusterLoadAssignmentSchema, bytes);
}

/** Undefined = not well-formed. */
function decodeInPieces(bytes: Uint8Array): ClusterLoadAssignment | undefined {
  const groups: Uint8Array[] = [];
  const rest = split(bytes, ENDPOINTS, groups);
  if (!rest) return undefined;
  const message = fromBinary(ClusterLoadAssignmentSchema, rest);
  if (!sameBytes(toBinary(ClusterLoadAssignmentSchema, message), rest)) return undefined;
  const before = remembered.get(message.clusterName);
  const now: Endpoints = new Map();
  for (const group of groups) {
    const endpoints: Uint8Array[] = [];
    const own = split(group, LB_ENDPOINTS, endpoints);
    if (!own) return undefined;
    const locality = fromBinary(LocalityLbEndpointsSchema, own);
    if (!sameBytes(toBinary(LocalityLbEndpointsSchema, locality), own)) return undefined;
    for (const endpoint of endpoints) locality.lbEndpoints.push(decodeEndpoint(endpoint, before, now));
    message.endpoints.push(locality);
  }
  remember(message.clusterName, now);
  return message;
}

/** A length that reaches beyond its message is read with what stands behind it, and here that is something else. */
function sameBytes(written: Uint8Array, read: Uint8Array): boolean {
  return Buffer.compare(written, read) === 0;
}

function decodeEndpoint(bytes: Uint8Array, before: Endpoints | undefined, now: Endpoints): LbEndpoint {
  const key = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('latin1');
  const known = now.get(key) ?? before?.get(key);
  const endpoint = known ?? fromBinary(LbEndpointSchema, bytes);
  now.set(key, endpoint);
  return endpoint;
}

function remember(name: string, endpoints: Endpoints): void {
  remembered.delete(name);
  if (remembered.size >= MAX_REMEMBERED_ASSIGNMENTS) {
    const oldest = remembered.keys().next().value;
    if (oldest !== undefined) remembered.delete(oldest);
  }
  remembered.set(name, endpoints);
}

/** Puts the values of `field` into `out` and gives the message without them; undefined = not well-formed. */
function split(bytes: Uint8Array, field: number, out: Uint8Array[]): Uint8Array | undefined {
  const rest: Uint8Array[] = [];
  let at = 0;
  const varint = (): number => {
    let value = 0;
    for (let shift = 0; shift < 35; shift += 7) {
      const byte = bytes[at++];
      if (byte === undefined) return -1;
      value += (byte & 127) * 2 ** shift;
      if (byte < 128) return value;
    }
    return -1;
  };
  while (at < bytes.length) {
    const start = at;
    const tag = varint();
    if (tag < 0) return undefined;
    const wire = tag & 7;
    if (wire === LENGTH_DELIMITED) {
      const length = varint();
      if (length < 0 || at + length > bytes.length) return undefined;
      if (tag >>> 3 === field) out.push(bytes.subarray(at, at + length));
      else rest.push(bytes.subarray(start, at + length));
      at += length;
    } else if (wire === 0) {
      // Ten bytes at most; the value does not matter.
      let length = 0;
      while ((bytes[at + length] ?? 0) > 127) length += 1;
      at += length + 1;
      if (at > bytes.length) return undefined;
      rest.push(bytes.subarray(start, at));
    } else return undefined;
  }
  return Buffer.concat(rest);
}
