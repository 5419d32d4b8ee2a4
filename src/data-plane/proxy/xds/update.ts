// What a discovery transport (gRPC stream or file) tells the receiver of one type, and what that answers. Used by
// discovery-client.ts and file-source.ts on one side, the hub on the other.
import { create, fromBinary } from '@bufbuild/protobuf';
import type { Any } from '@bufbuild/protobuf/wkt';
import { ResourceSchema } from '#proto/envoy/service/discovery/v3/discovery_pb.js';
import { StatusSchema } from '#proto/google/rpc/status_pb.js';
import { typeNameOf } from '../config/any.ts';
import { millis } from '../config/fields.ts';

export interface ReceivedResource {
  /** Empty for bare state-of-the-world resources: the receiver reads it from the resource. */
  readonly name: string;
  readonly version: string;
  /** Undefined: nothing but the name: a heartbeat, or "there is no such thing" where aliases are given (VHDS). */
  readonly any: Any | undefined;
  readonly aliases: readonly string[];
  /** After this time the resource counts as removed, ms; undefined: never. */
  readonly ttlMs: number | undefined;
}

export interface ResourceUpdate {
  readonly resources: readonly ReceivedResource[];
  readonly removed: readonly string[];
  readonly version: string;
  /** True: resources that are not listed are gone (state of the world, wildcard types). */
  readonly complete: boolean;
}

export interface Rejection {
  readonly name: string;
  readonly reason: string;
}

/** The receiver of one type of resource from one source. */
export interface Receiver {
  readonly typeUrl: string;
  /** Applies what is good; the answer names the resources that were refused and why. */
  apply(update: ResourceUpdate): readonly Rejection[];
  /** The name inside a resource; empty when it cannot be read. */
  nameOf(any: Any): string;
  /** One text for several refusals. */
  refusal(rejected: readonly Rejection[]): string;
  /** Asks for one resource by name. False: it may not be asked for. Absent: the type is not discovered on demand. */
  ask?(name: string): boolean;
  /** A request was sent, or the connection was lost: for statistics. */
  attempted(): void;
  failed(reason: string): void;
}

/** Unpacks a state-of-the-world resource that came in a Resource wrapper. */
export function unwrap(any: Any, version: string): ReceivedResource {
  if (typeNameOf(any.typeUrl) !== ResourceSchema.typeName)
    return { name: '', version, any, aliases: [], ttlMs: undefined };
  const wrapped = fromBinary(ResourceSchema, any.value);
  return {
    name: wrapped.name,
    version: wrapped.version || version,
    any: wrapped.resource,
    aliases: wrapped.aliases,
    ttlMs: wrapped.ttl ? millis(wrapped.ttl, 0) : undefined,
  };
}

/** Names that stand twice in one answer, which makes it wrong. */
export function* duplicates(resources: readonly ReceivedResource[]): Iterable<Rejection> {
  const seen = new Set<string>();
  for (const { name } of resources) {
    if (seen.has(name)) yield { name, reason: `duplicate resource ${name} found` };
    seen.add(name);
  }
}

/** A NACK text longer than this is cut. */
const MAX_NACK_CHARS = 8_192;

/** The refusal as the control plane and the log are told it. */
export function nackText(receiver: Pick<Receiver, 'refusal'>, rejected: readonly Rejection[]): string {
  const text = receiver.refusal(rejected);
  return text.length > MAX_NACK_CHARS ? `${text.slice(0, MAX_NACK_CHARS)}…` : text;
}

/** code 13 = INTERNAL, as Envoy sends. */
export function nackStatus(message: string) {
  return create(StatusSchema, { code: 13, message });
}

/** A number that changes with the text, within the range of exact doubles. */
export function hashOf(text: string): number {
  let hash = 0;
  for (let i = 0; i < text.length; i++) hash = (Math.imul(hash, 31) + text.charCodeAt(i)) | 0;
  return hash >>> 0;
}
