// Values of a runtime layer: a JSON structure or a directory tree flattened to dotted keys. Used by runtime.ts.
import type { JsonObject, JsonValue } from '@bufbuild/protobuf';
import { ConfigError, join } from '../config/fields.ts';

/** One value in every form a feature may ask for; undefined = it has none in that form. */
export interface RuntimeValue {
  readonly text: string;
  readonly flag: boolean | undefined;
  readonly number: number | undefined;
  /** Share of the whole, 0..1. */
  readonly share: number | undefined;
}

export type LayerValues = ReadonlyMap<string, RuntimeValue>;

const DENOMINATORS: Readonly<Record<string, number>> = { HUNDRED: 100, TEN_THOUSAND: 10_000, MILLION: 1_000_000 };

/** A structure becomes `a.b` keys; one that looks like a FractionalPercent is a value itself. */
export function structValues(struct: JsonObject, path: string): LayerValues {
  const out = new Map<string, RuntimeValue>();
  const visit = (prefix: string, value: JsonValue): void => {
    if (typeof value === 'number' || typeof value === 'boolean' || typeof value === 'string') {
      out.set(prefix, scalar(value));
      return;
    }
    if (value === null || Array.isArray(value))
      throw new ConfigError(path, `Invalid runtime entry value for ${prefix}`);
    const share = fractional(value);
    if (share !== undefined) {
      out.set(prefix, { text: JSON.stringify(value), flag: undefined, number: undefined, share });
      return;
    }
    for (const [key, inner] of Object.entries(value)) visit(join(prefix, key), inner);
  };
  for (const [key, value] of Object.entries(struct)) visit(key, value);
  return out;
}

/** Text of a file or of /runtime_modify: comment lines go, then it is a number, a flag, a fraction or plain text. */
export function textValue(text: string): RuntimeValue {
  const bare = text.trim();
  const number = decimal(bare);
  const flag = /^true$/i.test(bare) ? true : /^false$/i.test(bare) ? false : undefined;
  const share = number === undefined && flag === undefined ? fractional(yamlPairs(bare)) : percentShare(number);
  return { text, flag, number, share };
}

function scalar(value: string | number | boolean): RuntimeValue {
  if (typeof value === 'string') return { ...textValue(value), text: value };
  if (typeof value === 'boolean') return { text: String(value), flag: value, number: undefined, share: undefined };
  return { text: String(value), flag: undefined, number: value, share: percentShare(value) };
}

function decimal(text: string): number | undefined {
  return /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text) ? Number(text) : undefined;
}

/** A whole number where a fraction is wanted counts in hundredths. */
function percentShare(number: number | undefined): number | undefined {
  if (number === undefined || number < 0 || !Number.isInteger(number)) return undefined;
  return Math.min(1, number / 100);
}

function fractional(value: JsonObject): number | undefined {
  const keys = Object.keys(value);
  if (keys.length === 0 || !keys.every((key) => key === 'numerator' || key === 'denominator')) return undefined;
  const numerator = value.numerator ?? 0;
  const whole = DENOMINATORS[typeof value.denominator === 'string' ? value.denominator : 'HUNDRED'];
  if (typeof numerator !== 'number' || whole === undefined) return undefined;
  return Math.min(1, Math.max(0, numerator) / whole);
}

/** `numerator: 3` and `denominator: MILLION` on lines of their own, or as JSON. */
function yamlPairs(text: string): JsonObject {
  const out: Record<string, JsonValue> = {};
  for (const line of text.replaceAll(/[{},"]/g, (c) => (c === ',' ? '\n' : ' ')).split('\n')) {
    if (line.trim() === '') continue;
    const pair = /^\s*(\w+)\s*:\s*(\w+)\s*$/.exec(line);
    if (!pair) return {};
    out[pair[1]!] = decimal(pair[2]!) ?? pair[2]!;
  }
  return out;
}
