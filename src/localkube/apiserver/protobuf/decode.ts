// Reads a request body in Kubernetes' protobuf form, which Go clients and kubectl's typed commands send. Called by http/body.ts.
//
// Notation of the field tables: `name:number`, then `*` = a zero value counts, `+` = repeated, `%` = map from string, then the type:
// s string, b bool, i integer, d double, y bytes, T Time, M MicroTime, Q Quantity, I IntOrString, R RawExtension, F FieldsV1,
// @t = a message that holds a list of t, <M> = message M. The name `.` puts the message's fields into its parent.
import type { Dict } from '../json.ts';
import { badRequest } from '../status.ts';
import { CORE_FIELDS } from './core-fields.ts';
import { GROUP_FIELDS, ROOT_MESSAGES } from './group-fields.ts';

const MAGIC = Buffer.from([0x6b, 0x38, 0x73, 0x00]);
const MAX_DEPTH = 64;

interface Field {
  readonly name: string;
  readonly keepZero: boolean;
  readonly repeated: boolean;
  readonly map: boolean;
  readonly type: string;
}

type Wire =
  | { readonly kind: 'number'; readonly value: bigint }
  | { readonly kind: 'bytes'; readonly value: Buffer }
  | { readonly kind: 'fixed'; readonly value: Buffer };

/** Throws 400 on anything that is not a known message. */
export function decodeProtobuf(body: Buffer): Dict {
  if (!body.subarray(0, MAGIC.length).equals(MAGIC))
    throw badRequest('the body is not in the protobuf form of Kubernetes');
  let apiVersion = '';
  let kind = '';
  let raw = Buffer.alloc(0);
  for (const [number, wire] of wireFields(body.subarray(MAGIC.length))) {
    if (wire.kind !== 'bytes') continue;
    if (number === 1) {
      for (const [part, value] of wireFields(wire.value)) {
        if (value.kind !== 'bytes') continue;
        if (part === 1) apiVersion = value.value.toString('utf8');
        if (part === 2) kind = value.value.toString('utf8');
      }
    } else if (number === 2) raw = Buffer.from(wire.value);
  }
  // Options travel under the version of the API they are sent to.
  const message = kind === 'DeleteOptions' ? 'DeleteOptions' : ROOT_MESSAGES[`${apiVersion}/${kind}`];
  if (!message) throw badRequest(`no protobuf form is known here for ${apiVersion} ${kind}: send application/json`);
  return { apiVersion, kind, ...decodeMessage(message, raw, 0) };
}

const tables = new Map<string, ReadonlyMap<number, Field>>();

function fieldsOf(message: string): ReadonlyMap<number, Field> {
  const known = tables.get(message);
  if (known) return known;
  const out = new Map<number, Field>();
  for (const token of (CORE_FIELDS[message] ?? GROUP_FIELDS[message] ?? '').split(' ')) {
    const match = /^([^:]+):(\d+)(\*?)(\+?)(%?)(.+)$/.exec(token);
    if (!match) continue;
    const [, name = '', number = '', keep, repeated, map, type = ''] = match;
    out.set(Number(number), { name, keepZero: keep === '*', repeated: repeated === '+', map: map === '%', type });
  }
  tables.set(message, out);
  return out;
}

function decodeMessage(message: string, bytes: Buffer, depth: number): Dict {
  if (depth > MAX_DEPTH) throw badRequest('the protobuf body is nested too deeply');
  const fields = fieldsOf(message);
  const out: Dict = {};
  for (const [number, wire] of wireFields(bytes)) {
    const field = fields.get(number);
    if (!field) continue;
    if (field.map) addEntry(out, field, wire, depth);
    else if (field.name === '.') Object.assign(out, fieldValue(field.type, wire, depth, false));
    else {
      const value = fieldValue(field.type, wire, depth, field.keepZero || field.repeated);
      if (value === undefined) continue;
      if (!field.repeated) out[field.name] = value;
      else {
        const list = out[field.name];
        if (Array.isArray(list)) list.push(value);
        else out[field.name] = [value];
      }
    }
  }
  return out;
}

function addEntry(out: Dict, field: Field, wire: Wire, depth: number): void {
  if (wire.kind !== 'bytes') throw malformed();
  let key = '';
  let value: unknown = '';
  for (const [number, part] of wireFields(wire.value)) {
    if (number === 1 && part.kind === 'bytes') key = part.value.toString('utf8');
    if (number === 2) value = fieldValue(field.type, part, depth + 1, true);
  }
  const existing = out[field.name];
  const map = (typeof existing === 'object' && existing !== null ? existing : {}) as Dict;
  map[key] = value;
  out[field.name] = map;
}

/** Undefined: a zero value that JSON would leave out. */
function fieldValue(type: string, wire: Wire, depth: number, keepZero: boolean): unknown {
  if (type === 'i' || type === 'b') {
    if (wire.kind !== 'number') throw malformed();
    if (wire.value === 0n && !keepZero) return undefined;
    return type === 'b' ? wire.value !== 0n : Number(BigInt.asIntN(64, wire.value));
  }
  if (type === 'd') {
    if (wire.kind !== 'fixed' || wire.value.length !== 8) throw malformed();
    return wire.value.readDoubleLE();
  }
  if (wire.kind !== 'bytes') throw malformed();
  const bytes = wire.value;
  if (type === 's') return bytes.length === 0 && !keepZero ? undefined : bytes.toString('utf8');
  if (type === 'y') return bytes.length === 0 && !keepZero ? undefined : bytes.toString('base64');
  if (type.startsWith('<')) return decodeMessage(type.slice(1, -1), bytes, depth + 1);
  if (type.startsWith('@'))
    return wireFields(bytes)
      .filter(([number]) => number === 1)
      .map(([, item]) => fieldValue(type.slice(1), item, depth + 1, true));
  return specialValue(type, bytes, keepZero);
}

function specialValue(type: string, bytes: Buffer, keepZero: boolean): unknown {
  const parts = new Map(wireFields(bytes));
  const number = (field: number): number => {
    const part = parts.get(field);
    return part?.kind === 'number' ? Number(BigInt.asIntN(64, part.value)) : 0;
  };
  const text = (field: number): string => {
    const part = parts.get(field);
    return part?.kind === 'bytes' ? part.value.toString('utf8') : '';
  };
  switch (type) {
    case 'T':
    case 'M': {
      // Go writes its zero time as an empty message.
      if (bytes.length === 0) return undefined;
      const iso = new Date(number(1) * 1000).toISOString();
      return type === 'T'
        ? `${iso.slice(0, 19)}Z`
        : `${iso.slice(0, 19)}.${String(Math.floor(number(2) / 1000)).padStart(6, '0')}Z`;
    }
    case 'Q':
      return text(1) || '0';
    case 'I':
      if (number(1) === 1) return text(3);
      return number(2) === 0 && !keepZero ? undefined : number(2);
    default:
      return embeddedJson(text(1));
  }
}

function embeddedJson(text: string): unknown {
  if (text === '') return undefined;
  try {
    return JSON.parse(text);
  } catch {
    throw malformed();
  }
}

const malformed = () => badRequest('the protobuf body is malformed');

function wireFields(bytes: Buffer): [number, Wire][] {
  const out: [number, Wire][] = [];
  let at = 0;
  const varint = (): bigint => {
    let value = 0n;
    for (let shift = 0n; shift < 70n; shift += 7n) {
      const byte = bytes[at++];
      if (byte === undefined) throw malformed();
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
    throw malformed();
  };
  const take = (length: number): Buffer => {
    if (length < 0 || at + length > bytes.length) throw malformed();
    at += length;
    return bytes.subarray(at - length, at);
  };
  while (at < bytes.length) {
    const tag = Number(varint());
    const number = tag >>> 3;
    const wireType = tag & 7;
    if (wireType === 0) out.push([number, { kind: 'number', value: varint() }]);
    else if (wireType === 2) out.push([number, { kind: 'bytes', value: take(Number(varint())) }]);
    else if (wireType === 1) out.push([number, { kind: 'fixed', value: take(8) }]);
    else if (wireType === 5) out.push([number, { kind: 'fixed', value: take(4) }]);
    else throw malformed();
  }
  return out;
}
