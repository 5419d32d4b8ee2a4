// The constraints of Envoy's API (protoc-gen-validate), checked on messages as Envoy checks them, with its text for the first
// that is violated. Rules are made at install (generated/proto/constraints.js); types without any cost nothing.
import type { DescField, DescMessage, DescOneof, MessageShape } from '@bufbuild/protobuf';
import type { Duration } from '@bufbuild/protobuf/wkt';
import { constraints } from '#proto/constraints.js';
import { ConfigError } from './fields.ts';

type Numeric = { readonly [bound in 'gt' | 'gte' | 'lt' | 'lte']?: number | string };
interface Rules {
  readonly message?: { readonly required?: boolean; readonly skip?: boolean };
  readonly string?: {
    readonly min_len?: string;
    readonly max_len?: string;
    readonly min_bytes?: string;
    readonly max_bytes?: string;
    readonly pattern?: string;
    readonly prefix?: string;
    readonly in?: readonly string[];
    readonly well_known_regex?: string;
    readonly strict?: boolean;
    readonly ignore_empty?: boolean;
  };
  readonly bytes?: { readonly min_len?: string; readonly max_len?: string };
  readonly enum?: { readonly defined_only?: boolean; readonly not_in?: readonly number[] };
  readonly repeated?: {
    readonly min_items?: string;
    readonly max_items?: string;
    readonly unique?: boolean;
    readonly items?: Rules;
  };
  readonly map?: { readonly min_pairs?: string; readonly keys?: Rules; readonly values?: Rules };
  readonly duration?: { readonly required?: boolean } & { readonly [bound in 'gt' | 'gte' | 'lt' | 'lte']?: string };
  readonly any?: { readonly required?: boolean };
  readonly bool?: { readonly const?: boolean };
  readonly [scalar: string]: unknown;
}
interface TypeRules {
  readonly o?: readonly string[];
  readonly f: Readonly<Record<string, Rules>>;
}

/** What is wrong: the field in the words of the generated validators, and what lies inside it. */
interface Violation {
  /** Undefined for a oneof without a choice, which has words of its own. */
  readonly type: string | undefined;
  readonly field: string;
  readonly reason: string;
  readonly cause: Violation | undefined;
}

/** Throws ConfigError with Envoy's text. */
export function checkConstraints<D extends DescMessage>(schema: D, message: MessageShape<D>, path: string): void {
  const found = check(schema, message as Shape);
  if (found) throw new ConfigError(path, `Proto constraint validation failed (${textOf(found)})`, placeOf(found, path));
}

function textOf({ type, field, reason, cause }: Violation): string {
  if (type === undefined) return `field: "${field}", reason: ${reason}`;
  const own = `${type}ValidationError.${field}: ${reason}`;
  return cause ? `${own} | caused by ${textOf(cause)}` : own;
}

/** The path of the field at fault, in the spelling of the validators. */
function placeOf({ type, field, cause }: Violation, path: string): string {
  if (type === undefined) return path;
  const own = path === '' ? field : `${path}.${field}`;
  return cause ? placeOf(cause, own) : own;
}

type Shape = Readonly<Record<string, unknown>>;
interface FieldCheck {
  readonly field: DescField;
  readonly rules: Rules | undefined;
  /** Its message, where something in it can be wrong. */
  readonly inner: DescMessage | undefined;
}
interface TypeChecks {
  readonly oneofs: readonly DescOneof[];
  readonly fields: readonly FieldCheck[];
}

let table: Readonly<Record<string, TypeRules>> | undefined;
const compiled = new Map<string, TypeChecks>();
const worth = new Map<string, boolean>();

function rulesOf(typeName: string): TypeRules | undefined {
  table ??= JSON.parse(constraints) as Readonly<Record<string, TypeRules>>;
  return Object.hasOwn(table, typeName) ? table[typeName] : undefined;
}

/** True when a message of this type, or one inside it, has a rule. */
function isWorth(schema: DescMessage): boolean {
  const known = worth.get(schema.typeName);
  if (known !== undefined) return known;
  // Types contain themselves: in that circle the others decide.
  worth.set(schema.typeName, false);
  const answer =
    rulesOf(schema.typeName) !== undefined ||
    schema.fields.some((field) => {
      const inner = messageOf(field);
      return inner !== undefined && isWorth(inner);
    });
  worth.set(schema.typeName, answer);
  return answer;
}

function messageOf(field: DescField): DescMessage | undefined {
  return field.message && !field.message.typeName.startsWith('google.protobuf.') ? field.message : undefined;
}

function checksOf(schema: DescMessage): TypeChecks {
  const known = compiled.get(schema.typeName);
  if (known) return known;
  const rules = rulesOf(schema.typeName);
  const made: TypeChecks = {
    oneofs: schema.oneofs.filter((oneof) => rules?.o?.includes(oneof.name)),
    fields: schema.fields.flatMap((field) => {
      const own = rules && Object.hasOwn(rules.f, field.name) ? rules.f[field.name] : undefined;
      const message = messageOf(field);
      const inner = message && !own?.message?.skip && isWorth(message) ? message : undefined;
      return own || inner ? [{ field, rules: own, inner }] : [];
    }),
  };
  compiled.set(schema.typeName, made);
  return made;
}

function check(schema: DescMessage, message: Shape): Violation | undefined {
  if (!isWorth(schema)) return undefined;
  const { oneofs, fields } = checksOf(schema);
  const type = schema.name;
  for (const { field, rules, inner } of fields) {
    const value = fieldValue(field, message);
    const name = camel(field.name);
    const found = checkField(field, value, rules, inner);
    if (found) return { type, field: name + found.at, reason: found.reason, cause: found.cause };
  }
  for (const oneof of oneofs)
    if ((message[oneof.localName] as { readonly case?: string } | undefined)?.case === undefined)
      return { type: undefined, field: oneof.name, reason: 'is required', cause: undefined };
  return undefined;
}

function fieldValue(field: DescField, message: Shape): unknown {
  if (!field.oneof) return message[field.localName];
  const chosen = message[field.oneof.localName] as { readonly case?: string; readonly value?: unknown } | undefined;
  return chosen?.case === field.localName ? chosen.value : undefined;
}

interface Found {
  /** `[0]` of a list. */
  readonly at: string;
  readonly reason: string;
  readonly cause: Violation | undefined;
}
const EMBEDDED = 'embedded message failed validation';
const plainly = (reason: string | undefined): Found | undefined =>
  reason === undefined ? undefined : { at: '', reason, cause: undefined };

function checkField(
  field: DescField,
  value: unknown,
  rules: Rules | undefined,
  inner: DescMessage | undefined,
): Found | undefined {
  const inside = (item: unknown, at: string): Found | undefined => {
    const cause = inner && item !== undefined ? check(inner, item as Shape) : undefined;
    return cause && { at, reason: EMBEDDED, cause };
  };
  switch (field.fieldKind) {
    case 'list':
      return checkList(value as readonly unknown[], field, rules, inside);
    case 'map':
      return checkMap(value as Readonly<Record<string, unknown>>, rules, inside);
    case 'message': {
      if (value === undefined) {
        // A member of a oneof that was not chosen.
        if (field.oneof) return undefined;
        const required = rules?.message?.required || rules?.duration?.required || rules?.any?.required;
        return required ? plainly('value is required') : undefined;
      }
      return (rules && plainly(scalarReason(value, rules, field))) ?? inside(value, '');
    }
    default:
      // A member of a oneof that was not chosen has no value to be wrong.
      return value === undefined || !rules ? undefined : plainly(scalarReason(value, rules, field));
  }
}

function checkList(
  list: readonly unknown[],
  field: DescField,
  rules: Rules | undefined,
  inside: (item: unknown, at: string) => Found | undefined,
): Found | undefined {
  const { min_items: min, max_items: max, unique, items } = rules?.repeated ?? {};
  if (min !== undefined && list.length < Number(min)) return plainly(`value must contain at least ${min} item(s)`);
  if (max !== undefined && list.length > Number(max)) return plainly(`value must contain no more than ${max} item(s)`);
  if (unique && new Set(list).size !== list.length) return plainly('repeated value must contain unique items');
  for (const [i, item] of list.entries()) {
    const reason = items && scalarReason(item, items, field);
    if (reason !== undefined) return { at: `[${i}]`, reason, cause: undefined };
    const found = inside(item, `[${i}]`);
    if (found) return found;
  }
  return undefined;
}

function checkMap(
  map: Readonly<Record<string, unknown>>,
  rules: Rules | undefined,
  inside: (item: unknown, at: string) => Found | undefined,
): Found | undefined {
  const entries = Object.entries(map);
  const { min_pairs: min, keys } = rules?.map ?? {};
  if (min !== undefined && entries.length < Number(min)) return plainly(`value must contain at least ${min} pair(s)`);
  for (const [key, item] of entries) {
    const reason = keys?.string && stringReason(key, keys.string);
    if (reason) return { at: `[${key}]`, reason, cause: undefined };
    const found = inside(item, `[${key}]`);
    if (found) return found;
  }
  return undefined;
}

function scalarReason(value: unknown, rules: Rules, field: DescField): string | undefined {
  for (const [kind, rule] of Object.entries(rules)) {
    if (kind === 'message' || kind === 'repeated' || kind === 'map' || kind === 'any') continue;
    const reason = oneRule(kind, rule, value, rules, field);
    if (reason !== undefined) return reason;
  }
  return undefined;
}

function oneRule(kind: string, rule: unknown, value: unknown, rules: Rules, field: DescField): string | undefined {
  switch (kind) {
    case 'string':
      return typeof value === 'string' ? stringReason(value, rules.string!) : undefined;
    case 'bytes': {
      const { min_len: min, max_len: max } = rules.bytes!;
      const { length } = value as Uint8Array;
      if (min !== undefined && length < Number(min)) return `value length must be at least ${min} bytes`;
      if (max !== undefined && length > Number(max)) return `value length must be at most ${max} bytes`;
      return undefined;
    }
    case 'enum': {
      const { defined_only: defined, not_in: not } = rules.enum!;
      if (defined && !field.enum?.values.some((each) => each.number === value))
        return 'value must be one of the defined enum values';
      if (not?.includes(value as number)) return `value must not be in list [${not.join(', ')}]`;
      return undefined;
    }
    case 'bool': {
      const wanted = rules.bool?.const;
      return wanted !== undefined && value !== wanted ? `value must equal ${wanted}` : undefined;
    }
    case 'duration': {
      const { seconds, nanos } = value as Duration;
      const bounds = Object.entries(rules.duration!).filter(([name]) => name !== 'required');
      return numericReason(
        Number(seconds) + nanos / 1e9,
        Object.fromEntries(bounds.map(([name, text]) => [name, Number.parseFloat(String(text))])),
        's',
      );
    }
    default:
      return typeof rule === 'object' && rule !== null ? numericReason(Number(value), rule as Numeric, '') : undefined;
  }
}

function numericReason(value: number, rule: Numeric, unit: string): string | undefined {
  const low = rule.gt ?? rule.gte;
  const high = rule.lt ?? rule.lte;
  const tooLow = low !== undefined && (rule.gt !== undefined ? value <= Number(low) : value < Number(low));
  const tooHigh = high !== undefined && (rule.lt !== undefined ? value >= Number(high) : value > Number(high));
  if (!tooLow && !tooHigh) return undefined;
  if (low !== undefined && high !== undefined)
    return `value must be inside range ${rule.gt !== undefined ? '(' : '['}${low}${unit}, ${high}${unit}${rule.lt !== undefined ? ')' : ']'}`;
  if (low !== undefined)
    return `value must be greater than ${rule.gt !== undefined ? '' : 'or equal to '}${low}${unit}`;
  return `value must be less than ${rule.lt !== undefined ? '' : 'or equal to '}${high}${unit}`;
}

/** Strict forms follow the HTTP grammar; others only keep lines and NUL apart. */
const WELL_KNOWN: Readonly<Record<string, readonly [strict: RegExp, relaxed: RegExp]>> = {
  HTTP_HEADER_NAME: [/^:?[0-9a-zA-Z!#$%&'*+\-.^_|~`]+$/, /^[^\0\n\r]*$/],
  HTTP_HEADER_VALUE: [/^[^\0-\x08\n-\x1f\x7f]*$/, /^[^\0\n\r]*$/],
};

function stringReason(value: string, rule: NonNullable<Rules['string']>): string | undefined {
  if (rule.ignore_empty && value === '') return undefined;
  const chars = rule.min_len !== undefined || rule.max_len !== undefined ? [...value].length : 0;
  if (rule.min_len !== undefined && chars < Number(rule.min_len))
    return `value length must be at least ${rule.min_len} characters`;
  if (rule.max_len !== undefined && chars > Number(rule.max_len))
    return `value length must be at most ${rule.max_len} characters`;
  if (rule.min_bytes !== undefined && Buffer.byteLength(value) < Number(rule.min_bytes))
    return `value length must be at least ${rule.min_bytes} bytes`;
  if (rule.max_bytes !== undefined && Buffer.byteLength(value) > Number(rule.max_bytes))
    return `value length must be at most ${rule.max_bytes} bytes`;
  if (rule.prefix !== undefined && !value.startsWith(rule.prefix)) return `value does not have prefix "${rule.prefix}"`;
  if (rule.in && !rule.in.includes(value)) return `value must be in list [${rule.in.join(' ')}]`;
  if (rule.pattern !== undefined && !new RegExp(rule.pattern, 'u').test(value))
    return `value does not match regex pattern ${JSON.stringify(rule.pattern)}`;
  const known = rule.well_known_regex === undefined ? undefined : WELL_KNOWN[rule.well_known_regex];
  const regex = known?.[rule.strict === false ? 1 : 0];
  if (regex && !regex.test(value)) return `value does not match regex pattern ${JSON.stringify(regex.source)}`;
  return undefined;
}

const camel = (name: string): string =>
  name.replace(/(?:^|_)([a-z0-9])/g, (_all, letter: string) => letter.toUpperCase());
