// The types of google.protobuf, which the library itself carries. Called by descriptors.ts for fields that refer to them.
import type { DescEnum, DescMessage } from '@bufbuild/protobuf';
import {
  AnySchema,
  BoolValueSchema,
  BytesValueSchema,
  DoubleValueSchema,
  DurationSchema,
  EmptySchema,
  FieldMaskSchema,
  FloatValueSchema,
  Int32ValueSchema,
  Int64ValueSchema,
  ListValueSchema,
  NullValueSchema,
  StringValueSchema,
  StructSchema,
  TimestampSchema,
  UInt32ValueSchema,
  UInt64ValueSchema,
  ValueSchema,
} from '@bufbuild/protobuf/wkt';

const MESSAGES: ReadonlyMap<string, DescMessage> = new Map(
  [
    AnySchema,
    BoolValueSchema,
    BytesValueSchema,
    DoubleValueSchema,
    DurationSchema,
    EmptySchema,
    FieldMaskSchema,
    FloatValueSchema,
    Int32ValueSchema,
    Int64ValueSchema,
    ListValueSchema,
    StringValueSchema,
    StructSchema,
    TimestampSchema,
    UInt32ValueSchema,
    UInt64ValueSchema,
    ValueSchema,
  ].map((schema) => [schema.typeName, schema]),
);

export function wellKnownMessage(typeName: string): DescMessage {
  const found = MESSAGES.get(typeName);
  if (!found) throw new Error(`${typeName} is not listed in src/base/proto/well-known.ts: add it`);
  return found;
}

export function wellKnownEnum(typeName: string): DescEnum {
  if (typeName !== NullValueSchema.typeName) {
    throw new Error(`${typeName} is not listed in src/base/proto/well-known.ts: add it`);
  }
  return NullValueSchema;
}
