// Look-up keys: a condition such as "path starts with /a" is a dimension ("path, prefix") and a value ("/a"). A request has
// few keys in each dimension, so whatever is stored under keys is found without walking a list. Used for long lists in one
// condition (expression.ts) and for the index of policies (index.ts).
import type { Attribute } from './attributes.ts';
import type { Expr, TextMatch } from './expression.ts';
import type { Facts } from './facts.ts';
import { type IpSide, ipBytes } from './ip-side.ts';

/** How the keys of a request are made. */
export interface Dimension {
  /** Equal for dimensions with the same keys. */
  readonly id: string;
  readonly how:
    | {
        readonly kind: 'exact' | 'prefix' | 'suffix' | 'namespace';
        readonly attribute: Attribute;
        readonly fold: boolean;
        readonly oneLine: boolean;
      }
    | { readonly kind: 'ip'; readonly side: IpSide };
}

export interface Key {
  readonly dimension: Dimension;
  readonly value: string;
  /** The condition holds exactly when the request has this key; false = it may hold only then. */
  readonly complete: boolean;
}

/** The key of one condition; undefined = it cannot be looked up. */
export function keyOf(expr: Expr): Key | undefined {
  if (expr.kind === 'ip')
    return {
      dimension: { id: `ip ${expr.side}`, how: { kind: 'ip', side: expr.side } },
      value: cidrKey(expr.cidr.bytes, expr.cidr.bits),
      complete: true,
    };
  if (expr.kind !== 'text') return undefined;
  const { attribute, match } = expr;
  const key = (
    kind: 'exact' | 'prefix' | 'suffix' | 'namespace',
    value: string,
    fold: boolean,
    rest: Rest = {},
  ): Key => {
    const { oneLine = false, complete = true } = rest;
    const id = `${kind}${fold ? ' fold' : ''}${oneLine ? ' line' : ''} ${attribute.key}`;
    return { dimension: { id, how: { kind, attribute, fold, oneLine } }, value, complete };
  };
  return textKey(match, key);
}

interface Rest {
  readonly oneLine?: boolean;
  readonly complete?: boolean;
}

function textKey(
  match: TextMatch,
  key: (kind: 'exact' | 'prefix' | 'suffix' | 'namespace', value: string, fold: boolean, rest?: Rest) => Key,
): Key | undefined {
  switch (match.kind) {
    case 'exact':
      return key('exact', match.fold ? match.value.toLowerCase() : match.value, match.fold);
    case 'prefix':
    case 'suffix':
      if (match.value === '') return undefined;
      return key(match.kind, match.fold ? match.value.toLowerCase() : match.value, match.fold);
    case 'line-prefix':
      return match.value === '' ? undefined : key('prefix', match.value, false, { oneLine: true });
    case 'line-suffix':
      return match.value === '' ? undefined : key('suffix', match.value, false, { oneLine: true });
    case 'line-contains': {
      const name = NAMESPACE_ONLY.exec(match.value)?.[1];
      return name === undefined ? undefined : key('namespace', name, false, { oneLine: true });
    }
    case 'template':
      return match.prefix === '' ? undefined : key('prefix', match.prefix, false, { complete: false });
    case 'regex':
      return regexKey(match.source, key);
    case 'contains':
    case 'present':
      return undefined;
    default:
      return match satisfies never;
  }
}

const NAMESPACE_ONLY = /^\/ns\/([^/]+)\/$/;

/** A literal that every text matching `source` must contain: `/ns/NAME/`, or a beginning. */
function regexKey(
  source: string,
  key: (kind: 'prefix' | 'namespace', value: string, fold: boolean, rest: Rest) => Key,
): Key | undefined {
  const runs = literalRuns(source);
  if (!runs) return undefined;
  for (const run of runs) {
    const name = /\/ns\/([^/]+)\//.exec(run.text)?.[1];
    if (name !== undefined) return key('namespace', name, false, { complete: false });
  }
  const first = runs[0];
  return first?.start && first.text.length > 1 ? key('prefix', first.text, false, { complete: false }) : undefined;
}

/** Texts that stand at the top level of a regex and must occur; undefined = not understood. */
export function literalRuns(source: string): { readonly text: string; readonly start: boolean }[] | undefined {
  if (source.includes('(?') || /\\[A-Za-z0-9]/.test(source)) return undefined;
  const out: { text: string; start: boolean }[] = [];
  let text = '';
  let start = true;
  const flush = (): void => {
    if (text !== '') out.push({ text, start });
    text = '';
    start = false;
  };
  for (let i = 0; i < source.length; i++) {
    const char = source[i]!;
    switch (char) {
      case '|':
        return undefined;
      case '(':
      case '[': {
        const end = closing(source, i);
        if (end < 0) return undefined;
        flush();
        i = end;
        break;
      }
      case '*':
      case '?':
      case '{': {
        // The character before is optional: it is no part of what must occur.
        text = text.slice(0, -1);
        flush();
        if (char === '{') {
          const end = source.indexOf('}', i);
          if (end < 0) return undefined;
          i = end;
        }
        break;
      }
      case '+':
      case '.':
        flush();
        break;
      case '^':
      case '$':
        return undefined;
      case '\\':
        i += 1;
        text += source[i] ?? '';
        break;
      default:
        text += char;
    }
  }
  flush();
  return out;
}

/** Where the group or class that opens at `at` closes; -1 = not understood. */
function closing(source: string, at: number): number {
  let depth = 0;
  let inClass = false;
  for (let i = at; i < source.length; i++) {
    const char = source[i];
    if (char === '\\') i += 1;
    else if (inClass) {
      if (char === ']' && source[i - 1] !== '[' && source[i - 1] !== '^') {
        inClass = false;
        if (depth === 0) return i;
      }
    } else if (char === '[') inClass = true;
    else if (char === '(') depth += 1;
    else if (char === ')') {
      depth -= 1;
      if (depth === 0) return i;
    }
  }
  return -1;
}

function cidrKey(bytes: Uint8Array, bits: number): string {
  let out = `${bytes.length}/${bits}/`;
  const whole = bits >> 3;
  for (let i = 0; i < whole; i++) out += String.fromCharCode(bytes[i]!);
  const rest = bits & 7;
  if (rest > 0) out += String.fromCharCode(bytes[whole]! & (0xff << (8 - rest)) & 0xff);
  return out;
}

interface Slot<T> {
  readonly how: Dimension['how'];
  readonly byKey: Map<string, T>;
  /** Lengths of prefixes and suffixes, or (ip) `family * 1000 + bits`, ascending. */
  sizes: number[];
}

/** Things by key. `visit` reports those whose key the request has; one may be reported twice. */
export class KeyTable<T> {
  readonly #slots = new Map<string, Slot<T>>();

  add(dimension: Dimension, value: string, thing: T): void {
    let slot = this.#slots.get(dimension.id);
    if (!slot) {
      slot = { how: dimension.how, byKey: new Map(), sizes: [] };
      this.#slots.set(dimension.id, slot);
    }
    slot.byKey.set(value, thing);
    const size = slot.how.kind === 'ip' ? ipSize(value) : value.length;
    if (!slot.sizes.includes(size)) slot.sizes = [...slot.sizes, size].sort((a, b) => a - b);
  }

  get(dimension: Dimension, value: string): T | undefined {
    return this.#slots.get(dimension.id)?.byKey.get(value);
  }

  has(facts: Facts): boolean {
    for (const slot of this.#slots.values()) if (look(slot, facts, stopAtFirst)) return true;
    return false;
  }

  /** `found` returns false to go on. */
  visit(facts: Facts, found: (thing: T) => boolean): void {
    for (const slot of this.#slots.values()) if (look(slot, facts, found)) return;
  }
}

const stopAtFirst = (): boolean => true;

function ipSize(value: string): number {
  const [family, bits] = value.split('/', 2);
  return Number(family) * 1000 + Number(bits);
}

/** Calls `found` for each thing until it says true. */
function look<T>(slot: Slot<T>, facts: Facts, found: (thing: T) => boolean): boolean {
  const { how } = slot;
  if (how.kind === 'ip') {
    const bytes = ipBytes(facts[how.side]);
    if (!bytes) return false;
    for (const size of slot.sizes) {
      if (Math.floor(size / 1000) !== bytes.length) continue;
      const thing = slot.byKey.get(cidrKey(bytes, size % 1000));
      if (thing !== undefined && found(thing)) return true;
    }
    return false;
  }
  const value = how.attribute.read(facts);
  if (value === undefined) return false;
  if (typeof value === 'string') return lookText(slot, how, value, found);
  for (const one of value) if (lookText(slot, how, one, found)) return true;
  return false;
}

function lookText<T>(
  slot: Slot<T>,
  how: Exclude<Dimension['how'], { kind: 'ip' }>,
  raw: string,
  found: (thing: T) => boolean,
): boolean {
  if (how.oneLine && raw.includes('\n')) return false;
  const text = how.fold ? raw.toLowerCase() : raw;
  if (how.kind === 'namespace') return lookNamespaces(slot, text, found);
  if (how.kind === 'exact') {
    const thing = slot.byKey.get(text);
    return thing !== undefined && found(thing);
  }
  for (const size of slot.sizes) {
    if (size > text.length) break;
    const thing = slot.byKey.get(how.kind === 'prefix' ? text.slice(0, size) : text.slice(text.length - size));
    if (thing !== undefined && found(thing)) return true;
  }
  return false;
}

/** Each NAME that stands as `/ns/NAME/`. */
function lookNamespaces<T>(slot: Slot<T>, text: string, found: (thing: T) => boolean): boolean {
  for (let at = text.indexOf('/ns/'); at >= 0; at = text.indexOf('/ns/', at + 1)) {
    const end = text.indexOf('/', at + 4);
    if (end < 0) return false;
    const thing = slot.byKey.get(text.slice(at + 4, end));
    if (thing !== undefined && found(thing)) return true;
  }
  return false;
}
