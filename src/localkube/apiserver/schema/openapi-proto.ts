// The OpenAPI v2 document in protobuf (message openapi.v2.Document), the only form kubectl up to 1.2x asks for.
// Field numbers are those of gnostic's OpenAPIv2.proto. Called by openapi.ts.
import type { Json, JsonObject } from './types.ts';

const VARINT = 0;
const FIXED64 = 1;
const BYTES = 2;

function varint(value: number): Buffer {
  const bytes: number[] = [];
  let rest = BigInt.asUintN(64, BigInt(Math.trunc(value)));
  while (rest > 127n) {
    bytes.push(Number(rest & 127n) | 128);
    rest >>= 7n;
  }
  bytes.push(Number(rest));
  return Buffer.from(bytes);
}

function tag(field: number, wire: number): Buffer {
  return varint(field * 8 + wire);
}

function message(field: number, ...parts: readonly Buffer[]): Buffer {
  const body = Buffer.concat(parts);
  return Buffer.concat([tag(field, BYTES), varint(body.length), body]);
}

function text(field: number, value: Json | undefined): Buffer {
  return typeof value === 'string' && value !== '' ? message(field, Buffer.from(value)) : NOTHING;
}

function flag(field: number, value: Json | undefined): Buffer {
  return value === true ? Buffer.concat([tag(field, VARINT), varint(1)]) : NOTHING;
}

function integer(field: number, value: Json | undefined): Buffer {
  return typeof value === 'number' ? Buffer.concat([tag(field, VARINT), varint(value)]) : NOTHING;
}

function double(field: number, value: Json | undefined): Buffer {
  if (typeof value !== 'number') return NOTHING;
  const body = Buffer.alloc(8);
  body.writeDoubleLE(value);
  return Buffer.concat([tag(field, FIXED64), body]);
}

const NOTHING = Buffer.alloc(0);

function texts(field: number, value: Json | undefined): Buffer {
  return Array.isArray(value) ? Buffer.concat((value as readonly Json[]).map((item) => text(field, item))) : NOTHING;
}

/** Any: its value as YAML, of which JSON is a part. */
function any(field: number, value: Json | undefined): Buffer {
  return value === undefined ? NOTHING : message(field, text(2, `${JSON.stringify(value)}\n`));
}

function extensions(field: number, value: JsonObject): Buffer {
  const named = Object.entries(value).filter(([key, item]) => key.startsWith('x-') && item !== undefined);
  return Buffer.concat(named.map(([key, item]) => message(field, text(1, key), any(2, item))));
}

/** `document` is a Swagger 2.0 object as openapi-v2.ts renders it. */
export function encodeDocument(document: JsonObject): Buffer {
  const info = document.info as JsonObject;
  const definitions = Object.entries(document.definitions as JsonObject);
  const paths = Object.entries(document.paths as JsonObject);
  return Buffer.concat([
    text(1, document.swagger),
    message(2, text(1, info.title), text(2, info.version)),
    message(8, ...paths.map(([name, item]) => message(2, text(1, name), message(2, pathItem(item as JsonObject))))),
    message(9, ...definitions.map(([name, value]) => named(name, value as JsonObject))),
  ]);
}

function named(name: string, value: JsonObject): Buffer {
  return message(1, text(1, name), message(2, schema(value)));
}

function schema(value: JsonObject): Buffer {
  const { properties, items, additionalProperties, type } = value;
  const enums = Array.isArray(value.enum) ? (value.enum as readonly Json[]) : [];
  return Buffer.concat([
    text(1, value.$ref),
    text(2, value.format),
    text(3, value.title),
    text(4, value.description),
    any(5, value.default),
    double(6, value.multipleOf),
    double(7, value.maximum),
    flag(8, value.exclusiveMaximum),
    double(9, value.minimum),
    flag(10, value.exclusiveMinimum),
    integer(11, value.maxLength),
    integer(12, value.minLength),
    text(13, value.pattern),
    integer(14, value.maxItems),
    integer(15, value.minItems),
    integer(17, value.maxProperties),
    integer(18, value.minProperties),
    texts(19, value.required),
    ...enums.map((item) => any(20, item)),
    additionalProperties === undefined ? NOTHING : message(21, message(1, schema(additionalProperties as JsonObject))),
    type === undefined ? NOTHING : message(22, text(1, type)),
    items === undefined ? NOTHING : message(23, message(1, schema(items as JsonObject))),
    properties === undefined
      ? NOTHING
      : message(25, ...Object.entries(properties as JsonObject).map(([name, item]) => named(name, item as JsonObject))),
    extensions(31, value),
  ]);
}

const METHODS: Readonly<Record<string, number>> = { get: 2, put: 3, post: 4, delete: 5, patch: 8 };

function pathItem(value: JsonObject): Buffer {
  return Buffer.concat(
    Object.entries(value).map(([method, item]) => message(METHODS[method]!, operation(item as JsonObject))),
  );
}

function operation(value: JsonObject): Buffer {
  const parameters = value.parameters as unknown as readonly JsonObject[];
  const response = (value.responses as JsonObject)['200'] as JsonObject;
  return Buffer.concat([
    text(5, value.operationId),
    texts(6, value.produces),
    texts(7, value.consumes),
    ...parameters.map((p) => message(8, message(1, parameter(p)))),
    message(
      9,
      message(
        1,
        text(1, '200'),
        message(
          2,
          message(1, text(1, response.description), message(2, message(1, schema(response.schema as JsonObject)))),
        ),
      ),
    ),
    extensions(13, value),
  ]);
}

function parameter(value: JsonObject): Buffer {
  if (value.in === 'body') {
    return message(
      1,
      text(2, value.name),
      text(3, value.in),
      flag(4, value.required),
      message(5, schema(value.schema as JsonObject)),
    );
  }
  return message(
    2,
    message(
      3,
      text(2, value.in),
      text(3, value.description),
      text(4, value.name),
      text(6, value.type),
      flag(20, value.uniqueItems),
    ),
  );
}
