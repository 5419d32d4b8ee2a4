// Lazy descriptors must say what the library's own say, or bytes on the wire differ.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  create,
  createFileRegistry,
  createRegistry,
  type DescField,
  type DescMessage,
  fromBinary,
  type MessageInitShape,
  toBinary,
  toJson,
} from '@bufbuild/protobuf';
import {
  anyPack,
  DurationSchema,
  FileDescriptorSetSchema,
  file_google_protobuf_duration,
} from '@bufbuild/protobuf/wkt';
import { fileRow } from '../../../scripts/generate/proto-rows.ts';
import { createDescriptors } from './descriptors.ts';

const OPTIONAL = 1;
const REPEATED = 3;
type Field = NonNullable<
  NonNullable<NonNullable<MessageInitShape<typeof FileDescriptorSetSchema>['file']>[0]['messageType']>[0]['field']
>[0];

let number = 0;
function field(name: string, type: number, more: object = {}): Field {
  number += 1;
  return {
    name,
    jsonName: name.replace(/_(.)/g, (_, c: string) => c.toUpperCase()),
    number,
    type,
    label: OPTIONAL,
    ...more,
  };
}

const FIELDS: Field[] = [
  field('id', 4),
  field('some_name', 9),
  field('bytes', 12),
  field('maybe', 13, { proto3Optional: true, oneofIndex: 1 }),
  field('numbers', 5, { label: REPEATED }),
  field('spread', 5, { label: REPEATED, options: { packed: false } }),
  field('colors', 14, { label: REPEATED, typeName: '.t.Color' }),
  field('color', 14, { typeName: '.t.Color' }),
  field('self', 11, { typeName: '.t.Tree' }),
  field('leaves', 11, { label: REPEATED, typeName: '.t.Tree.Leaf' }),
  field('named', 11, { label: REPEATED, typeName: '.t.Tree.NamedEntry' }),
  field('age', 11, { typeName: '.google.protobuf.Duration' }),
  field('renamed', 9, { jsonName: 'otherName' }),
  field('constructor', 8, { oneofIndex: 0 }),
  field('leaf', 11, { typeName: '.t.Tree.Leaf', oneofIndex: 0 }),
];

function libraryFile(syntax = 'proto3') {
  const set = create(FileDescriptorSetSchema, {
    file: [
      file_google_protobuf_duration.proto,
      {
        name: 't.proto',
        package: 't',
        syntax,
        dependency: ['google/protobuf/duration.proto'],
        enumType: [
          {
            name: 'Color',
            value: [
              { name: 'COLOR_NONE', number: 0 },
              { name: 'COLOR_RED', number: 1 },
            ],
          },
        ],
        messageType: [
          {
            name: 'Tree',
            field: FIELDS,
            oneofDecl: [{ name: 'one_of' }, { name: '_maybe' }],
            nestedType: [
              { name: 'Leaf', field: [{ ...field('depth', 3), number: 1 }] },
              {
                name: 'NamedEntry',
                options: { mapEntry: true },
                field: [
                  { name: 'key', jsonName: 'key', number: 1, type: 9, label: OPTIONAL },
                  { name: 'value', jsonName: 'value', number: 2, type: 11, label: OPTIONAL, typeName: '.t.Tree.Leaf' },
                ],
              },
            ],
          },
        ],
        service: [
          {
            name: 'Woods',
            method: [{ name: 'Walk', inputType: '.t.Tree', outputType: '.t.Tree.Leaf', serverStreaming: true }],
          },
        ],
      },
    ],
  });
  const file = createFileRegistry(set).getFile('t.proto');
  assert.ok(file);
  return file;
}

function facts(one: DescField) {
  const { name, localName, number, jsonName, presence, fieldKind, scalar, utf8Validation } = one;
  const list = one.fieldKind === 'list' ? [one.listKind, one.packed] : [];
  const map = one.fieldKind === 'map' ? [one.mapKind, one.mapKey] : [];
  const types = [one.message?.typeName, one.enum?.typeName, one.oneof?.name];
  return { name, localName, number, jsonName, presence, fieldKind, scalar, utf8Validation, list, map, types };
}

function both() {
  const library = libraryFile();
  const row = fileRow(library, () => 0);
  const lazy = createDescriptors([() => JSON.parse(JSON.stringify(row))]);
  return { library, file: lazy.fileDesc(0), lazy };
}

test('fields, oneofs, enums and methods are those of the library', () => {
  const { library, file, lazy } = both();
  const want = library.messages[0];
  const got = lazy.messageDesc(file, 0);
  assert.ok(want);
  assert.deepEqual(got.fields.map(facts), want.fields.map(facts));
  const names = (m: DescMessage) => m.members.map((one) => `${one.kind} ${one.localName}`);
  assert.deepEqual(names(got), names(want));
  assert.deepEqual(
    got.oneofs.map((o) => o.fields.map(String)),
    want.oneofs.map((o) => o.fields.map(String)),
  );
  assert.equal(lazy.messageDesc(file, 0, 0).typeName, 't.Tree.Leaf');
  assert.equal(got.field.age?.message, DurationSchema);
  assert.deepEqual(lazy.tsEnum(lazy.enumDesc(file, 0)), { NONE: 0, 0: 'NONE', RED: 1, 1: 'RED' });
  const walk = lazy.serviceDesc(file, 0).method.walk;
  assert.equal(walk?.methodKind, 'server_streaming');
  assert.equal(walk?.input, got);
});

test('the bytes and the JSON of a message are those of the library', () => {
  const { library, file, lazy } = both();
  const want = library.messages[0];
  const got = lazy.messageDesc(file, 0);
  assert.ok(want);
  const init = {
    id: 7n,
    someName: 'a',
    bytes: new Uint8Array([1]),
    maybe: 0,
    numbers: [1, 2],
    spread: [3, 4],
    colors: [1],
    color: 1,
    self: { someName: 'b' },
    leaves: [{ depth: 1n }],
    named: { x: { depth: 2n } },
    age: { seconds: 3n },
    renamed: 'r',
    oneOf: { case: 'leaf', value: { depth: 4n } },
  };
  const expected = toBinary(want, create(want, init));
  assert.deepEqual(toBinary(got, create(got, init)), expected);
  assert.deepEqual(toJson(got, fromBinary(got, expected)), toJson(want, fromBinary(want, expected)));
  const registry = createRegistry(got);
  const packed = anyPack(got, create(got, init));
  assert.equal(registry.getMessage('t.Tree'), got);
  assert.equal(packed.typeUrl, 'type.googleapis.com/t.Tree');
});

test('a file is read when one of its types is first needed', () => {
  let reads = 0;
  const row = fileRow(libraryFile(), () => 0);
  const lazy = createDescriptors([
    () => {
      reads += 1;
      return row;
    },
  ]);
  assert.equal(reads, 0);
  lazy.fileDesc(0);
  lazy.fileDesc(0);
  assert.equal(reads, 1);
});

test('what the tables cannot say is refused', () => {
  assert.throws(() => fileRow(libraryFile('proto2'), () => 0), /t\.proto is not proto3/);
  const { file, lazy } = both();
  assert.throws(() => lazy.messageDesc(file, 5), /t has no message 5/);
  assert.throws(() => lazy.fileDesc(1), /no protobuf file 1/);
});
