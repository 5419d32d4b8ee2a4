// Turns descriptors of the protobuf library into the tables of src/base/proto/rows.ts. Called by proto.ts.
import type { DescEnum, DescField, DescFile, DescMessage, DescMethod } from '@bufbuild/protobuf';
import {
  type EnumRow,
  EXPANDED,
  type FieldRow,
  type FileRow,
  LIST,
  MAP,
  type MessageRow,
  type MethodRow,
  OPTIONAL,
  TYPE_ENUM,
  TYPE_MESSAGE,
  type TypeRef,
} from '../../src/base/proto/rows.ts';

const EDITION_PROTO3 = 999;
const JSTYPE_NORMAL = 0;

/** `fileIndex` gives the place of a file in the list of tables. Throws on what the tables cannot say. */
export function fileRow(file: DescFile, fileIndex: (file: DescFile) => number): FileRow {
  if (file.edition !== EDITION_PROTO3) throw new Error(`${file.name}.proto is not proto3`);
  if (file.extensions.length > 0) throw new Error(`${file.name}.proto declares extensions`);
  return {
    name: file.name,
    package: file.proto.package,
    messages: file.messages.map((message) => messageRow(message, fileIndex)),
    enums: file.enums.map(enumRow),
    services: file.services.map((service) => [
      service.name,
      service.methods.map((method) => methodRow(method, fileIndex)),
    ]),
  };
}

function messageRow(message: DescMessage, fileIndex: (file: DescFile) => number): MessageRow {
  if (message.nestedExtensions.length > 0) throw new Error(`${message.typeName} declares extensions`);
  return [
    message.name,
    message.fields.map((field) => fieldRow(field, fileIndex)),
    message.oneofs.map((oneof) => [oneof.name, oneof.localName] as const),
    message.nestedMessages.map((nested) => messageRow(nested, fileIndex)),
    message.nestedEnums.map(enumRow),
  ];
}

function fieldRow(field: DescField, fileIndex: (file: DescFile) => number): FieldRow {
  const path = `${field.parent.typeName}.${field.name}`;
  const options = field.proto.options;
  if (options && options.jstype !== JSTYPE_NORMAL)
    throw new Error(`${path} has a jstype, which the tables do not keep`);
  if (field.fieldKind !== 'map' && 'delimitedEncoding' in field && field.delimitedEncoding) {
    throw new Error(`${path} is a group`);
  }
  let bits = field.message ? TYPE_MESSAGE : field.enum ? TYPE_ENUM : (field.scalar ?? 0);
  if (field.fieldKind === 'list') bits |= LIST;
  if (field.fieldKind === 'map') bits |= MAP;
  if (field.proto.proto3Optional) bits |= OPTIONAL;
  if (field.fieldKind === 'list' && isPackable(field) && !field.packed) bits |= EXPANDED;
  const target = field.message ?? field.enum;
  const row = [
    field.name,
    field.localName,
    field.number,
    bits,
    field.oneof ? field.parent.oneofs.indexOf(field.oneof) : -1,
    target ? typeRef(target, fileIndex) : 0,
    field.fieldKind === 'map' ? field.mapKey : 0,
  ] as const;
  return field.jsonName === field.localName ? row : [...row, field.jsonName];
}

function isPackable(field: DescField & { fieldKind: 'list' }): boolean {
  const STRING = 9;
  const BYTES = 12;
  return (
    field.listKind === 'enum' || (field.listKind === 'scalar' && field.scalar !== STRING && field.scalar !== BYTES)
  );
}

function typeRef(target: DescMessage | DescEnum, fileIndex: (file: DescFile) => number): TypeRef {
  if (target.file.proto.package === 'google.protobuf') return target.typeName;
  const [top, ...nested] = placesFromTop(target);
  return [fileIndex(target.file), top, ...nested];
}

function placesFromTop(desc: DescMessage | DescEnum): readonly [number, ...number[]] {
  const siblings: readonly unknown[] =
    desc.kind === 'enum'
      ? (desc.parent?.nestedEnums ?? desc.file.enums)
      : (desc.parent?.nestedMessages ?? desc.file.messages);
  const own = siblings.indexOf(desc);
  return desc.parent ? [...placesFromTop(desc.parent), own] : [own];
}

function enumRow(desc: DescEnum): EnumRow {
  const values = desc.values.map((value) => {
    if (value.jsonName !== value.name) throw new Error(`${desc.typeName}.${value.name} has a JSON name of its own`);
    return [value.name, value.localName, value.number] as const;
  });
  return desc.sharedPrefix === undefined ? [desc.name, values] : [desc.name, values, desc.sharedPrefix];
}

function methodRow(method: DescMethod, fileIndex: (file: DescFile) => number): MethodRow {
  const { name, localName, methodKind, input, output } = method;
  return [name, localName, methodKind, typeRef(input, fileIndex), typeRef(output, fileIndex)];
}
