// Opens google.protobuf.Any and TypedStruct by a table of the types this proxy knows. Called by builders of extensions.
import { type DescMessage, fromBinary, fromJson, type JsonObject, type MessageShape } from '@bufbuild/protobuf';
import type { Any } from '@bufbuild/protobuf/wkt';
import { TypedStructSchema as UdpaTypedStructSchema } from '#proto/udpa/type/v1/typed_struct_pb.js';
import { TypedStructSchema } from '#proto/xds/type/v3/typed_struct_pb.js';
import { checkConstraints } from './constraints.ts';
import { ConfigError } from './fields.ts';

/** One extension: its message and what is made of it. */
export interface Extension<Context, Built> {
  readonly typeName: string;
  readonly schema: DescMessage;
  build(any: OpenedAny, context: Context, path: string): Built;
}

/** An Any whose real type name is known; `open` decodes it with the schema of that type. */
export interface OpenedAny {
  readonly typeName: string;
  open<D extends DescMessage>(schema: D): MessageShape<D>;
}

export function extension<D extends DescMessage, Context, Built>(
  schema: D,
  build: (message: MessageShape<D>, context: Context, path: string) => Built,
): Extension<Context, Built> {
  return { typeName: schema.typeName, schema, build: (any, context, path) => build(any.open(schema), context, path) };
}

export function typeNameOf(typeUrl: string): string {
  return typeUrl.slice(typeUrl.lastIndexOf('/') + 1);
}

/** Finds the extension for `any` in `table` and builds it; `name` is only for the error text. */
export function buildExtension<Context, Built>(
  table: readonly Extension<Context, Built>[],
  any: Any | undefined,
  name: string,
  context: Context,
  path: string,
): Built {
  if (!any) throw new ConfigError(path, `'${name}' has no typed_config`);
  const opened = openAny(any, path);
  const found = table.find((entry) => entry.typeName === opened.typeName);
  if (!found)
    throw new ConfigError(
      path,
      `Didn't find a registered implementation for '${name}' with type URL: '${opened.typeName}'`,
    );
  return found.build(opened, context, path);
}

export function openAny(any: Any, path: string): OpenedAny {
  const typeName = typeNameOf(any.typeUrl);
  if (typeName === TypedStructSchema.typeName) {
    const struct = decode(TypedStructSchema, any.value, path);
    return fromStruct(struct.typeUrl, struct.value, path);
  }
  if (typeName === UdpaTypedStructSchema.typeName) {
    const struct = decode(UdpaTypedStructSchema, any.value, path);
    return fromStruct(struct.typeUrl, struct.value, path);
  }
  return { typeName, open: (schema) => checked(schema, decode(schema, any.value, path), path) };
}

function fromStruct(typeUrl: string, value: JsonObject | undefined, path: string): OpenedAny {
  return {
    typeName: typeNameOf(typeUrl),
    open(schema) {
      try {
        return checked(schema, fromJson(schema, value ?? {}), path);
      } catch (error) {
        if (error instanceof ConfigError) throw error;
        throw new ConfigError(
          path,
          `cannot read ${schema.typeName}: ${error instanceof Error ? error.message : error}`,
        );
      }
    },
  };
}

function checked<D extends DescMessage>(schema: D, message: MessageShape<D>, path: string): MessageShape<D> {
  checkConstraints(schema, message, path);
  return message;
}

function decode<D extends DescMessage>(schema: D, bytes: Uint8Array, path: string): MessageShape<D> {
  try {
    return fromBinary(schema, bytes);
  } catch (error) {
    throw new ConfigError(path, `cannot read ${schema.typeName}: ${error instanceof Error ? error.message : error}`);
  }
}
