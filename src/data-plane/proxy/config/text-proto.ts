// The text format of protobuf (.pb_text), read into a message by reflection. Loaded only for such a file.
import {
  type DescField,
  type DescMessage,
  type MessageShape,
  type Registry,
  ScalarType,
  toBinary,
} from '@bufbuild/protobuf';
import { type ReflectMessage, reflect } from '@bufbuild/protobuf/reflect';
import { AnySchema, ListValueSchema, StructSchema, ValueSchema } from '@bufbuild/protobuf/wkt';
import { MAX_TEXT_PROTO_DEPTH } from '../limits.ts';

interface Token {
  readonly kind: 'name' | 'string' | 'number' | 'mark';
  readonly text: string;
  readonly line: number;
}

/** What is wrong, with its line. */
export class TextProtoError extends Error {}

export function parseTextProto<D extends DescMessage>(schema: D, text: string, registry: Registry): MessageShape<D> {
  const parser = new Parser(tokens(text), registry);
  const message = reflect(schema);
  parser.fields(message, undefined, 0);
  return message.message as MessageShape<D>;
}

function* tokens(text: string): Generator<Token> {
  const pattern =
    /(\s+|#[^\n]*)|([A-Za-z_][\w]*)|("(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')|([-+]?(?:0x[0-9a-fA-F]+|(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)f?)|([{}<>[\]:,;/.-])/y;
  let line = 1;
  for (;;) {
    if (pattern.lastIndex >= text.length) return;
    const at = pattern.lastIndex;
    const match = pattern.exec(text);
    if (!match) throw new TextProtoError(`line ${line}: unexpected character '${text[at]}'`);
    const [all, space, name, string, number, mark] = match;
    if (space === undefined)
      yield {
        kind: name !== undefined ? 'name' : string !== undefined ? 'string' : number !== undefined ? 'number' : 'mark',
        text: name ?? string ?? number ?? mark!,
        line,
      };
    for (const char of all) if (char === '\n') line += 1;
  }
}

class Parser {
  readonly #tokens: Generator<Token>;
  readonly #registry: Registry;
  #next: Token | undefined;
  #line = 1;

  constructor(source: Generator<Token>, registry: Registry) {
    this.#tokens = source;
    this.#registry = registry;
    this.#next = this.#pull();
  }

  fields(message: ReflectMessage, close: string | undefined, depth: number): void {
    if (depth > MAX_TEXT_PROTO_DEPTH) throw this.#wrong('nested too deeply');
    for (;;) {
      const token = this.#next;
      if (!token) {
        if (close === undefined) return;
        throw this.#wrong(`'${close}' is missing`);
      }
      if (close !== undefined && token.text === close && token.kind === 'mark') {
        this.#take();
        return;
      }
      this.#field(message, depth);
      while (this.#next?.kind === 'mark' && (this.#next.text === ',' || this.#next.text === ';')) this.#take();
    }
  }

  #field(message: ReflectMessage, depth: number): void {
    const token = this.#take();
    if (token.kind === 'mark' && token.text === '[') {
      this.#expandedAny(message, depth);
      return;
    }
    if (token.kind !== 'name') throw this.#wrong(`a field name is expected, not ${shown(token)}`);
    const field = message.desc.fields.find((each) => each.name === token.text);
    if (!field) throw this.#wrong(`${message.desc.typeName} has no field '${token.text}'`);
    const colon = this.#accept(':');
    const holds =
      field.fieldKind === 'message' ||
      field.fieldKind === 'map' ||
      (field.fieldKind === 'list' && field.listKind === 'message');
    if (!colon && !holds) throw this.#wrong(`':' is missing after '${token.text}'`);
    if ((field.fieldKind === 'list' || field.fieldKind === 'map') && this.#accept('[')) {
      if (this.#accept(']')) return;
      do this.#value(message, field, depth);
      while (this.#accept(','));
      this.#expect(']');
      return;
    }
    this.#value(message, field, depth);
  }

  #value(message: ReflectMessage, field: DescField, depth: number): void {
    switch (field.fieldKind) {
      case 'message': {
        const into = message.isSet(field) ? message.get(field) : undefined;
        message.set(field, this.#message(field.message, depth, asReflect(into)));
        return;
      }
      case 'list': {
        const list = message.get(field);
        if (field.listKind === 'message') list.add(this.#message(field.message, depth, undefined));
        else list.add(field.listKind === 'enum' ? this.#enum(field) : this.#scalar(field.scalar));
        return;
      }
      case 'map': {
        this.#mapEntry(message, field, depth);
        return;
      }
      case 'enum':
        message.set(field, this.#enum(field));
        return;
      default:
        message.set(field, this.#scalar(field.scalar));
    }
  }

  #open(): string {
    const token = this.#take();
    if (token.text === '{') return '}';
    if (token.text === '<') return '>';
    throw this.#wrong(`'{' is expected, not ${shown(token)}`);
  }

  #message(schema: DescMessage, depth: number, into: ReflectMessage | undefined): unknown {
    const close = this.#open();
    if (([StructSchema.typeName, ValueSchema.typeName, ListValueSchema.typeName] as string[]).includes(schema.typeName))
      throw this.#wrong(`${schema.typeName} is not supported in the text format: use YAML`);
    const message = into ?? reflect(schema);
    this.fields(message, close, depth + 1);
    return message;
  }

  #mapEntry(message: ReflectMessage, field: DescField & { fieldKind: 'map' }, depth: number): void {
    const close = this.#open();
    let key: unknown;
    let value: unknown;
    while (!this.#accept(close)) {
      const name = this.#take().text;
      this.#accept(':');
      if (name === 'key') key = this.#scalar(field.mapKey);
      else if (name !== 'value') throw this.#wrong(`a map entry has no field '${name}'`);
      else if (field.mapKind === 'message') value = this.#message(field.message, depth, undefined);
      else value = field.mapKind === 'enum' ? this.#enum(field) : this.#scalar(field.scalar);
      this.#accept(',');
    }
    if (key === undefined || value === undefined) throw this.#wrong('a map entry needs key and value');
    message.get(field).set(key, value);
  }

  /** `[type.googleapis.com/full.Name] { … }` inside an Any. */
  #expandedAny(message: ReflectMessage, depth: number): void {
    if (message.desc.typeName !== AnySchema.typeName)
      throw this.#wrong('extensions are only known inside google.protobuf.Any');
    let url = '';
    while (!this.#accept(']')) url += this.#take().text;
    this.#accept(':');
    const schema = this.#registry.getMessage(url.slice(url.lastIndexOf('/') + 1));
    if (!schema) throw this.#wrong(`could not find @type '${url}'`);
    const inner = asReflect(this.#message(schema, depth, undefined))!;
    const any = message.message as MessageShape<typeof AnySchema>;
    any.typeUrl = url;
    any.value = toBinary(schema, inner.message as MessageShape<DescMessage>);
  }

  #enum(field: DescField): number {
    const token = this.#take();
    if (token.kind === 'number' && /^-?\d+$/.test(token.text)) return Number(token.text);
    const value = field.enum?.values.find((each) => each.name === token.text);
    if (!value) throw this.#wrong(`unknown enum value: ${shown(token)}`);
    return value.number;
  }

  #scalar(type: ScalarType | undefined): unknown {
    const token = this.#take();
    switch (type) {
      case ScalarType.STRING:
      case ScalarType.BYTES: {
        if (token.kind !== 'string') throw this.#wrong(`text in quotes is expected, not ${shown(token)}`);
        let bytes = bytesOf(token.text);
        while (this.#next?.kind === 'string') bytes = Buffer.concat([bytes, bytesOf(this.#take().text)]);
        return type === ScalarType.BYTES ? new Uint8Array(bytes) : bytes.toString('utf8');
      }
      case ScalarType.BOOL:
        if (/^(?:true|True|t|1)$/.test(token.text)) return true;
        if (/^(?:false|False|f|0)$/.test(token.text)) return false;
        throw this.#wrong(`true or false is expected, not ${shown(token)}`);
      case ScalarType.DOUBLE:
      case ScalarType.FLOAT: {
        const value = /^(?:inf|infinity)$/i.test(token.text)
          ? Number.POSITIVE_INFINITY
          : Number(token.text.replace(/f$/, ''));
        if (Number.isNaN(value)) throw this.#wrong(`${shown(token)} is not a number`);
        return value;
      }
      case ScalarType.INT64:
      case ScalarType.UINT64:
      case ScalarType.SINT64:
      case ScalarType.FIXED64:
      case ScalarType.SFIXED64:
        if (!/^-?(?:0x[0-9a-fA-F]+|\d+)$/.test(token.text)) throw this.#wrong(`${shown(token)} is not an integer`);
        return token.text.startsWith('-') ? -BigInt(token.text.slice(1)) : BigInt(token.text);
      default:
        if (!/^-?(?:0x[0-9a-fA-F]+|\d+)$/.test(token.text)) throw this.#wrong(`${shown(token)} is not an integer`);
        return Number(token.text);
    }
  }

  #accept(mark: string): boolean {
    if (this.#next?.kind !== 'mark' || this.#next.text !== mark) return false;
    this.#take();
    return true;
  }

  #expect(mark: string): void {
    if (!this.#accept(mark)) throw this.#wrong(`'${mark}' is expected, not '${this.#next?.text ?? 'the end'}'`);
  }

  #take(): Token {
    const token = this.#next;
    if (!token) throw this.#wrong('unexpected end');
    this.#line = token.line;
    this.#next = this.#pull();
    return token;
  }

  #pull(): Token | undefined {
    const { done, value } = this.#tokens.next();
    return done ? undefined : value;
  }

  #wrong(reason: string): TextProtoError {
    return new TextProtoError(`line ${this.#next?.line ?? this.#line}: ${reason}`);
  }
}

/** Texts may be keys: they are not shown. */
const shown = (token: Token): string => (token.kind === 'string' ? 'a text' : `'${token.text}'`);

const asReflect = (value: unknown): ReflectMessage | undefined => value as ReflectMessage | undefined;

const ESCAPES: Readonly<Record<string, number>> = { n: 10, r: 13, t: 9, a: 7, b: 8, f: 12, v: 11 };

function bytesOf(quoted: string): Buffer {
  const out: number[] = [];
  const bytes = Buffer.from(quoted.slice(1, -1), 'utf8');
  for (let i = 0; i < bytes.length; i++) {
    if (bytes[i] !== 0x5c) {
      out.push(bytes[i]!);
      continue;
    }
    i += 1;
    const letter = String.fromCharCode(bytes[i] ?? 0x5c);
    const rest = bytes.subarray(i, i + 3).toString('latin1');
    const octal = /^[0-7]{1,3}/.exec(rest);
    const hex = /^x[0-9a-fA-F]{1,2}/.exec(rest);
    if (octal) {
      out.push(Number.parseInt(octal[0], 8) & 255);
      i += octal[0].length - 1;
    } else if (hex) {
      out.push(Number.parseInt(hex[0].slice(1), 16));
      i += hex[0].length - 1;
    } else out.push(ESCAPES[letter] ?? letter.charCodeAt(0));
  }
  return Buffer.from(out);
}
