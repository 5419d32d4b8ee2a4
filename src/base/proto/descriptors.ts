// Protobuf descriptors that cost nothing until they are used: the generated modules under #proto get theirs from here, out of
// the tables in generated/proto/files.js (written by scripts/generate/proto.ts). The library's own hydration walks every file a
// file depends on, for every file: that is 0.4 s and 25 MB for the Envoy API, in every process.
import {
  create,
  type DescEnum,
  type DescEnumValue,
  type DescField,
  type DescFile,
  type DescMessage,
  type DescMethod,
  type DescOneof,
  type DescService,
  ScalarType,
} from '@bufbuild/protobuf';
import {
  DescriptorProtoSchema,
  EnumDescriptorProtoSchema,
  EnumValueDescriptorProtoSchema,
  FieldDescriptorProtoSchema,
  FileDescriptorProtoSchema,
  MethodDescriptorProtoSchema,
  OneofDescriptorProtoSchema,
  ServiceDescriptorProtoSchema,
} from '@bufbuild/protobuf/wkt';
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
  TYPE_BITS,
  TYPE_ENUM,
  TYPE_MESSAGE,
  type TypeRef,
} from './rows.ts';
import { wellKnownEnum, wellKnownMessage } from './well-known.ts';

// The numbers of descriptor.proto: Edition, and FeatureSet.FieldPresence.
const EDITION_PROTO3 = 999;
const PRESENCE_EXPLICIT = 1;
const PRESENCE_IMPLICIT = 2;

/** What the generated modules import. */
export interface Descriptors {
  fileDesc(index: number): DescFile;
  messageDesc(file: DescFile, index: number, ...nested: readonly number[]): DescMessage;
  enumDesc(file: DescFile, index: number, ...nested: readonly number[]): DescEnum;
  serviceDesc(file: DescFile, index: number): DescService;
  /** As TypeScript compiles an enum: names to numbers and numbers to names. */
  tsEnum(desc: DescEnum): Record<string, string | number>;
}

interface Resolver {
  file(index: number): DescFile;
  message(ref: TypeRef): DescMessage;
  enum(ref: TypeRef): DescEnum;
}

/** `files[i]` gives the table of file `i`; it is called when a type of that file is first needed. */
export function createDescriptors(files: readonly (() => FileRow)[]): Descriptors {
  const made = new Map<number, DescFile>();
  const placed = ([file, ...path]: Exclude<TypeRef, string>): [DescFile, number, ...number[]] => [
    resolver.file(file),
    ...path,
  ];
  const resolver: Resolver = {
    file(index) {
      let file = made.get(index);
      if (!file) {
        const row = files[index];
        if (!row) throw new Error(`there is no protobuf file ${index}: run npm run generate`);
        file = new LazyFile(row(), resolver);
        made.set(index, file);
      }
      return file;
    },
    message: (ref) => (typeof ref === 'string' ? wellKnownMessage(ref) : messageDesc(...placed(ref))),
    enum: (ref) => (typeof ref === 'string' ? wellKnownEnum(ref) : enumDesc(...placed(ref))),
  };
  return { fileDesc: resolver.file, messageDesc, enumDesc, serviceDesc, tsEnum };
}

function messageDesc(file: DescFile, index: number, ...nested: readonly number[]): DescMessage {
  let found = file.messages[index];
  for (const next of nested) found = found?.nestedMessages[next];
  return found ?? missing('message', file, index, nested);
}

function enumDesc(file: DescFile, index: number, ...nested: readonly number[]): DescEnum {
  const last = nested.at(-1);
  const found =
    last === undefined ? file.enums[index] : messageDesc(file, index, ...nested.slice(0, -1)).nestedEnums[last];
  return found ?? missing('enum', file, index, nested);
}

function serviceDesc(file: DescFile, index: number): DescService {
  return file.services[index] ?? missing('service', file, index, []);
}

function missing(kind: string, file: DescFile, index: number, nested: readonly number[]): never {
  throw new Error(`${file.name} has no ${kind} ${[index, ...nested].join('.')}: run npm run generate`);
}

function tsEnum(desc: DescEnum): Record<string, string | number> {
  const object: Record<string, string | number> = {};
  for (const value of desc.values) {
    object[value.localName] = value.number;
    object[value.number] = value.localName;
  }
  return object;
}

class LazyFile implements DescFile {
  readonly kind = 'file';
  readonly edition = EDITION_PROTO3;
  readonly deprecated = false;
  readonly extensions = [];
  /** Types are found through references, so what a file imports is not kept. */
  readonly dependencies = [];
  readonly name: string;
  readonly enums: DescEnum[];
  readonly messages: DescMessage[];
  readonly services: DescService[];
  /** Its package. */
  readonly scope: string;

  constructor(row: FileRow, resolver: Resolver) {
    this.name = row.name;
    this.scope = row.package;
    this.enums = row.enums.map((e) => enumOf(e, this, undefined));
    this.messages = row.messages.map((m) => new LazyMessage(m, this, undefined, resolver));
    this.services = row.services.map(([name, methods]) => serviceOf(name, methods, this, resolver));
  }

  get proto() {
    return create(FileDescriptorProtoSchema, { name: `${this.name}.proto`, package: this.scope, syntax: 'proto3' });
  }
  toString(): string {
    return `file ${this.name}.proto`;
  }
}

interface Members {
  readonly fields: DescField[];
  readonly field: Record<string, DescField>;
  readonly oneofs: DescOneof[];
  readonly members: (DescField | DescOneof)[];
}

class LazyMessage implements DescMessage {
  readonly kind = 'message';
  readonly deprecated = false;
  readonly nestedExtensions = [];
  readonly name: string;
  readonly typeName: string;
  readonly file: LazyFile;
  readonly parent: DescMessage | undefined;
  readonly nestedEnums: DescEnum[];
  readonly nestedMessages: DescMessage[];
  readonly #resolver: Resolver;
  readonly #row: MessageRow;
  #members: Members | undefined;

  constructor(row: MessageRow, file: LazyFile, parent: LazyMessage | undefined, resolver: Resolver) {
    const [name, , , messages = [], enums = []] = row;
    this.name = name;
    this.typeName = inScope(parent?.typeName ?? file.scope, name);
    this.file = file;
    this.parent = parent;
    this.#row = row;
    this.#resolver = resolver;
    this.nestedEnums = enums.map((e) => enumOf(e, file, this));
    this.nestedMessages = messages.map((m) => new LazyMessage(m, file, this, resolver));
  }

  get fields() {
    return this.#load().fields;
  }
  get field() {
    return this.#load().field;
  }
  get oneofs() {
    return this.#load().oneofs;
  }
  get members() {
    return this.#load().members;
  }
  get proto() {
    return create(DescriptorProtoSchema, { name: this.name });
  }
  toString(): string {
    return `message ${this.typeName}`;
  }

  #load(): Members {
    this.#members ??= membersOf(this.#row, this, this.#resolver);
    return this.#members;
  }
}

function membersOf(row: MessageRow, message: DescMessage, resolver: Resolver): Members {
  const [, fieldRows, oneofRows = []] = row;
  const oneofs = oneofRows.map(([name, localName]) => oneofOf(name, localName, message));
  const all: Members = { fields: [], field: {}, oneofs, members: [] };
  for (const fieldRow of fieldRows) {
    const [, , , , oneofIndex = -1] = fieldRow;
    const oneof = oneofs[oneofIndex];
    const field = fieldOf(fieldRow, message, oneof, resolver);
    all.fields.push(field);
    all.field[field.localName] = field;
    if (!oneof) all.members.push(field);
    else if (oneof.fields.push(field) === 1) all.members.push(oneof);
  }
  return all;
}

function inScope(scope: string, name: string): string {
  return scope === '' ? name : `${scope}.${name}`;
}

function oneofOf(name: string, localName: string, parent: DescMessage): DescOneof {
  return {
    kind: 'oneof',
    name,
    localName,
    parent,
    fields: [],
    deprecated: false,
    get proto() {
      return create(OneofDescriptorProtoSchema, { name });
    },
    toString: () => `oneof ${parent.typeName}.${name}`,
  };
}

/** What every kind of field has; `message` and `enum` are looked up when read, because types refer to each other in circles. */
class LazyField {
  readonly kind = 'field';
  readonly deprecated = false;
  readonly utf8Validation = true;
  readonly longAsString = false;
  readonly delimitedEncoding: boolean | undefined;
  readonly name: string;
  readonly localName: string;
  readonly jsonName: string;
  readonly number: number;
  readonly parent: DescMessage;
  readonly oneof: DescOneof | undefined;
  readonly presence: typeof PRESENCE_EXPLICIT | typeof PRESENCE_IMPLICIT;
  readonly fieldKind: DescField['fieldKind'];
  readonly listKind: 'scalar' | 'enum' | 'message' | undefined;
  readonly mapKind: 'scalar' | 'enum' | 'message' | undefined;
  readonly mapKey: ScalarType | undefined;
  readonly scalar: ScalarType | undefined;
  readonly packed: boolean | undefined;
  readonly #ref: TypeRef;
  readonly #type: number;
  readonly #resolver: Resolver;
  #message: DescMessage | undefined;
  #enum: DescEnum | undefined;

  constructor(row: FieldRow, parent: DescMessage, oneof: DescOneof | undefined, resolver: Resolver) {
    const [name, localName, number, bits, , ref, mapKey, jsonName = localName] = row;
    const type = bits & TYPE_BITS;
    const valueKind = type === TYPE_MESSAGE ? 'message' : type === TYPE_ENUM ? 'enum' : 'scalar';
    const list = (bits & LIST) !== 0;
    const map = (bits & MAP) !== 0;
    this.name = name;
    this.localName = localName;
    this.jsonName = jsonName;
    this.number = number;
    this.parent = parent;
    this.oneof = oneof;
    this.fieldKind = list ? 'list' : map ? 'map' : valueKind;
    this.listKind = list ? valueKind : undefined;
    this.mapKind = map ? valueKind : undefined;
    this.mapKey = map ? mapKey : undefined;
    this.scalar = valueKind === 'scalar' ? type : undefined;
    this.delimitedEncoding = valueKind === 'message' ? false : map ? false : undefined;
    const explicit = oneof !== undefined || (bits & OPTIONAL) !== 0 || valueKind === 'message';
    this.presence = !list && !map && explicit ? PRESENCE_EXPLICIT : PRESENCE_IMPLICIT;
    const packable = type !== ScalarType.STRING && type !== ScalarType.BYTES && type !== TYPE_MESSAGE;
    this.packed = list ? packable && (bits & EXPANDED) === 0 : undefined;
    this.#type = type;
    this.#ref = ref || '';
    this.#resolver = resolver;
  }

  get message(): DescMessage | undefined {
    if (this.#type !== TYPE_MESSAGE) return undefined;
    this.#message ??= this.#resolver.message(this.#ref);
    return this.#message;
  }
  get enum(): DescEnum | undefined {
    if (this.#type !== TYPE_ENUM) return undefined;
    this.#enum ??= this.#resolver.enum(this.#ref);
    return this.#enum;
  }
  get proto() {
    return create(FieldDescriptorProtoSchema, { name: this.name, number: this.number, jsonName: this.jsonName });
  }
  /** proto3 has no defaults of its own. */
  getDefaultValue(): undefined {
    return undefined;
  }
  toString(): string {
    return `field ${this.parent.typeName}.${this.name}`;
  }
}

/** The kinds of DescField differ in types that follow from `fieldKind`, which a class cannot say. */
function fieldOf(row: FieldRow, parent: DescMessage, oneof: DescOneof | undefined, resolver: Resolver): DescField {
  return new LazyField(row, parent, oneof, resolver) as unknown as DescField;
}

function enumOf([name, rows, sharedPrefix]: EnumRow, file: LazyFile, parent: LazyMessage | undefined): DescEnum {
  let loaded: { values: DescEnumValue[]; value: Record<number, DescEnumValue> } | undefined;
  const load = () => {
    loaded ??= enumValues(rows, desc);
    return loaded;
  };
  const desc: DescEnum = {
    kind: 'enum',
    name,
    typeName: inScope(parent?.typeName ?? file.scope, name),
    file,
    parent,
    open: true,
    deprecated: false,
    sharedPrefix,
    get values() {
      return load().values;
    },
    get value() {
      return load().value;
    },
    get proto() {
      return create(EnumDescriptorProtoSchema, { name });
    },
    toString: () => `enum ${desc.typeName}`,
  };
  return desc;
}

function enumValues(rows: EnumRow[1], parent: DescEnum) {
  const values: DescEnumValue[] = [];
  const value: Record<number, DescEnumValue> = {};
  for (const [name, localName, number] of rows) {
    const one: DescEnumValue = {
      kind: 'enum_value',
      name,
      localName,
      number,
      parent,
      jsonName: name,
      deprecated: false,
      get proto() {
        return create(EnumValueDescriptorProtoSchema, { name, number });
      },
      toString: () => `enum value ${parent.typeName}.${name}`,
    };
    values.push(one);
    value[number] ??= one; // Of two names for a number the first is meant.
  }
  return { values, value };
}

function serviceOf(name: string, rows: readonly MethodRow[], file: LazyFile, resolver: Resolver): DescService {
  const methods: DescMethod[] = [];
  const method: Record<string, DescMethod> = {};
  const service: DescService = {
    kind: 'service',
    name,
    typeName: inScope(file.scope, name),
    file,
    methods,
    method,
    deprecated: false,
    get proto() {
      return create(ServiceDescriptorProtoSchema, { name });
    },
    toString: () => `service ${service.typeName}`,
  };
  for (const row of rows) {
    const one = methodOf(row, service, resolver);
    methods.push(one);
    method[one.localName] = one;
  }
  return service;
}

function methodOf(row: MethodRow, parent: DescService, resolver: Resolver): DescMethod {
  const [name, localName, methodKind, input, output] = row;
  return {
    kind: 'rpc',
    name,
    localName,
    parent,
    methodKind,
    deprecated: false,
    idempotency: 0,
    get input() {
      return resolver.message(input);
    },
    get output() {
      return resolver.message(output);
    },
    get proto() {
      return create(MethodDescriptorProtoSchema, { name });
    },
    toString: () => `rpc ${parent.typeName}.${name}`,
  };
}
