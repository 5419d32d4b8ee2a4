// The tables descriptors are made from: written by scripts/generate/proto-rows.ts, read by descriptors.ts. Only proto3 without
// extensions, groups and options is in them; the writer refuses the rest.

/** A type: `[file, index, ...indices of nested types]`, or the name of a type of google.protobuf. */
export type TypeRef = string | readonly [file: number, index: number, ...nested: number[]];

export const TYPE_MESSAGE = 11;
export const TYPE_ENUM = 14;

/** The type as in FieldDescriptorProto.Type (of the value, for a map), with these bits. */
export const TYPE_BITS = 0x1f;
export const LIST = 0x20;
export const MAP = 0x40;
/** The keyword `optional`. */
export const OPTIONAL = 0x80;
/** `[packed = false]`. */
export const EXPANDED = 0x100;

/** Name, name in code, number, type and bits, oneof (-1: none), type it refers to (0: none), type of the map's keys, JSON name. */
export type FieldRow = readonly [
  name: string,
  localName: string,
  number: number,
  type: number,
  oneof?: number,
  ref?: TypeRef | 0,
  mapKey?: number,
  jsonName?: string,
];
export type OneofRow = readonly [name: string, localName: string];
export type EnumRow = readonly [
  name: string,
  values: readonly (readonly [name: string, localName: string, number: number])[],
  sharedPrefix?: string,
];
export type MessageRow = readonly [
  name: string,
  fields: readonly FieldRow[],
  oneofs?: readonly OneofRow[],
  messages?: readonly MessageRow[],
  enums?: readonly EnumRow[],
];
export type MethodRow = readonly [
  name: string,
  localName: string,
  kind: 'unary' | 'client_streaming' | 'server_streaming' | 'bidi_streaming',
  input: TypeRef,
  output: TypeRef,
];
export type ServiceRow = readonly [name: string, methods: readonly MethodRow[]];

export interface FileRow {
  /** Without `.proto`. */
  readonly name: string;
  readonly package: string;
  readonly messages: readonly MessageRow[];
  readonly enums: readonly EnumRow[];
  readonly services: readonly ServiceRow[];
}
