// google.protobuf.Any: packing, and resources kept in their serialized form so that one is encoded once and sent often.
import { createHash } from 'node:crypto';
import {
  create,
  type DescMessage,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from '@bufbuild/protobuf';
import { type Any, AnySchema } from '@bufbuild/protobuf/wkt';

const PREFIX = 'type.googleapis.com/';

export function typeUrlOf(schema: DescMessage): string {
  return PREFIX + schema.typeName;
}

export function packAny<S extends DescMessage>(schema: S, init: MessageInitShape<S>): Any {
  return create(AnySchema, { typeUrl: typeUrlOf(schema), value: toBinary(schema, create(schema, init)) });
}

/** Undefined when `any` holds another type. Throws when its bytes are not a message of that type. */
export function unpackAny<S extends DescMessage>(schema: S, any: Any): MessageShape<S> | undefined {
  return any.typeUrl === typeUrlOf(schema) ? fromBinary(schema, any.value) : undefined;
}

/** A named xDS resource, encoded. `version` is a hash of the content. */
export interface EncodedResource {
  readonly name: string;
  readonly any: Any;
  readonly version: string;
}

export function encodeResource<S extends DescMessage>(
  schema: S,
  name: string,
  init: MessageInitShape<S>,
): EncodedResource {
  const any = packAny(schema, init);
  return { name, any, version: createHash('sha1').update(any.value).digest('base64url') };
}
